package server

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a server shows that was durable since it started, and each thing that says it may
// not have been. What it does not report is no proof.
func TestADurableNodeShowsThatNothingChangedItSinceItStarted(t *testing.T) {
	conf := Config{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
	info := Info{
		"role": "master", "master_replid2": "0000000000000000000000000000000000000000",
		"aof_last_rewrite_time_sec": "-1", "aof_rewrite_in_progress": "0", "aof_rewrite_scheduled": "0",
		"cmdstat_config|get": "calls=3,usec=8", "cmdstat_config|set": "calls=0,usec=0,usec_per_call=0.00,rejected_calls=2,failed_calls=0",
	}
	require.NoError(t, ProveDurable(conf, info), "a CONFIG SET that was not allowed is none")
	for name, value := range map[string]string{
		"cmdstat_config|get":        "", // counted as CONFIG, before Redis 7
		"cmdstat_config|set":        "calls=1,usec=7",
		"cmdstat_config|resetstat":  "calls=1,usec=7",
		"aof_last_rewrite_time_sec": "0",
		"aof_rewrite_in_progress":   "1",
		"aof_rewrite_scheduled":     "1",
		"role":                      "slave",
		"master_replid2":            "ef46f0495d9d3ea7cb5f4ae31f1144e229fd0782",
	} {
		changed := maps.Clone(info)
		changed[name] = value
		require.Error(t, ProveDurable(conf, changed), "%s %s", name, value)
		if name != "cmdstat_config|set" && name != "cmdstat_config|resetstat" {
			delete(changed, name)
			require.Error(t, ProveDurable(conf, changed), "without %s", name)
		}
	}
	for name := range conf {
		changed := maps.Clone(conf)
		changed[name] = "everysec"
		require.Error(t, ProveDurable(changed, info), name)
	}
	require.Error(t, ProveDurable(conf, nil))
}
