package redlock_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func factOf(n lock.NodeHealth, name string) string {
	for _, f := range n.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func TestRealHealthTellsWhatEachNodeIs(t *testing.T) {
	t.Parallel()
	durable := redistest.Start(t, append([]string{"--maxmemory", "100mb"}, durableArgs...)...)
	cache := redistest.Start(t, "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru", "--save", "3600 1")
	replica := redistest.Start(t)
	unformed := redistest.Start(t, "--cluster-enabled", "yes")
	locked := redistest.Start(t, "--requirepass", "secret")
	full := redistest.Start(t, "--maxmemory", "1")
	servers := []*redistest.Server{durable, cache, replica, unformed, locked, full}
	replica.Do("REPLICAOF", "127.0.0.1", "1")
	o := throwaway()
	o.Lazy = true
	l := dial(t, servers, o)
	h, err := l.Health(within(t, testTimeout))
	require.NoError(t, err)
	for i, want := range []map[string]string{
		{"persistence": "durable (aof, always)", "role": "primary", "eviction": "noeviction", "guard": "off"},
		{"persistence": "snapshots", "eviction": "allkeys-lru"},
		{"persistence": "none", "role": "replica of 127.0.0.1:1"},
		{"role": "primary, cluster mode"},
		{},
		{"role": "primary"},
	} {
		want["reachable"] = "yes"
		for name, value := range want {
			require.Equal(t, value, factOf(h.Nodes[i], name), "%d", i)
		}
	}
	require.Regexp(t, `^(Redis|Valkey) \d+\.\d+`, factOf(h.Nodes[0], "version"))
	require.Regexp(t, `^\d+\.\d MB of 100 MB$`, factOf(h.Nodes[0], "memory"))
	require.Regexp(t, `^\d+(s|m\d+s)$`, factOf(h.Nodes[0], "uptime"))
	require.Regexp(t, `^[+-]\S+s( ±\S+s)?$`, factOf(h.Nodes[0], "clock"))
	for i, want := range []string{"", "", "it is a read-only replica", "cluster mode is on", "asks for a password", "its memory is full"} {
		if want == "" {
			require.NoError(t, h.Nodes[i].Err)
		} else {
			require.ErrorContains(t, h.Nodes[i].Err, want)
		}
	}
	require.Contains(t, strings.Join(h.Nodes[3].Warnings, "\n"), "switch cluster-enabled off")
}

// What the user may not ask for is said, and not guessed.
func TestRealHealthSaysWhatIsNotPermitted(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, durableArgs...)
	for rules, want := range map[string]map[string]string{
		"+info": {"persistence": "aof, fsync not permitted (CONFIG GET)", "role": "primary", "eviction": "noeviction"},
		"+config|get": {"persistence": "durable (aof, always)", "role": "not permitted (INFO)", "version": "not permitted (INFO)",
			"uptime": "not permitted (INFO)", "eviction": "noeviction", "guard": "can't work"},
		"+info|server": {"role": "not permitted (INFO)", "memory": "not permitted (INFO)", "persistence": "not permitted (CONFIG GET)", "guard": "off"},
	} {
		s.Do("ACL", "SETUSER", "keeper", "reset", "on", ">secret", "~*", "-@all", "+evalsha", "+eval", "+get", "+set", "+del", "+pttl", "+pexpire",
			"+hmget", "+hset", "+time", "+ping", rules)
		o := throwaway()
		if want["guard"] != "off" {
			o.RestartGuard = time.Second
		}
		l := dialURLs(t, []string{"redis://keeper:secret@" + s.Addr()}, o)
		h, err := l.Health(within(t, testTimeout))
		require.NoError(t, err)
		for name, value := range want {
			require.Equal(t, value, factOf(h.Nodes[0], name), rules)
		}
		require.NotEqual(t, rules == "+config|get", strings.HasPrefix(factOf(h.Nodes[0], "version"), "Re"), rules)
	}
}

func TestRealHealthOfAClusterTellsWhatAllItsServersShare(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, append([]string{"--cluster-enabled", "yes"}, durableArgs...)...)
	s.Do("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	eventually(t, "the cluster", func() bool { return strings.Contains(s.Do("CLUSTER", "INFO"), "cluster_state:ok") })
	l := dialURLs(t, []string{"redis://" + s.Addr() + "?cluster=true"}, throwaway())
	h, err := l.Health(within(t, testTimeout))
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
	require.Equal(t, "cluster of 1 servers", factOf(h.Nodes[0], "role"))
	require.Equal(t, "durable (aof, always)", factOf(h.Nodes[0], "persistence"))
	require.NotContains(t, strings.Join(h.Nodes[0].Warnings, "\n"), "cluster")
	_, err = l.View(within(t, testTimeout), "k")
	require.NoError(t, err)
}

func TestRealViewAndBreak(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	l, other := dial(t, servers, throwaway()), dial(t, servers, throwaway())
	lease := acquire(t, l, "k", longTTL)
	standsOn(t, servers, "k", 3)
	out := 2 // the node that goes: not one of the two that have the token
	eventually(t, "a quorum to show the token", func() bool {
		v, err := l.View(within(t, testTimeout), "k")
		require.NoError(t, err)
		for i, n := range v.Nodes {
			if n.Err == nil && n.Count != lease.Token() {
				out = i
			}
		}
		return v.Token == lease.Token()
	})
	got := waiting(t, servers, other, "k")
	servers[out].Kill()
	v, err := l.View(within(t, testTimeout), "k")
	require.NoError(t, err)
	require.Equal(t, redlock.StateHeld, v.State)
	require.Equal(t, lease.Token(), v.Token)
	require.Equal(t, 2, v.Votes())
	require.Len(t, v.Waiters, 1)
	require.Equal(t, v.Holder, v.Waiters[0], "both are this process")
	for i, n := range v.Nodes {
		require.Equal(t, i == out, n.Err != nil)
	}

	all, err := l.Break(within(t, testTimeout), v)
	require.NoError(t, err)
	for i, n := range all {
		require.Equal(t, map[bool]redlock.Did{true: "", false: redlock.Freed}[i == out], n.Did)
	}
	next := got() // the waiter is notified
	require.Greater(t, next.Token(), lease.Token())
	require.ErrorIs(t, extend(t, lease, longTTL), lock.ErrLost)

	servers[out].Restart(true)
	servers[out].Do("SET", lockKey("theirs"), "someone else's value")
	servers[(out+1)%3].Do("RPUSH", lockKey("list"), "x")
	eventually(t, "the third node", func() bool {
		v, err = l.View(within(t, testTimeout), "theirs")
		require.NoError(t, err)
		return v.Nodes[out].Err == nil
	})
	require.Equal(t, redlock.StateForeign, v.State)
	require.Empty(t, v.Holder)
	require.Equal(t, time.Duration(-1), v.Nodes[out].TTL)
	require.NotContains(t, fmt.Sprintf("%+v", v), "someone else")
	_, err = l.Break(within(t, testTimeout), v)
	require.NoError(t, err)
	require.Empty(t, servers[out].Do("GET", lockKey("theirs")))
	v, err = l.View(within(t, testTimeout), "list")
	require.NoError(t, err)
	require.ErrorContains(t, v.Nodes[(out+1)%3].Err, "WRONGTYPE")
}
