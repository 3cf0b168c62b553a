package memory

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// What nobody watches or waits for costs nothing: no queue, no timer.
func TestNothingStaysOfAQueueThatNobodyNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
		s := &l.store.shards[shardOf("k")]
		require.Empty(t, s.queues)

		stop1, err := l.Watch(t.Context(), "k", make(chan struct{}))
		require.NoError(t, err)
		stop2, err := l.Client("b").Watch(t.Context(), "k", make(chan struct{}))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = l.Await(ctx, "k", time.Minute, func(*lock.HeldError) {}) }()
		synctest.Wait()
		timer := s.queues["k"].timer
		require.NotNil(t, timer)
		stop1()
		stop2()
		require.Len(t, s.queues, 1)
		cancel()
		synctest.Wait()
		require.Empty(t, s.queues)
		require.False(t, timer.Stop(), "it was stopped")
		require.NoError(t, lease.Release(t.Context()))
		require.Empty(t, s.queues)

		// Handed over: the last request has left it.
		lease, err = l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
		go func() { _, _ = l.Await(t.Context(), "k", time.Minute, func(*lock.HeldError) {}) }()
		synctest.Wait()
		require.Len(t, s.queues, 1)
		require.NoError(t, lease.Release(t.Context()))
		require.Empty(t, s.queues)
	})
}
