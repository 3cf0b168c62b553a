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

func TestAKeeperKeepsASet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		set, err := lock.AcquireAll(t.Context(), l, []string{"b", "a"}, 10*time.Second, nil)
		require.NoError(t, err)
		k, err := keepalive.Start(t.Context(), set, 10*time.Second, nil)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, k.Context().Err())
		require.Equal(t, set.Leases()[0].Token(), lock.Token(k.Context()))

		// One key is taken away: the context ends with the next renewal.
		require.NoError(t, l.ForceRelease(t.Context(), "a", 0))
		<-k.Context().Done()
		require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
		for _, key := range []string{"a", "b"} {
			info, err := l.Inspect(t.Context(), key)
			require.NoError(t, err)
			require.Empty(t, info.Holder, key)
		}
	})
}

func TestAKeeperOfASemaphoreKeepsItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lock.Semaphore(memory.New(), 2)
		lease, err := l.TryAcquire(t.Context(), "k", 10*time.Second)
		require.NoError(t, err)
		k, err := keepalive.Start(t.Context(), lease, 10*time.Second, nil)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, k.Context().Err())
		for range 2 { // the other slot, again after it has expired
			other, err := l.TryAcquire(t.Context(), "k", time.Second)
			require.NoError(t, err)
			require.NotEqual(t, k.Key(), other.Key())
			time.Sleep(time.Second)
		}
		require.NoError(t, k.Release(t.Context()))
	})
}
