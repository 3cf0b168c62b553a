package redlock_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
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
