package redlock

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

func fact(n lock.NodeHealth, name string) string {
	for _, f := range n.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func TestHealthWarnsOfTheNodeWhoseClockIsFarFromTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		for _, tc := range []struct {
			skews  [3]time.Duration
			warned []int
		}{
			{[3]time.Duration{0, 0, 0}, nil},
			{[3]time.Duration{time.Hour, time.Hour, time.Hour}, nil}, // this machine's clock does not matter
			{[3]time.Duration{0, 9 * time.Second, -9 * time.Second}, nil},
			{[3]time.Duration{0, 12 * time.Minute, 0}, []int{1}},
			{[3]time.Duration{time.Hour, 0, time.Hour}, []int{1}},
			{[3]time.Duration{0, time.Minute, -time.Minute}, []int{1, 2}},
		} {
			for i, skew := range tc.skews {
				q.nodes[i].mu.Lock()
				q.nodes[i].skew = skew
				q.nodes[i].mu.Unlock()
			}
			h, err := l.Health(t.Context())
			require.NoError(t, err)
			var warned []int
			for i, n := range h.Nodes {
				if strings.Contains(strings.Join(n.Warnings, "\n"), "its clock is ") {
					warned = append(warned, i)
				}
			}
			require.Equal(t, tc.warned, warned, "%v", tc.skews)
		}

		q.nodes[1].skew = 90 * time.Second
		h, err := l.Health(t.Context())
		require.NoError(t, err)
		require.Equal(t, "+1m30s", fact(h.Nodes[1], "clock"))
		require.Contains(t, strings.Join(h.Nodes[1].Warnings, "\n"), "its clock is 1m30s ahead of that of fake1:6379")

		// What a slow answer can't tell is no reason to warn.
		for i := range q.nodes {
			q.nodes[i].skew = 0
		}
		q.nodes[2].skew = 10*time.Second + 15*time.Millisecond
		nets[2].set(func(w *network) { w.delay = 20 * time.Millisecond })
		h, err = l.Health(t.Context())
		require.NoError(t, err)
		require.NotContains(t, strings.Join(h.Nodes[2].Warnings, "\n"), "its clock is ")
		require.Equal(t, "+10.005s ±10ms", fact(h.Nodes[2], "clock"))
	})
}

func TestHealthTellsANodeThatRefusesFromOneThatIsDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		fresh, other := q.client(nil) // its connections time out for themselves
		q.nodes[0].redis.Server().SetPreHook(func(c *server.Peer, _ string, _ ...string) bool {
			c.WriteError("NOAUTH Authentication required.")
			return true
		})
		nets[1].set(hang)
		nets[2].set(refuse)
		h, err := l.Health(t.Context())
		require.NoError(t, err)
		require.Equal(t, "yes", fact(h.Nodes[0], "reachable"))
		require.EqualError(t, h.Nodes[0].Err, "asks for a password (NOAUTH)")
		require.NotNil(t, nodeerr.Refusal(h.Nodes[0].Err), "the server's own error is kept")
		require.Equal(t, "no", fact(h.Nodes[1], "reachable"))
		require.ErrorContains(t, h.Nodes[1].Err, "no answer within ")
		require.Equal(t, "no", fact(h.Nodes[2], "reachable"))
		require.Error(t, h.Nodes[2].Err)

		other[1].set(hang)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		h, err = fresh.Health(ctx)
		require.NoError(t, err)
		require.ErrorContains(t, h.Nodes[1].Err, "no answer within 10ms: it hangs, or the network does")
	})
}

func TestHealthTellsHowTheGuardStands(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 4)
		q.nodes[0].guarded(time.Hour)
		q.nodes[1].guarded(time.Second)
		q.nodes[2].guarded(time.Second)
		q.nodes[2].durable()
		for o, want := range map[*Options][]string{
			{}:                    {"passed", "votes in 1m0s", "durable", "can't work"},
			{RestartGuard: -1}:    {"off", "off", "off", "off"},
			{AssumeDurable: true}: {"assumed durable", "assumed durable", "assumed durable", "assumed durable"},
		} {
			l, _ := q.client(o)
			h, err := l.Health(t.Context())
			require.NoError(t, err)
			for i := range q.nodes {
				require.Equal(t, want[i], fact(h.Nodes[i], "guard"), "node %d, %+v", i, o)
			}
		}
	})
}

// What INFO and CONFIG GET of servers say, and what an operator reads of it.
func TestHealthFactsAreThoseOfTheServer(t *testing.T) {
	for _, tc := range []struct {
		name string
		s    survey
		want string
	}{
		{"redis", survey{
			info: map[string]string{"redis_version": "7.0.15", "role": "master", "connected_slaves": "0", "used_memory": "1258291", "maxmemory": "268435456", "maxmemory_policy": "noeviction", "uptime_in_seconds": "273600"},
			conf: config{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no", "save": ""},
		}, "Redis 7.0.15|primary|durable (aof, always)|1.2 MB of 256 MB|noeviction|3d4h"},
		{"valkey", survey{
			info: map[string]string{"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.0", "role": "slave", "master_host": "h", "master_port": "1", "used_memory": "1048576", "maxmemory": "0", "maxmemory_policy": "allkeys-lru", "uptime_in_seconds": "59"},
			conf: config{"appendonly": "no", "appendfsync": "always", "no-appendfsync-on-rewrite": "no", "save": "3600 1"},
		}, "Valkey 8.1.0|replica of h:1|snapshots|1.0 MB, no limit|allkeys-lru|59s"},
		{"everysec", survey{
			info: map[string]string{"redis_version": "6.2.0", "role": "master", "connected_slaves": "2", "cluster_enabled": "1", "uptime_in_seconds": "3725"},
			conf: config{"appendonly": "yes", "appendfsync": "everysec", "no-appendfsync-on-rewrite": "no", "save": ""},
		}, "Redis 6.2.0|primary, replicas: 2, cluster mode|aof, everysec|not told|not told|1h2m"},
		{"always but not during rewrites", survey{
			conf: config{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "yes", "save": ""},
		}, "not told|not told|aof, always, not during rewrites|not told|not told|not told"},
		{"none", survey{info: map[string]string{"uptime_in_seconds": "125"}, conf: config{"appendonly": "no", "appendfsync": "everysec", "no-appendfsync-on-rewrite": "no", "save": ""}},
			"not told|not told|none|not told|not told|2m5s"},
		{"a cluster whose servers differ", survey{members: 3, info: map[string]string{"redis_version": "7.0.15", "role": "master"}, conf: config{"appendonly": "yes"}},
			"Redis 7.0.15|cluster of 3 servers|aof, fsync differs|differs|differs|differs"},
	} {
		var got []string
		for _, f := range tc.s.facts() {
			if f.Name != "clock" {
				got = append(got, f.Value)
			}
		}
		require.Equal(t, tc.want, strings.Join(got, "|"), tc.name)
	}
}
