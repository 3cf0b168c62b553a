package memory_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/conformtest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

func TestConformance(t *testing.T) {
	conformtest.Locks(t, "memory", locktest.Harness{
		Wrap: synctest.Test,
		New:  func(*testing.T) lock.Locker { return memory.New() },
		Peer: func(_ *testing.T, l lock.Locker) lock.Locker {
			return l.(*memory.Locker).Client("peer")
		},
		Delay: func(_ *testing.T, l lock.Locker, d time.Duration) { l.(*memory.Locker).Delay(d) },
		LoseReply: func(_ *testing.T, l lock.Locker) {
			l.(*memory.Locker).LoseReplies(1, nil)
		},
		Cut: func(_ *testing.T, l lock.Locker, n int) func() bool {
			if n == 1 { // an attempt is one request
				l.(*memory.Locker).LoseReplies(1, nil)
			}
			return func() bool { l.(*memory.Locker).LoseReplies(0, nil); return n == 1 }
		},
		Outage: func(_ *testing.T, l lock.Locker, on bool) {
			n := 0
			if on {
				n = -1
			}
			l.(*memory.Locker).FailNext(n, nil)
		},
		Break: func(t *testing.T, l lock.Locker, key string) {
			require.NoError(t, l.(*memory.Locker).ForceRelease(t.Context(), key, 0))
		},
		// What it holds stays, and what it waits for is over.
		Kill: func(t *testing.T, l lock.Locker) { require.NoError(t, l.(*memory.Locker).Close()) },
		// There is no wall clock in it to set.
		AllowSkips: []string{"Skew", "Repeat", "Conflict", "StaleReads", "Delete", "ExtendStarter"}, // a request is a call, and nothing is kept of a key
	})
}
