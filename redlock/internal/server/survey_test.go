package server

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What INFO and CONFIG GET of servers say, and what an operator reads of it.
func TestHealthFactsAreThoseOfTheServer(t *testing.T) {
	for _, tc := range []struct {
		name string
		s    Survey
		want string
	}{
		{"redis", Survey{
			Info: Info{"redis_version": "7.0.15", "role": "master", "connected_slaves": "0", "used_memory": "1258291", "maxmemory": "268435456", "maxmemory_policy": "noeviction", "uptime_in_seconds": "273600"},
			Conf: Config{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no", "save": ""},
		}, "Redis 7.0.15|primary|durable (aof, always)|1.2 MB of 256 MB|noeviction|3d4h"},
		{"valkey", Survey{
			Info: Info{"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.0", "role": "slave", "master_host": "h", "master_port": "1", "used_memory": "1048576", "maxmemory": "0", "maxmemory_policy": "allkeys-lru", "uptime_in_seconds": "59"},
			Conf: Config{"appendonly": "no", "appendfsync": "always", "no-appendfsync-on-rewrite": "no", "save": "3600 1"},
		}, "Valkey 8.1.0|replica of h:1|snapshots|1.0 MB, no limit|allkeys-lru|59s"},
		{"everysec", Survey{
			Info: Info{"redis_version": "6.2.0", "role": "master", "connected_slaves": "2", "cluster_enabled": "1", "uptime_in_seconds": "3725"},
			Conf: Config{"appendonly": "yes", "appendfsync": "everysec", "no-appendfsync-on-rewrite": "no", "save": ""},
		}, "Redis 6.2.0|primary, replicas: 2, cluster mode|aof, everysec|not reported|not reported|1h2m"},
		{"always but not during rewrites", Survey{
			Conf: Config{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "yes", "save": ""},
		}, "not reported|not reported|aof, always, not during rewrites|not reported|not reported|not reported"},
		{"none", Survey{Info: Info{"uptime_in_seconds": "125"}, Conf: Config{"appendonly": "no", "appendfsync": "everysec", "no-appendfsync-on-rewrite": "no", "save": ""}},
			"not reported|not reported|none|not reported|not reported|2m5s"},
		{"a cluster whose servers differ", Survey{members: 3, Info: Info{"redis_version": "7.0.15", "role": "master"}, Conf: Config{"appendonly": "yes"}},
			"Redis 7.0.15|cluster of 3 servers|aof, fsync differs|differs|differs|differs"},
	} {
		var got []string
		for _, f := range tc.s.Facts() {
			if f.Name != "clock" {
				got = append(got, f.Value)
			}
		}
		require.Equal(t, tc.want, strings.Join(got, "|"), tc.name)
	}
}
