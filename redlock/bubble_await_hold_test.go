package redlock

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

func noRefusal(*lock.HeldError) {}

// A process can be stopped between any two readings of a clock.
func TestAnAwaitedLeaseCountsFromItsRequestsWhereverTheProcessPauses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		start := time.Now()
		s, err := l.newStanding(t.Context(), "k", time.Second)
		require.NoError(t, err)
		s.begin()
		<-s.changed
		_, issued, err := s.outcome()
		require.NoError(t, err)
		synctest.Wait() // nobody else looks at the clock
		var pause sync.Once
		s.suspended = func() time.Duration { // is read right after the clock
			pause.Do(func() { time.Sleep(700 * time.Millisecond) })
			return 0
		}
		lease, err := s.take(*issued)
		require.NoError(t, err)
		require.Equal(t, start.Add(700*time.Millisecond), time.Now(), "it paused")
		require.False(t, lease.Expiry().After(start.Add(time.Second)), "the nodes keep it for a second: two could hold")
		require.NoError(t, lease.Release(t.Context()))
	})
}

// A user asks for a ttl and relies on it, also without a keeper.
func TestAnAwaitedLeaseComesToItsTTLHoweverShortThatIs(t *testing.T) {
	for _, ttl := range []time.Duration{300 * time.Millisecond, time.Second, 1100 * time.Millisecond, 3 * time.Second} {
		t.Run(ttl.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQuorum(t, 3)
				holder, _ := q.client(nil)
				l, _ := q.client(nil)
				held := must(t)(holder.TryAcquire(t.Context(), "k", time.Minute))
				got := make(chan lock.Lease, 1)
				go func() {
					lease, err := l.Await(t.Context(), "k", ttl, noRefusal)
					if err != nil {
						t.Error(err)
					}
					got <- lease
				}()
				// The worst moment: just before a refresh.
				time.Sleep(time.Duration(0.85 * refreshShare * float64(min(ttl, usualClaim))))
				require.NoError(t, held.Release(t.Context()))
				lease := <-got
				granted := time.Now()
				var most time.Duration
				for time.Since(granted) < ttl/2 && lease.Expiry().After(time.Now()) {
					most = max(most, lease.Expiry().Sub(granted))
					time.Sleep(ttl / 50)
				}
				require.GreaterOrEqual(t, most, ttl*7/8)
				require.NoError(t, lease.Release(t.Context()))
			})
		})
	}
}
