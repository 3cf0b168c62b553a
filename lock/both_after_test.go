package lock_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// The lease of old may have stood for long before next was granted.
func TestReleaseAfterOfBothKeepsTheKeyInEachStoreThoughOneWasWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := memory.New(), memory.New()
		other, err := next.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		time.AfterFunc(10*time.Minute, func() {
			if err := other.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
		lease, err := lock.Acquire(t.Context(), lock.Both(old, next), "k", time.Minute, nil)
		require.NoError(t, err)
		require.NoError(t, lock.ReleaseAfter(t.Context(), lease, 5*time.Minute))
		for name, store := range map[string]lock.Locker{"old": old, "next": next} {
			_, err = store.TryAcquire(t.Context(), "k", time.Minute)
			held, ok := errors.AsType[*lock.HeldError](err)
			require.True(t, ok, "%s: %v", name, err)
			require.Equal(t, 5*time.Minute, held.RetryAfter, name)
		}
	})
}
