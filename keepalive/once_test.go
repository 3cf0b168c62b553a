package keepalive_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// starts runs starters of a job for some periods, each by a clock with its own phase and
// jitter, and returns when the job began.
func starts(t *testing.T, starters int, period, jitter time.Duration, job func(context.Context) error) []time.Time {
	const periods = 50
	var mu sync.Mutex
	var began []time.Time
	store := memory.New()
	var wg sync.WaitGroup
	start := time.Now()
	for i := range starters {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		phase := time.Duration(rng.Int64N(int64(period)))
		wg.Go(func() {
			locker := store.Client(fmt.Sprint("starter-", i))
			for n := range periods {
				time.Sleep(time.Until(start.Add(phase + time.Duration(n)*period + time.Duration(rng.Int64N(int64(jitter))))))
				ran, err := keepalive.Once(t.Context(), locker, "report", period, func(ctx context.Context) error {
					mu.Lock()
					began = append(began, time.Now())
					mu.Unlock()
					return job(ctx)
				})
				if err != nil && (!ran || !errors.Is(err, errJob)) {
					t.Errorf("starter %d: ran %v, %v", i, ran, err)
				}
			}
		})
	}
	wg.Wait()
	require.InDelta(t, periods, len(began), 2, "runs in %d periods", periods)
	return began
}

var errJob = errors.New("the job failed")

func TestFiveStartersOutOfStepRunOnceAPeriod(t *testing.T) {
	for name, job := range map[string]func(context.Context) error{
		"in a moment": func(context.Context) error { return nil },
		"that fails":  func(context.Context) error { return errJob },
		"that takes half the period": func(ctx context.Context) error {
			time.Sleep(30 * time.Second)
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := starts(t, 5, time.Minute, time.Second, job)
				for i := range began[1:] {
					require.GreaterOrEqual(t, began[i+1].Sub(began[i]), time.Minute)
				}
			})
		})
	}
}

// Its clock ticks a little early after a late tick: the key is still held, by itself.
func TestASingleStarterSkipsNoPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		starts(t, 1, time.Minute, 5*time.Second, func(context.Context) error { return nil })
	})
}

func TestOnceRefusesAPeriodThatCanNotBeKept(t *testing.T) {
	ran := func(context.Context) error { t.Error("it ran"); return nil }
	_, err := keepalive.Once(t.Context(), memory.New(), "k", 5, ran)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "nanoseconds")
	_, err = keepalive.Once(t.Context(), memory.New(), "k", time.Minute, nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = keepalive.Once(t.Context(), struct{ lock.Locker }{memory.New()}, "k", time.Minute, ran)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorIs(t, err, keepalive.ErrNotRun)
}

func TestWhatDidNotRunIsToldApartFromTheFunctionsOwnError(t *testing.T) {
	locker := memory.New()
	held, err := locker.TryAcquire(t.Context(), "held", time.Minute)
	require.NoError(t, err)
	once := &keepalive.Options{Acquire: &lock.AcquireOptions{Attempts: 1}}
	unreachable := func(context.Context) error { t.Error("it ran"); return nil }

	err = keepalive.Do(t.Context(), locker, "held", time.Minute, unreachable, once)
	require.ErrorIs(t, err, keepalive.ErrNotRun)
	require.ErrorIs(t, err, lock.ErrHeld)
	_, ok := errors.AsType[*lock.HeldError](err)
	require.True(t, ok)
	err = keepalive.Do(t.Context(), locker, "", time.Minute, unreachable, nil)
	require.ErrorIs(t, err, keepalive.ErrNotRun)
	require.ErrorIs(t, err, lock.ErrInvalid)
	err = keepalive.DoAll(t.Context(), locker, []string{"free", "held"}, time.Minute, unreachable, once)
	require.ErrorIs(t, err, keepalive.ErrNotRun)
	require.ErrorIs(t, err, lock.ErrHeld)

	// An fn whose own lock was refused, by this very package.
	nested := func(ctx context.Context) error {
		return keepalive.Do(ctx, locker, "held", time.Minute, unreachable, once)
	}
	for name, do := range map[string]func() error{
		"Do": func() error { return keepalive.Do(t.Context(), locker, "k", time.Minute, nested, nil) },
		"DoAll": func() error {
			return keepalive.DoAll(t.Context(), locker, []string{"k", "l"}, time.Minute, nested, nil)
		},
		"TryDo": func() error {
			ran, err := keepalive.TryDo(t.Context(), locker, "k", time.Minute, nested, nil)
			require.True(t, ran)
			return err
		},
	} {
		err := do()
		require.NotErrorIs(t, err, keepalive.ErrNotRun, name)
		require.ErrorIs(t, err, lock.ErrHeld, name)
	}
	require.NoError(t, held.Release(t.Context()))
}

func TestTryDoSkipsAHeldKeyAndNothingElse(t *testing.T) {
	locker := memory.New()
	n := 0
	count := func(context.Context) error { n++; return errJob }
	ran, err := keepalive.TryDo(t.Context(), locker, "k", time.Minute, count, nil)
	require.True(t, ran)
	require.ErrorIs(t, err, errJob)
	held, err := locker.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	ran, err = keepalive.TryDo(t.Context(), locker, "k", time.Minute, count, &keepalive.Options{Acquire: &lock.AcquireOptions{Attempts: 5}})
	require.False(t, ran)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, held.Release(t.Context()))
	ran, err = keepalive.TryDo(t.Context(), locker, "k", 0, count, nil)
	require.False(t, ran)
	require.ErrorIs(t, err, lock.ErrInvalid)
}

func TestDoAllRunsUnderEveryLockAndReleasesThem(t *testing.T) {
	locker := lock.Prefix(memory.New(), "app:")
	require.NoError(t, keepalive.DoAll(t.Context(), locker, []string{"b", "a", "b"}, time.Minute, func(ctx context.Context) error {
		for _, key := range []string{"a", "b"} {
			_, err := locker.TryAcquire(ctx, key, time.Minute)
			require.ErrorIs(t, err, lock.ErrHeld)
			require.NotZero(t, lock.TokenOf(ctx, key))
			require.Equal(t, lock.TokenOf(ctx, key), lock.TokenOf(ctx, "app:"+key))
		}
		return nil
	}, nil))
	for _, key := range []string{"a", "b"} {
		_, err := locker.TryAcquire(t.Context(), key, time.Minute)
		require.NoError(t, err)
	}
}
