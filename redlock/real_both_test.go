package redlock_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// A fleet moves from three nodes to five, of which three are the same servers. The new
// quorum's locks have a prefix of their own there.
func TestRealAFleetMovesFromThreeNodesToFive(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 5)
	three := func() *redlock.Locker { return dial(t, servers[:3], throwaway()) }
	five := func() *redlock.Locker {
		o := throwaway()
		o.Prefix = "redlock5:"
		return dial(t, servers, o)
	}
	oldAlone, newAlone := three(), five()
	both, another := lock.Both(three(), five()), lock.Both(three(), five())

	var last uint64
	for step, l := range []lock.Locker{oldAlone, both, oldAlone, another, both, another, newAlone, both, newAlone, newAlone, another, oldAlone} {
		lease := acquire(t, l, "k", time.Minute)
		require.Greater(t, lease.Token(), last, "step %d", step)
		last = lease.Token()
		for _, other := range []lock.Locker{oldAlone, both, another, newAlone} {
			if l == oldAlone && other == newAlone || l == newAlone && other == oldAlone {
				continue // these two must never run side by side
			}
			_, err := other.TryAcquire(within(t, testTimeout), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrHeld, "step %d", step)
		}
		require.NoError(t, extend(t, lease, time.Minute))
		release(t, lease)
	}

	// With one prefix, the nodes say what is wrong.
	wrong := lock.Both(oldAlone, dial(t, servers, throwaway()))
	_, err := wrong.TryAcquire(within(t, testTimeout), "k", time.Minute)
	require.Error(t, err)
	require.NotErrorIs(t, err, lock.ErrLost)
	t.Log(err)
	lease, err := lock.Acquire(within(t, testTimeout), oldAlone, "k", time.Minute, nil)
	require.NoError(t, err)
	release(t, lease)
}

// Anyone who waits in both quorums stands in the queues of both, and is handed the key.
func TestRealBothWaitsInTheQueuesOfTwoQuorums(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 4)
	old := dial(t, servers[:1], throwaway())
	next := func() *redlock.Locker { return dial(t, servers[1:], throwaway()) }
	alone := next()
	held := acquire(t, alone, "k", time.Minute)
	got := make(chan lock.Lease)
	go func() {
		lease, err := lock.Acquire(within(t, testTimeout), lock.Both(old, next()), "k", time.Minute, nil)
		if err != nil {
			t.Error(err)
		}
		got <- lease
	}()
	require.Eventually(t, func() bool { // it has old, and stands in the queue of next
		info, err := old.Inspect(within(t, testTimeout), "k")
		return err == nil && info.Holder != ""
	}, testTimeout, 5*time.Millisecond)
	release(t, held)
	lease := <-got
	require.NotNil(t, lease)
	require.Greater(t, lease.Token(), held.Token())
	release(t, lease)
}
