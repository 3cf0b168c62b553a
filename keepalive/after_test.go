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
		time.Sleep(1)
		_, err = l.TryAcquire(t.Context(), "k", time.Second)
		require.NoError(t, err)
	})
}
