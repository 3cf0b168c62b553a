package keepalive_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestAKeepersHoldMayOutlastIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		lease, err := l.TryAcquire(t.Context(), "k", time.Second)
		require.NoError(t, err)
		start := time.Now()
		k, err := keepalive.Start(t.Context(), lease, time.Second, nil)
		require.NoError(t, err)
		require.ErrorIs(t, lock.ReleaseAfter(t.Context(), k, lock.MaxTTL+1), lock.ErrInvalid)
		time.Sleep(5 * time.Second)
		require.NoError(t, k.Context().Err(), "a refused ReleaseAfter ended the keeping")

		require.NoError(t, lock.ReleaseAfter(t.Context(), k, time.Minute))
		require.ErrorIs(t, k.Context().Err(), context.Canceled)
		require.Zero(t, k.Expiry())
		require.NoError(t, k.Release(t.Context()))
		time.Sleep(time.Until(start.Add(time.Minute - 1)))
		_, err = l.TryAcquire(t.Context(), "k", time.Second)
		require.ErrorIs(t, err, lock.ErrHeld)
		time.Sleep(time.Nanosecond)
		_, err = l.TryAcquire(t.Context(), "k", time.Second)
		require.NoError(t, err)
	})
}

func TestDoKeepsTheKeyForAtLeastThatLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		start := time.Now()
		ran := 0
		job := func(context.Context) error { ran++; return nil }
		opts := &keepalive.Options{AtLeast: time.Minute, Acquire: &lock.AcquireOptions{Attempts: 1}}
		require.NoError(t, keepalive.Do(t.Context(), l, "k", time.Second, job, opts))
		time.Sleep(time.Until(start.Add(time.Minute - 1)))
		require.ErrorIs(t, keepalive.Do(t.Context(), l, "k", time.Second, job, opts), lock.ErrHeld)
		time.Sleep(time.Nanosecond)
		require.NoError(t, keepalive.Do(t.Context(), l, "k", time.Second, job, opts))
		require.Equal(t, 2, ran)

		// What the store can't keep is refused before anything is asked.
		for _, l := range []lock.Locker{l, struct{ lock.Locker }{l}} {
			err := keepalive.Do(t.Context(), l, "other", time.Second, job, &keepalive.Options{AtLeast: lock.MaxTTL + 1})
			require.Error(t, err)
			require.NotErrorIs(t, err, lock.ErrHeld)
		}
		err := keepalive.Do(t.Context(), l, "other", time.Second, job, &keepalive.Options{AtLeast: 5})
		require.ErrorIs(t, err, lock.ErrInvalid)
		require.ErrorContains(t, err, "5*time.Second")
		require.Equal(t, 2, ran)
	})
}

func TestDoReleasesAlsoInTheLastMomentOfItsCtx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, keepalive.Do(ctx, l, "k", time.Minute, func(context.Context) error {
			time.Sleep(time.Second - time.Millisecond)
			l.Delay(10 * time.Millisecond)
			return nil
		}, nil))
		l.Delay(0)
		_, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
	})
}
