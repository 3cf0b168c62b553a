package lock_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func TestWaitersStandInAQueue(t *testing.T) {
	bubble("AndAreServedInTheOrderInWhichTheyCame", t, func(t *testing.T) {
		l := &queueStore{}
		l.hold("k")
		var order []int
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				lease, err := lock.Acquire(t.Context(), l, "k", ttl, nil)
				require.NoError(t, err)
				order = append(order, i) // under the lock
				time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
				require.NoError(t, lease.Release(t.Context()))
			})
			synctest.Wait()
		}
		l.free("k")
		wg.Wait()
		for i := range order {
			require.Equal(t, i, order[i])
		}
		require.Len(t, order, 20)
		require.Zero(t, l.Queues())
	})
	bubble("WithOneOfThemAsking", t, func(t *testing.T) {
		l := &queueStore{}
		l.hold("k")
		first := stand(t, l, "k", steady)
		time.Sleep(time.Second)
		alone := l.asked()
		others := make([]*waiting, 50)
		for i := range others {
			others[i] = stand(t, l, "k", steady)
		}
		time.Sleep(time.Second)
		require.InDelta(t, alone, l.asked(), 2)
		for _, w := range append(others, first) {
			w.cancel(nil)
			<-w.done
		}
		require.Zero(t, l.Queues())
	})
	bubble("OfEachKeyAnother", t, func(t *testing.T) {
		l := &queueStore{}
		l.hold("a")
		a := stand(t, l, "a", nil)
		b := stand(t, l, "b", nil)
		require.True(t, b.over())
		require.NoError(t, b.err)
		require.Equal(t, 1, l.Queues())
		l.free("a")
		<-a.done
		require.NoError(t, a.err)
	})
	bubble("ByWhateverCompositionTheyCame", t, func(t *testing.T) {
		l := &queueStore{}
		l.hold("a:b:k")
		within := lock.Prefix(l, "a:")
		queue := []*waiting{
			stand(t, within, "b:k", steady),
			stand(t, l, "a:b:k", steady),
			stand(t, lock.Prefix(within, "b:"), "k", steady),
			stand(t, lock.Observe(through{within}, func(lock.Event) {}), "b:k", steady),
		}
		require.Equal(t, 1, l.Queues())
		require.Equal(t, 1, l.asked())
		l.free("a:b:k")
		for i, w := range queue {
			<-w.done
			require.NoError(t, w.err)
			require.Equal(t, "a:b:k", w.lease.Key())
			for _, behind := range queue[i+1:] {
				require.False(t, behind.over())
			}
			require.NoError(t, w.lease.Release(t.Context()))
		}
		require.Zero(t, l.Queues())
	})
	bubble("ButNotThoseWhoCountTheirAttempts", t, func(t *testing.T) {
		l := &queueStore{}
		l.hold("k")
		w := stand(t, l, "k", nil)
		l.asked()
		_, err := lock.Acquire(t.Context(), l, "k", ttl, &lock.AcquireOptions{Attempts: 1})
		require.ErrorIs(t, err, lock.ErrHeld)
		require.Equal(t, 1, l.asked())
		w.cancel(nil)
		<-w.done
	})
	bubble("NorThoseWhoseCtxHasEndedBefore", t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l := &queueStore{}
		_, err := lock.Acquire(ctx, l, "k", ttl, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, l.asked())
		require.Zero(t, l.Queues())
	})
}

func TestAWaiterInTheQueue(t *testing.T) {
	cause := errors.New("shutting down")
	bubble("LeavesAtOnceFromAnyPosition", t, func(t *testing.T) {
		l := &queueStore{}
		l.hold("k")
		queue := make([]*waiting, 6)
		for i := range queue {
			queue[i] = stand(t, l, "k", nil)
		}
		for _, i := range []int{2, 0, 5} { // the middle, the first, the last
			queue[i].cancel(cause)
			require.True(t, queue[i].over())
			require.ErrorIs(t, queue[i].err, context.Canceled)
			require.ErrorIs(t, queue[i].err, cause)
			require.ErrorIs(t, queue[i].err, lock.ErrHeld)
		}
		l.free("k")
		for _, i := range []int{1, 3, 4} {
			<-queue[i].done
			require.NoError(t, queue[i].err)
			require.NoError(t, queue[i].lease.Release(t.Context()))
		}
		require.Zero(t, l.Queues())
	})
	bubble("LetsTheNextAskIfItsCtxEndsAtTheSameTime", t, func(t *testing.T) {
		for range 200 { // either may be seen first
			l := &queueStore{}
			l.hold("k")
			a, b, c := stand(t, l, "k", nil), stand(t, l, "k", nil), stand(t, l, "k", nil)
			a.cancel(nil)
			b.cancel(nil)
			l.free("k")
			<-c.done
			require.NoError(t, c.err)
			<-b.done
			require.ErrorIs(t, b.err, context.Canceled)
			require.Nil(t, b.lease)
			require.NoError(t, c.lease.Release(t.Context()))
			require.Zero(t, l.Queues())
		}
	})
	bubble("GivesALeaseBackThatComesWithTheEndOfItsCtxBeforeTheNextAsks", t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		l := &queueStore{}
		l.try = func(context.Context, string) error {
			time.Sleep(time.Millisecond)
			cancel(cause)
			return nil
		}
		done := make(chan error)
		go func() {
			lease, err := lock.Acquire(ctx, l, "k", ttl, nil)
			require.Nil(t, lease)
			done <- err
		}()
		synctest.Wait()
		b := stand(t, l, "k", nil)
		require.ErrorIs(t, <-done, cause)
		<-b.done
		require.NoError(t, b.err)
		require.Equal(t, 2, l.asked())
	})
	timeout := &lock.AcquireOptions{Timeout: time.Second}
	for name, c := range map[string]struct{ answer, want, not error }{
		"TimesOutWithTheRefusalOfThoseAhead": {nil, lock.ErrHeld, lock.ErrUnavailable},
		"TimesOutWithTheOutageThatTheyMet":   {lock.ErrUnavailable, lock.ErrUnavailable, lock.ErrHeld},
	} {
		bubble(name, t, func(t *testing.T) {
			l := &queueStore{try: func(context.Context, string) error { return c.answer }}
			l.hold("k")
			ahead := stand(t, l, "k", nil)
			start := time.Now()
			w := stand(t, l, "k", timeout)
			<-w.done
			require.Equal(t, time.Second, time.Since(start))
			require.ErrorIs(t, w.err, c.want)
			require.NotErrorIs(t, w.err, c.not)
			requireNoContextError(t, w.err)
			require.ErrorContains(t, w.err, "after 1s in the queue")
			require.NotContains(t, w.err.Error(), "attempts")
			ahead.cancel(nil)
			<-ahead.done
		})
	}
	bubble("TimesOutAsUnavailableIfTheStoreAnswersNobody", t, func(t *testing.T) {
		l := &queueStore{try: func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }}
		ahead := stand(t, l, "k", nil)
		w := stand(t, l, "k", timeout)
		gone := stand(t, l, "k", nil)
		gone.cancel(cause)
		<-gone.done
		require.ErrorIs(t, gone.err, cause)
		require.NotErrorIs(t, gone.err, lock.ErrUnavailable)
		<-w.done
		require.ErrorIs(t, w.err, lock.ErrUnavailable)
		requireNoContextError(t, w.err)
		require.ErrorContains(t, w.err, "not answered those ahead")
		ahead.cancel(nil)
		<-ahead.done
	})
	bubble("KnowsThatTheOneAheadHasTheLease", t, func(t *testing.T) {
		l := &queueStore{}
		l.try = func(ctx context.Context, _ string) error {
			if l.Queues() == 1 && l.token == 0 {
				time.Sleep(time.Second) // so that there are others behind the one who gets it
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		ahead := stand(t, l, "k", nil)
		next := stand(t, l, "k", nil)
		w := stand(t, l, "k", &lock.AcquireOptions{Timeout: 2 * time.Second})
		<-ahead.done
		require.NoError(t, ahead.err)
		<-w.done
		require.ErrorIs(t, w.err, lock.ErrHeld)
		require.ErrorContains(t, w.err, "this process")
		next.cancel(nil)
		<-next.done
		require.ErrorIs(t, next.err, lock.ErrHeld, "its own attempt had no answer")
	})
	bubble("IsNotStuckBehindAPanic", t, func(t *testing.T) {
		l := &queueStore{}
		var once sync.Once
		l.try = func(context.Context, string) error {
			time.Sleep(time.Second)
			once.Do(func() { panic("bad backend") })
			return nil
		}
		done := make(chan any)
		go func() {
			defer func() { done <- recover() }()
			_, _ = lock.Acquire(t.Context(), l, "k", ttl, nil)
		}()
		synctest.Wait()
		w := stand(t, l, "k", nil)
		require.Equal(t, "bad backend", <-done)
		<-w.done
		require.NoError(t, w.err)
		require.Zero(t, l.Queues())
	})
	bubble("FailsAsThoseAheadDidIfAskingAgainCantHelp", t, func(t *testing.T) {
		l := &queueStore{}
		l.try = func(context.Context, string) error { time.Sleep(time.Second); return lock.ErrClosed }
		a, b := stand(t, l, "k", nil), stand(t, l, "k", nil)
		<-a.done
		<-b.done
		require.ErrorIs(t, a.err, lock.ErrClosed)
		require.ErrorIs(t, b.err, lock.ErrClosed)
	})
	bubble("HurriesThoseAheadToItsOwnPace", t, func(t *testing.T) {
		lazy := &lock.AcquireOptions{Delay: time.Hour, Jitter: -1}
		for _, down := range []error{nil, lock.ErrUnavailable} {
			l := &queueStore{down: down}
			l.hold("k")
			a := stand(t, l, "k", lazy)
			time.Sleep(10 * time.Minute)
			require.Equal(t, 1, l.asked())
			b := stand(t, l, "k", &lock.AcquireOptions{Delay: time.Second, Jitter: -1})
			c := stand(t, l, "k", lazy)
			time.Sleep(time.Minute + time.Second/2)
			require.InDelta(t, 60, l.asked(), 2)
			start := time.Now()
			l.free("k")
			for _, w := range []*waiting{a, b, c} {
				<-w.done
				require.NoError(t, w.err)
				require.NoError(t, w.lease.Release(t.Context()))
			}
			require.LessOrEqual(t, time.Since(start), 4*time.Second)
		}
	})
	t.Run("IsSafeAmongManyWhoComeAndGo", func(t *testing.T) {
		l := &queueStore{}
		var inside atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 200 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(3000))*time.Microsecond)
					lease, err := lock.Acquire(ctx, l, "k", ttl, &lock.AcquireOptions{Delay: time.Millisecond})
					if err == nil {
						if n := inside.Add(1); n != 1 {
							t.Errorf("%d inside", n)
						}
						inside.Add(-1)
						_ = lease.Release(t.Context())
					}
					cancel()
				}
			})
		}
		wg.Wait()
		require.Zero(t, l.Queues())
	})
}
