package memory_test

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

func TestFailNextFailsThatManyCallsAndDoesNothing(t *testing.T) {
	broken := errors.New("wire cut")
	l := memory.New()
	lease := acquire(t, l, "k")
	expiry := lease.Expiry()

	l.FailNext(3, broken)
	_, err := l.TryAcquire(t.Context(), "other", ttl)
	require.ErrorIs(t, err, broken)
	requireFree(t, l, "other")
	require.ErrorIs(t, lease.Extend(t.Context(), time.Hour), broken)
	require.Equal(t, expiry, lease.Expiry(), "a failure says nothing about the hold")
	require.ErrorIs(t, lease.Release(t.Context()), broken)

	_, err = l.TryAcquire(t.Context(), "k", ttl)
	require.ErrorIs(t, err, lock.ErrHeld, "the release that failed freed nothing")
	require.NoError(t, lease.Release(t.Context()), "and can be tried again")
	requireFree(t, l, "k")
}

func TestFailNextWithoutAnErrorIsAnOutage(t *testing.T) {
	l := memory.New()
	l.FailNext(-1, nil)
	for range 100 {
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
	}
	health, err := l.Health(t.Context())
	require.NoError(t, err)
	require.False(t, health.HasQuorum())
	require.ErrorIs(t, health.Nodes[0].Err, lock.ErrUnavailable)

	l.FailNext(0, nil)
	health, err = l.Health(t.Context())
	require.NoError(t, err)
	require.True(t, health.HasQuorum())
	acquire(t, l, "k")
}

func TestFaultsConcernOneClientOnly(t *testing.T) {
	anna := memory.New().Client("anna")
	ben := anna.Client("ben")
	anna.FailNext(-1, nil)
	lease := acquire(t, ben, "k")
	require.NoError(t, lease.Extend(t.Context(), ttl))
	require.NoError(t, lease.Release(t.Context()))
}

func TestBadInputUsesUpNoFailure(t *testing.T) {
	l := memory.New()
	l.FailNext(1, nil)
	_, err := l.TryAcquire(t.Context(), "", ttl)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = l.TryAcquire(t.Context(), "k", ttl)
	require.ErrorIs(t, err, lock.ErrUnavailable)
}

func TestConcurrentCallsShareTheFailuresExactly(t *testing.T) {
	l := memory.New()
	l.FailNext(500, nil)
	var mu sync.Mutex
	failed := 0
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				lease, err := l.TryAcquire(context.Background(), string(rune('a'+i)), ttl)
				if err == nil {
					for lease.Release(context.Background()) != nil {
						mu.Lock()
						failed++
						mu.Unlock()
					}
					continue
				}
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Equal(t, 500, failed)
}

func TestALostReplyOfAnAcquireLeavesNothingHeld(t *testing.T) {
	l := memory.New()
	l.LoseReplies(1, nil)
	lease, err := l.TryAcquire(t.Context(), "k", ttl)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.Nil(t, lease)
	requireFree(t, l, "k")
	require.Equal(t, uint64(2), acquire(t, l, "k").Token(), "it had been applied")
}

func TestALostReplyOfAnExtendKeepsTheOldExpiryAndTheStoreHoldsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		lease := acquire(t, l, "k")
		expiry := lease.Expiry()
		l.LoseReplies(1, nil)
		require.ErrorIs(t, lease.Extend(t.Context(), time.Hour), lock.ErrUnavailable)
		require.Equal(t, expiry, lease.Expiry())

		time.Sleep(ttl)
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
		requireFree(t, l, "k")
	})
}

func TestALostReplyOfAReleaseFreesTheKeyAndCanBeRepeated(t *testing.T) {
	l := memory.New()
	lease := acquire(t, l, "k")
	l.LoseReplies(1, nil)
	require.ErrorIs(t, lease.Release(t.Context()), lock.ErrUnavailable)
	requireFree(t, l, "k")
	require.NoError(t, lease.Release(t.Context()))
}

func TestARepeatedReleaseSparesWhoCameBetween(t *testing.T) {
	l := memory.New()
	lease := acquire(t, l, "k")
	l.LoseReplies(1, nil)
	require.Error(t, lease.Release(t.Context()))
	next := acquire(t, l, "k")
	require.NoError(t, lease.Release(t.Context()), "it had been freed, not lost")
	require.NoError(t, next.Extend(t.Context(), ttl))
}

func TestDelayCountsAgainstTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		l.Delay(3 * time.Second)
		start := time.Now()
		lease := acquire(t, l, "k")
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Equal(t, start.Add(ttl), lease.Expiry())

		start = time.Now()
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.Equal(t, start.Add(ttl), lease.Expiry())

		l.Delay(0)
		start = time.Now()
		require.NoError(t, lease.Release(t.Context()))
		require.Zero(t, time.Since(start))
	})
}

func TestAnAnswerThatTookTheWholeTTLIsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		l.Delay(ttl)
		lease, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.Nil(t, lease)
		requireFree(t, l, "k")
	})
}

func TestAnAttemptCancelledInADelayHasDoneNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		l.Delay(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		lease, err := l.TryAcquire(ctx, "k", time.Hour)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Nil(t, lease)
		require.Equal(t, time.Second, time.Since(start))
		time.Sleep(time.Minute)
		requireFree(t, l, "k")
		l.Delay(0)
		require.Equal(t, uint64(1), acquire(t, l, "k").Token())
	})
}

func TestAHungStoreEndsExtendByTheDeadlineAndReleaseByItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		lease := acquire(t, l, "k")
		l.Delay(24 * time.Hour)
		start := time.Now()
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
		require.Equal(t, ttl, time.Since(start))

		l.Delay(0)
		lease = acquire(t, l, "k")
		l.Delay(24 * time.Hour)
		start = time.Now()
		err := lease.Release(t.Context())
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.Equal(t, lock.DefaultReleaseTimeout, time.Since(start))
		l.Delay(0)
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestADelayedFailureTakesItsTimeToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		l.Delay(time.Second)
		l.FailNext(1, nil)
		start := time.Now()
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.Equal(t, time.Second, time.Since(start))
	})
}
