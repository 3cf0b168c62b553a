package redlock_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// warnings are those of a health check of one server.
func warnings(t *testing.T, s *redistest.Server, o *redlock.Options) (string, error) {
	t.Helper()
	h, err := dial(t, []*redistest.Server{s}, o).Health(within(t, testTimeout))
	require.NoError(t, err)
	return strings.Join(h.Nodes[0].Warnings, "\n"), h.Nodes[0].Err
}

// Keys that are used once leave a counter each, for the retention.
func TestRealHealthNamesTheCountersThatFillANode(t *testing.T) {
	t.Parallel()
	o := throwaway()
	o.Retention = 90 * time.Hour
	for _, c := range []struct {
		fill  string // the names of what fills the memory
		names bool
	}{
		{"'lockkeeper:fence:{redlock:k' .. i .. '}redlock:k' .. i", true},
		{"'session:' .. i", false},
	} {
		s := redistest.Start(t, "--maxmemory", "4mb")
		text, err := warnings(t, s, o)
		require.NoError(t, err)
		require.NotContains(t, text, "fence counters", "while there is room")
		// A server looks at its memory when a script begins.
		fill := "for i = ARGV[1], ARGV[1] + 499 do local r = redis.pcall('HSET', " + c.fill + ", 'count', 1, 'run', ARGV[2]) if type(r) == 'table' then return 'full' end end return ''"
		for i := 0; s.Do("EVAL", fill, "0", strconv.Itoa(i), strings.Repeat("r", 40)) != "full"; i += 500 {
			require.Less(t, i, 1_000_000)
		}
		// What clients that have left took is free again: without this, it may be just enough.
		s.Do("CONFIG", "SET", "maxmemory", "3mb")
		text, err = warnings(t, s, o)
		require.ErrorContains(t, err, "its memory is full")
		require.Contains(t, text, "a full node refuses locks")
		if c.names {
			require.Contains(t, text, "fence counters (lockkeeper:fence:*): each stays for Options.Retention, 90h0m0s,")
		} else {
			require.NotContains(t, text, "fence counters")
		}
	}
}

// The page of the store says what a key costs: figures of Redis 7.0, with room for others.
func TestRealAKeyTakesTheMemoryThatThePageNames(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := dial(t, []*redistest.Server{s}, throwaway())
	usage := func(name string) int {
		n, err := strconv.Atoi(s.Do("MEMORY", "USAGE", name))
		require.NoError(t, err)
		return n
	}
	page, err := os.ReadFile("README.md")
	require.NoError(t, err)
	m := regexp.MustCompile(`A key costs\s+some (\d+) bytes a node while it is held, and its counter (\d+) or,\s+[^,]*, (\d+),`).FindStringSubmatch(string(page))
	require.Len(t, m, 4, "the page names three figures")
	near := func(what, figure string, got int) {
		n, err := strconv.Atoi(figure)
		require.NoError(t, err)
		require.InDelta(t, n, got, float64(n)/2, what)
	}

	acquire(t, l, "tried", longTTL)
	near("the lock", m[1], usage(lockKey("tried")))
	near("the counter", m[2], usage(fenceKey("tried")))

	_, err = lock.Acquire(within(t, testTimeout), l, "asked", longTTL, nil)
	require.NoError(t, err)
	near("the counter of a lease that lock.Acquire asked for", m[3], usage(fenceKey("asked")))
}
