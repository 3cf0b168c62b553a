package lock_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// fakeLocker answers attempt n (from 1) with try; nil: granted.
type fakeLocker struct {
	store
	try      func(ctx context.Context, n int) error
	attempts []time.Time
}

func (*fakeLocker) onlyFake() {}

func (f *fakeLocker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	f.attempts = append(f.attempts, time.Now())
	if f.try != nil {
		if err := f.try(ctx, len(f.attempts)); err != nil {
			return nil, err
		}
	}
	return f.lease(), nil
}

// gaps are the pauses between attempts.
func (f *fakeLocker) gaps() []time.Duration {
	var gaps []time.Duration
	for i := 1; i < len(f.attempts); i++ {
		gaps = append(gaps, f.attempts[i].Sub(f.attempts[i-1]))
	}
	return gaps
}

// watchedLocker is a fakeLocker with push.
type watchedLocker struct {
	fakeLocker
	watch   func() error
	wake    chan<- struct{}
	watches int
	stops   int
}

func (w *watchedLocker) Watch(_ context.Context, _ string, wake chan<- struct{}) (func(), error) {
	w.watches++
	if w.watch != nil {
		if err := w.watch(); err != nil {
			return nil, err
		}
	}
	w.wake = wake
	return func() { w.stops++ }, nil
}

func always(err error) func(context.Context, int) error {
	return func(context.Context, int) error { return err }
}

func until(n int, err error) func(context.Context, int) error {
	return func(_ context.Context, i int) error {
		if i < n {
			return err
		}
		return nil
	}
}

var held = &lock.HeldError{Key: "k", Holder: "host-1"}

func requireNoContextError(t *testing.T, err error) {
	t.Helper()
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, context.Canceled)
}

func TestAcquireRefusesBadInputBeforeAnyIO(t *testing.T) {
	f := &fakeLocker{}
	for says, o := range map[string]lock.AcquireOptions{
		"Attempts is -1":       {Attempts: -1},
		"Timeout is -1s":       {Timeout: -time.Second},
		"Delay is -1s":         {Delay: -time.Second},
		"Delay is 2562047h":    {Delay: math.MaxInt64},
		"MaxDelay is -1s":      {MaxDelay: -time.Second},
		"MaxDelay is 2562047h": {MaxDelay: math.MaxInt64},
		"Timeout is 5ns, want 0 for no bound, or at least 1ms; a number alone counts nanoseconds":           {Timeout: 5},
		"Delay is 5ns, want 0 for the default, or 1ms to 8760h0m0s; a number alone counts nanoseconds":      {Delay: 5},
		"MaxDelay is 500ns, want 0 for the default, or 1ms to 8760h0m0s; a number alone counts nanoseconds": {MaxDelay: 500},
		"Jitter is 1.5":  {Jitter: 1.5},
		"Jitter is -0.5": {Jitter: -0.5},
		"Jitter is NaN":  {Jitter: math.NaN()},
		"Delay is 2s, want at most MaxDelay, which is 1s": {Delay: 2 * time.Second, MaxDelay: time.Second},
	} {
		_, err := lock.Acquire(t.Context(), f, "k", ttl, &o)
		require.ErrorIs(t, err, lock.ErrInvalid)
		require.ErrorContains(t, err, says)
		require.ErrorIs(t, o.Validate(), lock.ErrInvalid)
	}
	_, err := lock.Acquire(t.Context(), f, "", ttl, nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = lock.Acquire(t.Context(), f, "k", 0, nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.Empty(t, f.attempts)
	require.NoError(t, (*lock.AcquireOptions)(nil).Validate())
}

func TestAcquirePauses(t *testing.T) {
	ms := time.Millisecond
	bubble("AreDelayWhileHeld", t, func(t *testing.T) {
		f := &fakeLocker{try: until(4, held)}
		_, err := lock.Acquire(t.Context(), f, "k", ttl, &lock.AcquireOptions{Jitter: -1})
		require.NoError(t, err)
		require.Equal(t, []time.Duration{50 * ms, 50 * ms, 50 * ms}, f.gaps())
	})
	bubble("DoubleUpToMaxDelayWhileUnavailableAndStartAgain", t, func(t *testing.T) {
		f := &fakeLocker{try: func(_ context.Context, n int) error {
			switch {
			case n == 5:
				return held
			case n < 8:
				return lock.ErrUnavailable
			}
			return nil
		}}
		_, err := lock.Acquire(t.Context(), f, "k", ttl, &lock.AcquireOptions{Jitter: -1, Delay: 10 * ms, MaxDelay: 40 * ms})
		require.NoError(t, err)
		require.Equal(t, []time.Duration{10 * ms, 20 * ms, 40 * ms, 40 * ms, 10 * ms, 10 * ms, 20 * ms}, f.gaps())
	})
	bubble("AreSpreadByJitterToEitherSide", t, func(t *testing.T) {
		f := &fakeLocker{try: until(400, held)}
		_, err := lock.Acquire(t.Context(), f, "k", ttl, nil)
		require.NoError(t, err)
		shortest, longest := time.Hour, time.Duration(0)
		for _, g := range f.gaps() {
			shortest, longest = min(shortest, g), max(longest, g)
		}
		require.GreaterOrEqual(t, shortest, 37*ms)
		require.Less(t, shortest, 48*ms)
		require.LessOrEqual(t, longest, 63*ms)
		require.Greater(t, longest, 52*ms)
	})
	bubble("AreCutToWhatTheHolderCanHaveLeft", t, func(t *testing.T) {
		for left, want := range map[time.Duration]time.Duration{
			20 * ms: 20 * ms, 0: 50 * ms, 1: ms, time.Second: 50 * ms, math.MaxInt64: 50 * ms,
		} {
			f := &fakeLocker{try: until(2, &lock.HeldError{Key: "k", RetryAfter: left})}
			_, err := lock.Acquire(t.Context(), f, "k", ttl, &lock.AcquireOptions{Jitter: -1})
			require.NoError(t, err)
			require.Equal(t, []time.Duration{want}, f.gaps(), left)
		}
	})
	bubble("AreDelayBehindAHolderForEver", t, func(t *testing.T) {
		f := &fakeLocker{try: until(2, &lock.HeldError{Key: "k", RetryAfter: math.MaxInt64})}
		_, err := lock.Acquire(t.Context(), f, "k", ttl, nil)
		require.NoError(t, err)
		require.Greater(t, f.gaps()[0], 30*ms)
	})
	bubble("DelayDefaultsToAtMostMaxDelay", t, func(t *testing.T) {
		f := &fakeLocker{try: until(2, held)}
		_, err := lock.Acquire(t.Context(), f, "k", ttl, &lock.AcquireOptions{Jitter: -1, MaxDelay: 5 * ms})
		require.NoError(t, err)
		require.Equal(t, []time.Duration{5 * ms}, f.gaps())
	})
}

func TestAttemptsIsExactlyHowOftenTheStoreIsAsked(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		for _, answer := range []error{held, lock.ErrUnavailable} {
			for _, n := range []int{1, 2, 5} {
				w := &watchedLocker{fakeLocker: fakeLocker{try: always(errors.Join(answer, context.DeadlineExceeded))}}
				lease, err := lock.Acquire(t.Context(), w, "k", ttl, &lock.AcquireOptions{Attempts: n})
				require.Nil(t, lease)
				require.ErrorIs(t, err, answer)
				requireNoContextError(t, err)
				require.Len(t, w.attempts, n)
				require.Zero(t, w.watches)
			}
		}
		w := &fakeLocker{try: until(3, held)}
		_, err := lock.Acquire(t.Context(), w, "k", ttl, &lock.AcquireOptions{Attempts: 3})
		require.NoError(t, err)
	})
}

func TestTimeout(t *testing.T) {
	run := func(t *testing.T, f *fakeLocker, timeout time.Duration) error {
		start := time.Now()
		lease, err := lock.Acquire(t.Context(), f, "k", ttl, &lock.AcquireOptions{Timeout: timeout})
		require.Nil(t, lease)
		require.LessOrEqual(t, time.Since(start), timeout)
		requireNoContextError(t, err)
		require.ErrorContains(t, err, `"k"`)
		return err
	}
	hang := func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }
	bubble("EndsInErrHeld", t, func(t *testing.T) {
		err := run(t, &fakeLocker{try: always(errors.Join(held, context.DeadlineExceeded))}, time.Second)
		require.ErrorIs(t, err, lock.ErrHeld)
		h, ok := errors.AsType[*lock.HeldError](err)
		require.True(t, ok)
		require.Same(t, held, h)
	})
	bubble("EndsInErrUnavailable", t, func(t *testing.T) {
		err := run(t, &fakeLocker{try: always(errors.Join(lock.ErrUnavailable, context.DeadlineExceeded))}, time.Second)
		require.ErrorIs(t, err, lock.ErrUnavailable)
	})
	bubble("OfAHungAttemptIsErrUnavailable", t, func(t *testing.T) {
		require.ErrorIs(t, run(t, &fakeLocker{try: hang}, time.Second), lock.ErrUnavailable)
	})
	t.Run("TooShortForAnyAttemptStillMakesOne", func(t *testing.T) { // ended before the first, on a real clock
		f := &fakeLocker{try: hang}
		_, err := lock.Acquire(t.Context(), f, "k", ttl, &lock.AcquireOptions{Timeout: time.Millisecond})
		require.ErrorIs(t, err, lock.ErrUnavailable)
		requireNoContextError(t, err)
		require.Len(t, f.attempts, 1)
	})
	bubble("ThatCutsAnAttemptShortKeepsTheNewsBeforeIt", t, func(t *testing.T) {
		for _, last := range []error{nil, lock.ErrUnavailable} {
			err := run(t, &fakeLocker{try: func(ctx context.Context, n int) error {
				if n == 1 {
					return held
				}
				return errors.Join(hang(ctx, n), last)
			}}, time.Second)
			require.ErrorIs(t, err, lock.ErrHeld)
			require.NotErrorIs(t, err, lock.ErrUnavailable)
		}
	})
	bubble("HasNothingToDoWithALeaseGrantedAsItEnds", t, func(t *testing.T) {
		f := &fakeLocker{try: func(ctx context.Context, _ int) error { <-ctx.Done(); return nil }}
		lease, err := lock.Acquire(t.Context(), f, "k", ttl, &lock.AcquireOptions{Timeout: time.Second})
		require.NoError(t, err)
		require.NotNil(t, lease)
	})
}

func TestCancelledAcquire(t *testing.T) {
	cause := errors.New("shutting down")
	bubble("MatchesCtxItsCauseAndTheLastAttempt", t, func(t *testing.T) {
		for _, answer := range []error{held, lock.ErrUnavailable} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			start := time.Now()
			_, err := lock.Acquire(ctx, &fakeLocker{try: always(answer)}, "k", ttl, &lock.AcquireOptions{Timeout: time.Minute})
			require.Equal(t, time.Second, time.Since(start))
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, cause)
			require.ErrorIs(t, err, answer)
		}
	})
	bubble("AsksNothingIfCtxHasEndedBefore", t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 0)
		defer cancel()
		f := &fakeLocker{}
		_, err := lock.Acquire(ctx, f, "k", ttl, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Empty(t, f.attempts)
	})
	for name, c := range map[string]struct {
		release, want, not error
	}{
		"GivesBackALeaseGrantedAtTheSameTime":  {nil, nil, lock.ErrLost},
		"SaysSoIfTheLateLeaseStays":            {errStore, errStore, lock.ErrLost},
		"DoesNotCallALateLeaseThatIsGoneALoss": {lock.ErrLost, nil, lock.ErrLost},
	} {
		bubble(name, t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			f := &fakeLocker{try: func(context.Context, int) error { cancel(cause); return nil }}
			f.release = always1(c.release)
			lease, err := lock.Acquire(ctx, f, "k", ttl, nil)
			require.Nil(t, lease)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, cause)
			require.NotErrorIs(t, err, c.not)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
			require.Equal(t, 1, f.releases)
		})
	}
}

func TestANilLockerIsInvalid(t *testing.T) {
	for name, l := range map[string]lock.Locker{
		"Prefix": lock.Prefix(nil, "p"), "Semaphore": lock.Semaphore(nil, 2), "Observe": lock.Observe(nil, func(lock.Event) {}),
		"nothing": nil, "Prefix of a Semaphore": lock.Prefix(lock.Semaphore(nil, 1), "p"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := lock.Acquire(t.Context(), l, "k", ttl, nil)
			require.ErrorIs(t, err, lock.ErrInvalid)
			_, err = lock.AcquireAll(t.Context(), l, []string{"k"}, ttl, nil)
			require.ErrorIs(t, err, lock.ErrInvalid)
			if l != nil {
				_, err = l.TryAcquire(t.Context(), "k", ttl)
				require.ErrorIs(t, err, lock.ErrInvalid)
			}
			require.Error(t, lock.CheckReleaseAfter(l, time.Minute))
		})
	}
	require.ErrorIs(t, lock.ReleaseAfter(t.Context(), nil, time.Minute), lock.ErrInvalid)

	var noCtx context.Context
	f := &fakeLocker{}
	_, err := lock.Acquire(noCtx, f, "k", ttl, nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = lock.AcquireAll(noCtx, f, []string{"k"}, ttl, nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.Empty(t, f.attempts)
}

func TestWatchedAcquire(t *testing.T) {
	bubble("AsksAgainOnceTheWatchStandsSoThatNoReleaseIsMissed", t, func(t *testing.T) {
		w := &watchedLocker{}
		free := false
		w.watch = func() error { free = true; return nil } // released before notifications flow
		w.try = func(context.Context, int) error {
			if !free {
				return held
			}
			return nil
		}
		start := time.Now()
		_, err := lock.Acquire(t.Context(), w, "k", ttl, nil)
		require.NoError(t, err)
		require.Zero(t, time.Since(start))
		require.Equal(t, 1, w.stops)
	})
	bubble("DoesNotMissAWakeBetweenRefusalAndWait", t, func(t *testing.T) {
		w := &watchedLocker{}
		w.try = func(_ context.Context, n int) error {
			if n == 2 {
				select {
				case w.wake <- struct{}{}: // it never blocks
				default:
				}
			}
			if n < 3 {
				return held
			}
			return nil
		}
		start := time.Now()
		_, err := lock.Acquire(t.Context(), w, "k", ttl, nil)
		require.NoError(t, err)
		require.Zero(t, time.Since(start))
		require.Equal(t, 1, w.watches)
		require.Equal(t, 1, w.stops)
	})
	bubble("WakesWhileItWaits", t, func(t *testing.T) {
		w := &watchedLocker{}
		w.try = func(_ context.Context, n int) error {
			if n == 2 { // the watch stands
				wake := w.wake
				time.AfterFunc(300*time.Millisecond, func() { wake <- struct{}{} })
			}
			return until(3, held)(t.Context(), n)
		}
		start := time.Now()
		_, err := lock.Acquire(t.Context(), w, "k", ttl, nil)
		require.NoError(t, err)
		require.Equal(t, 300*time.Millisecond, time.Since(start))
	})
	bubble("AsksNowAndThenAlsoWithoutNews", t, func(t *testing.T) {
		w := &watchedLocker{}
		w.try = until(4, held)
		_, err := lock.Acquire(t.Context(), w, "k", ttl, &lock.AcquireOptions{Jitter: -1})
		require.NoError(t, err)
		require.Equal(t, []time.Duration{0, lock.DefaultPoll, lock.DefaultPoll}, w.gaps())
	})
	bubble("PollsWhereWatchingFailsAndTriesToWatchAgain", t, func(t *testing.T) {
		w := &watchedLocker{}
		w.watch = func() error {
			if w.watches < 3 {
				return errStore
			}
			return nil
		}
		w.try = until(5, held)
		_, err := lock.Acquire(t.Context(), w, "k", ttl, &lock.AcquireOptions{Jitter: -1})
		require.NoError(t, err)
		ms := time.Millisecond
		require.Equal(t, []time.Duration{50 * ms, 50 * ms, 0, lock.DefaultPoll}, w.gaps())
		require.Equal(t, 3, w.watches)
		require.Equal(t, 1, w.stops)
	})
	bubble("StopsTheWatchAlsoOnFailure", t, func(t *testing.T) {
		w := &watchedLocker{}
		w.try = always(held)
		_, err := lock.Acquire(t.Context(), w, "k", ttl, &lock.AcquireOptions{Timeout: time.Second})
		require.ErrorIs(t, err, lock.ErrHeld)
		require.Equal(t, 1, w.stops)
	})
}
