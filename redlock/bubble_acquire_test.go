package redlock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

const ttl = 10 * time.Second

func hang(w *network)    { w.hang = true }
func refuse(w *network)  { w.down = true }
func mute(w *network)    { w.mute = true }
func healthy(w *network) { w.hang, w.down, w.mute, w.delay = false, false, false, 0 }

func must(t *testing.T) func(lease lock.Lease, err error) lock.Lease {
	return func(lease lock.Lease, err error) lock.Lease {
		t.Helper()
		require.NoError(t, err)
		return lease
	}
}

// free asserts that no node keeps anything of key.
func (q *quorum) free(key string) {
	q.t.Helper()
	synctest.Wait()
	for _, n := range q.nodes {
		require.Empty(q.t, n.value(key), "on %s", n.name)
	}
}

// warm is a client whose nodes have its scripts, so that each takes one round trip.
func (q *quorum) warm() (*Locker, []*network) {
	l, nets := q.client(nil)
	lease, err := l.TryAcquire(q.t.Context(), "warm", ttl)
	require.NoError(q.t, err)
	synctest.Wait()
	require.NoError(q.t, lease.Release(q.t.Context()))
	synctest.Wait()
	for _, n := range q.nodes {
		n.mu.Lock()
		n.calls = nil
		n.mu.Unlock()
	}
	return l, nets
}

func (q *quorum) seen(script string) int {
	sum := 0
	for _, n := range q.nodes {
		sum += n.seen(script)
	}
	return sum
}

func TestAHungMinorityCostsNoTime(t *testing.T) {
	for n, down := range map[int]int{3: 1, 4: 1, 5: 2} {
		bubble(t, func(t *testing.T) {
			q := newQuorum(t, n)
			l, nets := q.client(nil)
			for _, w := range nets[:down] {
				w.set(hang)
			}
			start := time.Now()
			lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
			require.NoError(t, lease.Extend(t.Context(), ttl))
			require.NoError(t, lease.Release(t.Context()))
			require.Zero(t, time.Since(start), "%d of %d nodes hung", down, n)
		})
	}
}

func TestAHungMajorityIsUnavailableWithinTheNodeTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		nets[0].set(hang)
		nets[1].set(hang)
		start := time.Now()
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "node fake1:6379: no answer within 200ms")
		require.Equal(t, testNodeTimeout, time.Since(start))
		synctest.Wait()
		q.free("k")
	})
}

func TestOneNodeIsALock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, _ := q.client(nil)
		other, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		_, err := other.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NoError(t, lease.Release(t.Context()))
		lease = must(t)(other.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestARefusalNamesTheHolderAndWhenAQuorumCouldBeFree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		other, _ := q.warm()
		l, _ := q.client(&Options{Owner: "alpha:1"})
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		time.Sleep(3 * time.Second)
		_, err := other.TryAcquire(t.Context(), "k", ttl)
		var held *lock.HeldError
		require.ErrorAs(t, err, &held)
		require.Equal(t, lock.HeldError{Key: "k", Holder: "alpha:1", RetryAfter: 7 * time.Second}, *held)
		// Two refusals decide. The third node must have been asked too, or it can meet the
		// attempt after the release, and grant.
		synctest.Wait()
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait()
		require.Equal(t, 3, q.seen("release"), "a node that refused has nothing to free")
	})
}

func TestAGrantThatComesAfterTheRefusalIsTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		for _, n := range q.nodes[:2] {
			require.NoError(t, n.redis.Set("redlock:k", "a"))
		}
		l, nets := q.warm()
		nets[2].set(func(w *network) { w.delay = 10 * time.Millisecond })
		start := time.Now()
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.Zero(t, time.Since(start), "the refusals decide")
		synctest.Wait()
		require.NotEmpty(t, q.nodes[2].value("k"), "the grant is on its way")
		time.Sleep(time.Second)
		require.Empty(t, q.nodes[2].value("k"))
		require.Equal(t, 1, q.seen("release"))
	})
}

func TestAForeignValueIsNotShown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		require.NoError(t, q.nodes[0].redis.Set("redlock:k", "secret/of-another-library"))
		l, _ := q.client(nil)
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NotContains(t, err.Error(), "secret")
		require.ErrorContains(t, err, "another client (not lockkeeper)")
	})
}

func TestAForeignKeyOnOneNodeDoesNotStopTheQuorum(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		require.NoError(t, q.nodes[0].redis.Set("redlock:k", "foreign"))
		l, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait()
		require.Equal(t, "foreign", q.nodes[0].value("k"))
	})
}

func TestSplitVotesAreLetGoBeforeTheRefusalReturns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		require.NoError(t, q.nodes[0].redis.Set("redlock:k", "a"))
		require.NoError(t, q.nodes[1].redis.Set("redlock:k", "b"))
		l, nets := q.warm()
		for _, w := range nets[:2] { // the grant is there before the refusals
			w.set(func(w *network) { w.delay = 10 * time.Millisecond })
		}
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.Empty(t, q.nodes[2].value("k"))
	})
}

func TestASlowQuorumNeverGivesALeaseWithNoTimeLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		for _, w := range nets {
			w.set(func(w *network) { w.delay = 150 * time.Millisecond })
		}
		_, err := l.TryAcquire(t.Context(), "k", 150*time.Millisecond)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		time.Sleep(time.Second)
		lease := must(t)(l.TryAcquire(t.Context(), "k", time.Second))
		require.Equal(t, time.Second-150*time.Millisecond-12*time.Millisecond, time.Until(lease.Expiry()),
			"validity counts from before the request and leaves 1 %% + 2ms of drift")
		require.NoError(t, lease.Release(t.Context()))
		time.Sleep(time.Second)
		q.free("k")
	})
}

func TestACancelledAttemptReturnsAtOnceAndLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		for _, w := range nets {
			w.set(func(w *network) { w.delay = 100 * time.Millisecond })
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		start := time.Now()
		lease, err := l.TryAcquire(ctx, "k", ttl)
		require.Nil(t, lease)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 30*time.Millisecond, time.Since(start))
		for _, n := range q.nodes {
			require.NotEmpty(t, n.value("k"), "the request had been applied")
		}
		time.Sleep(300 * time.Millisecond)
		q.free("k")
	})
}

// The cleanup is sent after the acquire was answered, so that it can't be
// overtaken: a node that is slow, but not dead, keeps nothing.
func TestTheCleanupNeverOvertakesTheAcquire(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		before := q.seen("release")
		for _, w := range nets {
			w.set(func(w *network) { w.delay = testNodeTimeout + 50*time.Millisecond })
		}
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.Equal(t, before, q.seen("release"))
		time.Sleep(time.Second)
		require.Equal(t, before+3, q.seen("release"))
		q.free("k")
	})
}

func TestLostRepliesLeaveNothingHeld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		for _, w := range nets[:2] {
			w.set(mute)
		}
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		for _, w := range nets[:2] {
			w.set(healthy)
		}
		time.Sleep(3 * testNodeTimeout) // the silent connections die, then the cleanup goes out
		q.free("k")
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestBadInputIsRefusedBeforeAnyIO(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(&Options{RestartGuard: time.Minute})
		for _, c := range []struct {
			key  string
			ttl  time.Duration
			says string
		}{
			{"", ttl, "key is empty"},
			{"\xff", ttl, "not valid UTF-8"},
			{"k", 0, "ttl is 0s"},
			{"k", 2 * time.Millisecond, "drift"},
			{"k", time.Minute + 1, "RestartGuard, which is 1m0s"},
		} {
			_, err := l.TryAcquire(t.Context(), c.key, c.ttl)
			require.ErrorIs(t, err, lock.ErrInvalid)
			require.ErrorContains(t, err, c.says)
		}
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		before := lease.Expiry()
		require.ErrorIs(t, lease.Extend(t.Context(), 2*time.Minute), lock.ErrInvalid)
		require.ErrorIs(t, lease.Extend(t.Context(), 2*time.Millisecond), lock.ErrInvalid)
		require.Equal(t, before, lease.Expiry(), "nothing held is lost by bad input")
		synctest.Wait()
		require.Equal(t, 3, q.seen("acquire"))
		require.Equal(t, 0, q.seen("extend"))
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestAMachineThatWasSuspendedHasLostItsLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		var asleep time.Duration
		l.suspended = func() func() time.Duration {
			base := asleep
			return func() time.Duration { return asleep - base }
		}
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		asleep += 4 * time.Second
		require.Equal(t, ttl-102*time.Millisecond-4*time.Second, time.Until(lease.Expiry()))
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.Equal(t, ttl-102*time.Millisecond, time.Until(lease.Expiry()))
		asleep += ttl
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
		synctest.Wait()
		require.Equal(t, 3, q.seen("extend"), "no request for a lease that is over")
	})
}

func TestCloseEndsEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		_, err := l.TryAcquire(t.Context(), "k2", ttl)
		require.ErrorIs(t, err, lock.ErrClosed)
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrClosed)
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrClosed)
		_, err = l.Inspect(t.Context(), "k")
		require.ErrorIs(t, err, lock.ErrClosed)
		_, err = l.Health(t.Context())
		require.ErrorIs(t, err, lock.ErrClosed)
		require.NotEmpty(t, q.nodes[0].value("k"), "a held lease ends at its expiry, not by Close")
	})
}
