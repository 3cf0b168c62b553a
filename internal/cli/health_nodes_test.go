//go:build unix

package cli

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestHealthTellsWhatEachNodeIsAndWhatToChange(t *testing.T) {
	programtest.Lockkeeper(t) // before there is a node that waits for a minute only
	good := redistest.StartN(t, 3, durable...)
	cache := redistest.Start(t, "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
	locked := redistest.Start(t, "--requirepass", "hunter2")
	servers := append(good, cache, locked)
	env := []string{"REDIS_NODES=" + strings.Join(redistest.Addrs(servers), ",")}
	out, code := on(t, env, "health")
	require.Equal(t, exitDegraded, code, out)
	require.Regexp(t, `(?m)^NODE +STATE +LATENCY +VERSION +ROLE +PERSISTENCE +UPTIME$`, out)
	for line := range strings.Lines(out) {
		require.LessOrEqual(t, columns(strings.TrimSuffix(line, "\n")), tableWidth, line)
	}
	all, code := on(t, env, "health", "-o", "wide")
	require.Equal(t, exitDegraded, code, all)
	require.Regexp(t, `(?m)^NODE +STATE +LATENCY +VERSION +ROLE +PERSISTENCE +MEMORY +EVICTION +UPTIME +CLOCK +GUARD +FUNCTIONS$`, all)
	for _, s := range good {
		require.Regexp(t, `(?m)^`+s.Addr()+` +votes +\S+ +(Redis|Valkey) \S+ +primary +durable \(aof, always\) +\S+s$`, out)
		require.Regexp(t, `(?m)^`+s.Addr()+` +votes +\S+ +(Redis|Valkey) \S+ +primary +durable \(aof, always\) +\S+ MB, no limit +noeviction +\S+ +\S.* durable +(yes|no)\b.*$`, all)
	}
	require.Regexp(t, `(?m)^`+cache.Addr()+` +waits .* votes in `, all)
	require.Contains(t, out, "\n-o wide shows more: memory, eviction, clock, guard, functions\n")
	out = flat(out)
	require.Contains(t, out, " "+locked.Addr()+" refuses - ")
	require.Contains(t, out, locked.Addr()+" does not vote: asks for a password: set REDISCLI_AUTH")
	require.Contains(t, out, "! "+cache.Addr()+": maxmemory-policy is allkeys-lru, want noeviction")
	require.Contains(t, out, "3 of 5 nodes vote, 3 needed: degraded, locks work, and losing 1 more would stop them")

	good[0].Kill()
	out, code = on(t, env, "health")
	require.Equal(t, exitNoQuorum, code, out)
	require.Regexp(t, `(?m)^`+good[0].Addr()+` +down +- `, out)
	require.Regexp(t, `(?m)^`+good[1].Addr()+` +votes `, out, "the others are reported all the same")
	out, code = on(t, env, "health", "-o", "json")
	require.Equal(t, exitNoQuorum, code, out)
	var r inspect.HealthJSON
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Equal(t, []string{"down", "votes", "votes", "waits", "refuses"},
		[]string{r.Nodes[0].State, r.Nodes[1].State, r.Nodes[2].State, r.Nodes[3].State, r.Nodes[4].State})
	require.Equal(t, "primary", r.Nodes[1].Facts["role"])
	for _, number := range []string{"uptime_seconds", "memory_bytes", "clock_ahead_seconds", "clock_error_seconds"} {
		require.IsType(t, 0.0, r.Nodes[1].Facts[number], number)
	}
	require.IsType(t, 0.0, r.Nodes[3].Facts["guard_left_seconds"])
	require.EqualValues(t, 50<<20, r.Nodes[3].Facts["memory_limit_bytes"])
	require.Equal(t, "no", r.Nodes[0].Facts["reachable"])

	good[1].Kill()
	cache.Kill()
	out, code = on(t, env, "health")
	require.Equal(t, exitNoQuorum, code, out)
	require.Regexp(t, `(?m)^`+good[2].Addr()+` +votes `, out, "also when fewer than a quorum answer at all")

	url := "LOCKKEEPER_URL=redlock://" + strings.Join(redistest.Addrs(servers), ",") + "?quorum=5"
	out, code = on(t, []string{url}, "health", "--output", "lines")
	require.Equal(t, exitNoQuorum, code, out)
	require.Contains(t, out, "Healthy nodes: 1 / 5\nQuorum: NO (5 needed)\n", "a URL's own options count")
}

func TestHealthFitsOnANarrowTerminal(t *testing.T) {
	a := &app{out: io.Discard, getenv: os.Getenv}
	r := healthReport{HealthJSON: inspect.Health(lock.Health{Quorum: 1, Nodes: []lock.NodeHealth{
		{Name: "redis-1.example:6379", Latency: time.Millisecond, Facts: []lock.Fact{{Name: "reachable", Value: "yes"}, {Name: "version", Value: "Redis 7.0.15"}, {Name: "persistence", Value: "aof, always, not during rewrites"}}},
		{Name: "redis-2.example:6379", Err: io.ErrUnexpectedEOF, Facts: []lock.Fact{{Name: "reachable", Value: "no"}}},
	}})}
	var wide, narrow strings.Builder
	table, more := healthTable(r, false)
	require.Empty(t, more)
	require.NoError(t, table.print(a, &wide))
	widest := 0
	for line := range strings.Lines(wide.String()) {
		widest = max(widest, len(strings.TrimSuffix(line, "\n")))
	}
	require.Equal(t, widest, table.natural(), wide.String())
	a.writeFacts(&narrow, r, nil)
	require.Equal(t, `redis-1.example:6379  votes  1ms
  version      Redis 7.0.15
  persistence  aof, always, not during rewrites

redis-2.example:6379  down  -
`, narrow.String())
}
