package lockotel_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/lockotel"
)

// A histogram of attempts shows how quick the store is, and that of waits the waiting.
func TestTheTimeInAStoresQueueIsNotTheAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		store := memory.New()
		l := s.Observe(store.Client("b"))
		first, err := store.TryAcquire(t.Context(), key, time.Hour)
		require.NoError(t, err)
		time.AfterFunc(time.Minute, func() { _ = first.Release(context.Background()) })
		lease, err := lock.Acquire(t.Context(), l, key, ttl, nil)
		require.NoError(t, err)
		require.NoError(t, lease.Release(t.Context()))
		s.requireCount(1, "lock_attempt_duration_seconds", "lock_outcome", "ok")
		s.requireCount(1, "lock_attempt_duration_seconds", "lock_outcome", "held")
		_, took := s.value("lock_attempt_duration_seconds", "lock_outcome", "ok")
		require.Zero(t, took)
		_, waited := s.value("lock_wait_duration_seconds", "lock_outcome", "ok")
		require.InDelta(t, 60, waited, 0.1)
	})
}
