package lock_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// awaiting is a locker that queues. Its n-th request (from 1) goes as script says; nil:
// granted at once.
type awaiting struct {
	fakeLocker
	script func(ctx context.Context, n int, refused func(*lock.HeldError)) error

	mu    sync.Mutex  // guards asked
	asked []time.Time // when each request began
}

// begun is when each request began.
func (a *awaiting) begun() []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}

func (a *awaiting) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	a.mu.Lock()
	a.asked = append(a.asked, time.Now())
	n := len(a.asked)
	a.mu.Unlock()
	if a.script != nil {
		if err := a.script(ctx, n, refused); err != nil {
			return nil, err
		}
	}
	return a.lease(), nil
}

// afterWaiting is a request that is refused, and handed the key after d.
func afterWaiting(d time.Duration) func(context.Context, int, func(*lock.HeldError)) error {
	return func(ctx context.Context, _ int, refused func(*lock.HeldError)) error {
		refused(held)
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return lock.ContextError(ctx)
		}
	}
}

func TestAcquireStandsInTheQueueOfAStoreThatHasOne(t *testing.T) {
	ms := time.Millisecond
	bubble("AndAsksNothingElse", t, func(t *testing.T) {
		a := &awaiting{script: afterWaiting(time.Hour)}
		start := time.Now()
		lease, err := lock.Acquire(t.Context(), a, "k", ttl, nil)
		require.NoError(t, err)
		require.NotNil(t, lease)
		require.Equal(t, time.Hour, time.Since(start))
		require.Len(t, a.begun(), 1)
		require.Empty(t, a.attempts)
	})
	bubble("UnlessItsAttemptsAreCounted", t, func(t *testing.T) {
		a := &awaiting{fakeLocker: fakeLocker{try: until(3, held)}}
		_, err := lock.Acquire(t.Context(), a, "k", ttl, &lock.AcquireOptions{Attempts: 3})
		require.NoError(t, err)
		require.Empty(t, a.begun())
		require.Len(t, a.attempts, 3)
	})
	bubble("UntilCtxEnds", t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		stopping := errors.New("stopping")
		time.AfterFunc(time.Minute, func() { cancel(stopping) })
		_, err := lock.Acquire(ctx, &awaiting{script: afterWaiting(time.Hour)}, "k", ttl, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, stopping)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.ErrorContains(t, err, "host-1")
		require.ErrorContains(t, err, "after 1 attempts in 1m")
	})
	bubble("UntilTheTimeout", t, func(t *testing.T) {
		_, err := lock.Acquire(t.Context(), &awaiting{script: afterWaiting(time.Hour)}, "k", ttl, &lock.AcquireOptions{Timeout: time.Minute})
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NotErrorIs(t, err, lock.ErrUnavailable)
		requireNoContextError(t, err)
	})
	bubble("UntilTheTimeoutOfOneThatHangs", t, func(t *testing.T) {
		a := &awaiting{script: func(ctx context.Context, _ int, _ func(*lock.HeldError)) error {
			<-ctx.Done()
			return lock.ContextError(ctx)
		}}
		_, err := lock.Acquire(t.Context(), a, "k", ttl, &lock.AcquireOptions{Timeout: time.Minute})
		require.ErrorIs(t, err, lock.ErrUnavailable)
		requireNoContextError(t, err)
	})
	bubble("AgainAfterAnOutageWithPausesThatDouble", t, func(t *testing.T) {
		a := &awaiting{script: func(_ context.Context, n int, refused func(*lock.HeldError)) error {
			switch {
			case n == 4: // stood in the queue when the store went away
				refused(held)
				return lock.ErrUnavailable
			case n < 6:
				return lock.ErrUnavailable
			}
			return nil
		}}
		_, err := lock.Acquire(t.Context(), a, "k", ttl, &lock.AcquireOptions{Jitter: -1, Delay: 10 * ms, MaxDelay: 100 * ms})
		require.NoError(t, err)
		var gaps []time.Duration
		begun := a.begun()
		for i := range begun[1:] {
			gaps = append(gaps, begun[i+1].Sub(begun[i]))
		}
		require.Equal(t, []time.Duration{10 * ms, 20 * ms, 40 * ms, 10 * ms, 20 * ms}, gaps)
	})
	bubble("ButAsksAgainAfterDelayWhereItCanNotQueue", t, func(t *testing.T) {
		a := &awaiting{script: func(_ context.Context, n int, _ func(*lock.HeldError)) error { return until(3, held)(nil, n) }}
		start := time.Now()
		_, err := lock.Acquire(t.Context(), a, "k", ttl, &lock.AcquireOptions{Jitter: -1})
		require.NoError(t, err)
		require.Equal(t, 100*ms, time.Since(start))
	})
	bubble("AndEndsWithWhatAskingAgainDoesNotMend", t, func(t *testing.T) {
		for _, final := range []error{lock.ErrInvalid, lock.ErrClosed, lock.ErrRefused} {
			a := &awaiting{script: func(context.Context, int, func(*lock.HeldError)) error { return final }}
			_, err := lock.Acquire(t.Context(), a, "k", ttl, nil)
			require.ErrorIs(t, err, final)
			require.Len(t, a.begun(), 1)
		}
	})
	bubble("AndReleasesAGrantThatMeetsTheEndOfCtx", t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := &awaiting{script: func(context.Context, int, func(*lock.HeldError)) error { cancel(); return nil }}
		lease, err := lock.Acquire(ctx, a, "k", ttl, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, lease)
		require.Equal(t, 1, a.releases)
	})
	bubble("AndReportsToOnWaitWhoHoldsTheKey", t, func(t *testing.T) {
		reported := &reasons{}
		a := &awaiting{script: func(_ context.Context, n int, refused func(*lock.HeldError)) error {
			if n == 1 {
				for _, holder := range []string{"a", "a", "b"} {
					refused(&lock.HeldError{Key: "k", Holder: holder})
				}
				return lock.ErrUnavailable
			}
			refused(&lock.HeldError{Key: "k", Holder: "c"})
			return nil
		}}
		_, err := lock.Acquire(t.Context(), a, "k", ttl, &lock.AcquireOptions{OnWait: reported.onWait})
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b", "away", "c"}, reported.all())
	})
}

// queueing is awaiting with a queue for the waiters of the process.
type queueing struct {
	awaiting
	lock.Waiters
}

func TestOneWaiterOfAProcessStandsInTheStoresQueue(t *testing.T) {
	bubble("AndTheOthersKnowWhoHolds", t, func(t *testing.T) {
		q := &queueing{awaiting: awaiting{script: afterWaiting(time.Hour)}}
		first := stand(t, q, "k", nil)
		second := stand(t, q, "k", &lock.AcquireOptions{Timeout: time.Minute})
		third := stand(t, q, "k", nil)
		require.Len(t, q.begun(), 1)
		time.Sleep(2 * time.Minute)
		require.True(t, second.over())
		require.ErrorIs(t, second.err, lock.ErrHeld)
		require.ErrorContains(t, second.err, "host-1")
		time.Sleep(time.Hour)
		require.True(t, first.over())
		require.NoError(t, first.err)
		synctest.Wait()
		require.Len(t, q.begun(), 2)
		third.cancel(nil)
		require.True(t, third.over())
		require.ErrorIs(t, third.err, context.Canceled)
	})
}

// A decorator that does not know of queues loses no lease to one.
func TestAnAwaiterIsNotFoundBelowADecoratorThatHasOnlyUnwrap(t *testing.T) {
	bubble("SoItsTryAcquireIsUsed", t, func(t *testing.T) {
		a := &awaiting{}
		_, ok := lock.As[lock.Awaiter](a)
		require.True(t, ok)
		_, ok = lock.As[lock.Awaiter](through{a})
		require.False(t, ok)
		_, err := lock.Acquire(t.Context(), through{a}, "k", ttl, nil)
		require.NoError(t, err)
		require.Empty(t, a.begun())
		require.Len(t, a.attempts, 1)
	})
}

func TestObserveTellsWhatStoodInTheQueueWhenItEnds(t *testing.T) {
	run := func(t *testing.T, ctx context.Context, a *awaiting) (all []lock.Event, err error) {
		var e events
		_, err = lock.Acquire(ctx, lock.Observe(a, e.receive), "k", ttl, &lock.AcquireOptions{Jitter: -1})
		all = e.take()
		for i := range all {
			all[i].Context = nil
		}
		require.Equal(t, len(all)-1, all[len(all)-1].Attempts)
		return all, err
	}
	minute := time.Minute
	waits := func(ctx context.Context, n int, refused func(*lock.HeldError)) error {
		time.Sleep(time.Second)
		return afterWaiting(time.Hour)(ctx, n, refused)
	}
	refusal := lock.Event{Kind: lock.EventAttempt, Key: "k", Duration: time.Second, Err: held}
	bubble("Granted", t, func(t *testing.T) {
		all, err := run(t, t.Context(), &awaiting{script: waits})
		require.NoError(t, err)
		total := time.Hour + time.Second
		require.Equal(t, []lock.Event{refusal,
			{Kind: lock.EventAttempt, Key: "k", Token: 3, Duration: total, Queued: time.Hour},
			{Kind: lock.EventWait, Key: "k", Token: 3, Duration: total, Attempts: 2}}, all)
	})
	bubble("GrantedWithoutWaiting", t, func(t *testing.T) {
		all, err := run(t, t.Context(), &awaiting{})
		require.NoError(t, err)
		require.Equal(t, []lock.Event{{Kind: lock.EventAttempt, Key: "k", Token: 3}, {Kind: lock.EventWait, Key: "k", Token: 3, Attempts: 1}}, all)
	})
	bubble("EndedByItsCtx", t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), minute)
		defer cancel()
		all, err := run(t, ctx, &awaiting{script: waits})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []lock.Event{refusal, {Kind: lock.EventWait, Key: "k", Duration: minute, Attempts: 1, Err: err}}, all)
	})
	bubble("EndedByAnOutage", t, func(t *testing.T) {
		all, err := run(t, t.Context(), &awaiting{script: func(ctx context.Context, n int, refused func(*lock.HeldError)) error {
			if n == 1 {
				refused(held)
				return lock.ErrUnavailable
			}
			return nil
		}})
		require.NoError(t, err)
		require.Len(t, all, 4)
		require.ErrorIs(t, all[0].Err, lock.ErrHeld)
		require.ErrorIs(t, all[1].Err, lock.ErrUnavailable)
		require.NoError(t, all[2].Err)
	})
}
