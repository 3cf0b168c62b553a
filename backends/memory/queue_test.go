package memory

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What nobody watches costs nothing: no queue, no timer.
func TestNothingStaysOfAQueueThatNobodyWatches(t *testing.T) {
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
		timer := s.queues["k"].timer
		require.NotNil(t, timer)
		stop1()
		require.Len(t, s.queues, 1)
		stop2()
		require.Empty(t, s.queues)
		require.False(t, timer.Stop(), "it was stopped")
		require.NoError(t, lease.Release(t.Context()))
		require.Empty(t, s.queues)
	})
}
