package lock_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// queuedAs is an Await under way.
type queuedAs struct {
	cancel   context.CancelCauseFunc
	done     chan struct{}
	lease    lock.Lease
	err      error
	reported []lock.HeldError
}

// queue has one wait for key by l's Await, and returns when it is in place.
func queue(t *testing.T, l lock.Locker, key string) *queuedAs {
	t.Helper()
	awaiter, ok := lock.As[lock.Awaiter](l)
	require.True(t, ok)
	ctx, cancel := context.WithCancelCause(t.Context())
	q := &queuedAs{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(q.done)
		q.lease, q.err = awaiter.Await(ctx, key, time.Hour, func(held *lock.HeldError) { q.reported = append(q.reported, *held) })
	}()
	synctest.Wait()
	return q
}

func (q *queuedAs) over() bool {
	synctest.Wait()
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}

func TestDecoratorsInEveryOrderStandInTheRightQueues(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		leases := c.fill(t)
		for _, e := range c.observers {
			e.take()
		}
		for _, freed := range leases { // whichever of them it is
			q := queue(t, c.locker, "k")
			require.False(t, q.over(), c.name)
			require.NoError(t, freed.Release(t.Context()))
			require.True(t, q.over(), "%s: %s", c.name, freed.Key())
			require.NoError(t, q.err, c.name)
			require.Equal(t, freed.Key(), q.lease.Key(), c.name)
			require.NotEmpty(t, q.reported, c.name)
			for _, held := range q.reported {
				require.Equal(t, c.full, held.Key, c.name)
				require.Equal(t, "this process", held.Holder, c.name)
				require.Positive(t, held.RetryAfter, c.name)
			}
			// All that it stood in is left: the others still have their slots alone.
			info, err := c.base.Inspect(t.Context(), q.lease.Key())
			require.NoError(t, err)
			require.Equal(t, q.lease.Token(), info.Token, c.name)
			require.NoError(t, q.lease.Release(t.Context()))
			again, err := c.base.TryAcquire(t.Context(), freed.Key(), time.Hour)
			require.NoError(t, err, "%s: somebody stands in the queue of a wait that is over", c.name)
			require.Equal(t, freed.Key(), again.Key())
		}
		for _, e := range c.observers {
			granted := 0
			for _, event := range e.take() {
				require.Equal(t, c.full, strip(event.Key), c.name)
				if event.Kind == lock.EventAttempt && event.Err == nil {
					granted++
					require.Contains(t, c.names, event.Key, c.name)
				}
			}
			require.Equal(t, len(leases), granted, c.name)
		}
	})
}

func TestDecoratorsInEveryOrderLeaveNothingOfAWaitThatWasEnded(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		leases := c.fill(t)
		q := queue(t, c.locker, "k")
		enough := errors.New("enough")
		q.cancel(enough)
		require.True(t, q.over(), c.name)
		require.ErrorIs(t, q.err, context.Canceled, c.name)
		require.ErrorIs(t, q.err, enough, c.name)
		require.Nil(t, q.lease, c.name)

		// Bad input ends it before any I/O, also where the name is bad in the store only.
		awaiter, _ := lock.As[lock.Awaiter](c.locker)
		for _, key := range []string{"", "\xff"} {
			_, err := awaiter.Await(t.Context(), key, time.Hour, func(*lock.HeldError) {})
			require.ErrorIs(t, err, lock.ErrInvalid, c.name)
		}
		for _, lease := range leases {
			require.NoError(t, lease.Release(t.Context()))
		}
		for range c.names {
			_, err := c.locker.TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err, c.name)
		}
	})
}

// Several slots that get free in one moment are granted to one wait: it keeps one.
func TestASemaphoreReleasesWhatIsTooMuch(t *testing.T) {
	bubble("AtOnce", t, func(t *testing.T) {
		base := memory.New()
		l := lock.Semaphore(base, 8)
		for range 8 {
			_, err := l.TryAcquire(t.Context(), "k", time.Minute) // all end in the same moment
			require.NoError(t, err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex // guards held
		held := map[string]bool{}
		for range 3 { // other clients: each stands in all queues
			peer := lock.Semaphore(base.Client(""), 8)
			wg.Go(func() {
				lease, err := lock.Acquire(t.Context(), peer, "k", time.Hour, nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				held[lease.Key()] = true
			})
		}
		wg.Wait()
		require.Len(t, held, 3, "two have the same slot")
		synctest.Wait()
		free := 0
		for range 8 {
			if _, err := l.TryAcquire(t.Context(), "k", time.Hour); err == nil {
				free++
			}
		}
		require.Equal(t, 5, free)
	})
	bubble("AlsoWhereThatHangs", t, func(t *testing.T) {
		base := memory.New()
		first, second := base.Client("first"), base.Client("second")
		for range 2 {
			_, err := lock.Semaphore(first, 2).TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err)
		}
		q := queue(t, lock.Semaphore(second, 2), "k")
		second.Delay(24 * time.Hour)
		time.Sleep(time.Minute + lock.DefaultReleaseTimeout)
		require.True(t, q.over())
		require.NoError(t, q.err)
		require.Positive(t, time.Until(q.lease.Expiry()))
	})
}

func TestAnOutageOfOneSlotEndsTheWait(t *testing.T) {
	bubble("AndAcquireGoesOnAfterIt", t, func(t *testing.T) {
		base := memory.New()
		first, second := base.Client("first"), base.Client("second")
		l := lock.Semaphore(second, 2)
		var leases []lock.Lease
		for range 2 {
			lease, err := lock.Semaphore(first, 2).TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			leases = append(leases, lease)
		}
		q := queue(t, l, "k")
		second.FailNext(1, nil)
		require.True(t, q.over())
		require.ErrorIs(t, q.err, lock.ErrUnavailable)
		require.NotErrorIs(t, q.err, context.Canceled)

		w := stand(t, l, "k", nil)
		second.FailNext(1, nil)
		require.False(t, w.over())
		time.Sleep(time.Second)
		synctest.Wait()
		require.NoError(t, leases[0].Release(t.Context()))
		require.True(t, w.over())
		require.NoError(t, w.err)
	})
}

// AcquireAll waits for one key at a time, in its queue, and holds nothing meanwhile.
func TestAcquireAllStandsInTheQueueOfTheKeyThatIsHeld(t *testing.T) {
	bubble("AndHoldsNothingMeanwhile", t, func(t *testing.T) {
		base := memory.New()
		a, err := base.TryAcquire(t.Context(), "b", time.Hour)
		require.NoError(t, err)
		var set *lock.Set
		var wg sync.WaitGroup
		wg.Go(func() {
			set, err = lock.AcquireAll(t.Context(), base.Client("all"), []string{"c", "b", "a"}, time.Minute, nil)
		})
		time.Sleep(time.Second) // it steps aside for a moment first
		for _, key := range []string{"a", "c"} {
			info, err := base.Inspect(t.Context(), key)
			require.NoError(t, err)
			require.Empty(t, info.Holder, "it holds while it waits")
		}
		later := queue(t, base, "b")
		time.Sleep(time.Minute)
		require.NoError(t, a.Release(t.Context()))
		wg.Wait()
		require.NoError(t, err)
		require.False(t, later.over(), "it came later")
		require.NoError(t, set.Release(t.Context()))
		require.True(t, later.over())
	})
}
