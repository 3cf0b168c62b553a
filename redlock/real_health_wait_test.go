package redlock_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/redlock"
)

// Waiting works without any of these, only slower: nothing else would show what is missing.
func TestRealHealthSaysWhatWaitingLacksAndWhatToWrite(t *testing.T) {
	t.Parallel()
	const queue, channels = "it keeps no queue of those who wait", "it can't notify those who wait"
	s := redistest.Start(t)
	for missing, says := range map[string]string{
		"": "", "+zadd": queue, "+zrank": "", "+zrange": queue, "+zrem": queue, "+hdel": queue, "~" + redlock.StandingPrefix + "*": queue,
		"+publish": channels, "+subscribe": channels, "&" + redlock.WakePrefix + "*": channels,
		"+pubsub|numsub": "it can't tell whether those who wait are still there",
	} {
		t.Run(missing, func(t *testing.T) {
			rules := slices.DeleteFunc(slices.Clone(keeperRules), func(rule string) bool { return rule == missing })
			s.Do(append([]string{"ACL", "SETUSER", "keeper", "reset", "on", ">secret"}, rules...)...)
			l := dialURLs(t, []string{"redis://keeper:secret@" + s.Addr()}, throwaway())
			h, err := l.Health(within(t, testTimeout))
			require.NoError(t, err)
			require.NoError(t, h.Nodes[0].Err, "locks work all the same")
			var advice []string
			for _, w := range h.Nodes[0].Warnings {
				if strings.Contains(w, "those who wait") {
					advice = append(advice, w)
				}
			}
			if says == "" {
				require.Empty(t, advice)
				return
			}
			require.Len(t, advice, 1)
			require.Contains(t, advice[0], says)
			require.Contains(t, advice[0], missing, "what to write")

			rule := advice[0][strings.LastIndex(advice[0], "(ACL ")+len("(ACL ") : len(advice[0])-1]
			s.Do(append([]string{"ACL", "SETUSER", "keeper"}, strings.Fields(rule)...)...)
			h, err = l.Health(within(t, testTimeout))
			require.NoError(t, err)
			for _, w := range h.Nodes[0].Warnings {
				require.NotContains(t, w, "those who wait", "what it said to write is enough")
			}
		})
	}
}
