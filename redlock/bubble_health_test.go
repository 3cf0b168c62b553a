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

func TestHealthDoesNotCallNodesDownThatItDidNotAsk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l, _ := newQuorum(t, 3).client(nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := l.Health(ctx)
		require.ErrorIs(t, err, context.Canceled)
	})
}
