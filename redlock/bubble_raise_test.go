package redlock

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

func TestARaisedTokenIsOnAllNodesAndWhatFollowsIsAboveIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(&Options{RestartGuard: -1})
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		expiry, least := lease.Expiry(), lease.Token()+1000
		require.NoError(t, lock.RaiseToken(t.Context(), lease, least))
		require.Equal(t, least, lease.Token())
		require.Equal(t, expiry, lease.Expiry())
		synctest.Wait()
		for _, n := range q.nodes {
			require.Equal(t, strconv.FormatUint(least, 10), n.count("k"))
		}
		// A node that comes back empty is given the lock with the raised token.
		k, _ := script.NewKeys("redlock:", "k")
		q.nodes[0].restart(true)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		synctest.Wait()
		require.Equal(t, strconv.FormatUint(least, 10), q.nodes[0].redis.HGet(k.Fence, "count"))
		require.NoError(t, lease.Release(t.Context()))
		next := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.Greater(t, next.Token(), least)
		require.NoError(t, next.Release(t.Context()))
	})
}

// A repair can bring the lock back to a node that has granted the very count to another
// meanwhile: a commit after it would endorse that for both. (The model's RaiseRepaired.)
func TestATokenIsNotRaisedAfterARepair(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(&Options{RestartGuard: -1})
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		q.nodes[0].restart(true)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		synctest.Wait()
		require.Equal(t, 1, q.seen("repair"))
		token := lease.Token()
		err := lock.RaiseToken(t.Context(), lease, token+1000)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "acquire the key anew")
		require.Equal(t, token, lease.Token())
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.NoError(t, lease.Release(t.Context()))
		lease = must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lock.RaiseToken(t.Context(), lease, token+1000))
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestATokenIsRaisedByAQuorumOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(&Options{RestartGuard: -1})
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		token := lease.Token()
		for _, n := range nets[:2] {
			n.set(func(n *network) { n.hang = true })
		}
		require.ErrorIs(t, lock.RaiseToken(t.Context(), lease, token+1000), lock.ErrUnavailable)
		require.Equal(t, token, lease.Token())
		for _, n := range nets[:2] {
			n.set(func(n *network) { n.hang = false })
		}
		time.Sleep(time.Second) // the connections that hung have been given up
		require.NoError(t, lock.RaiseToken(t.Context(), lease, token+500))
		require.Contains(t, []uint64{token + 500, token + 1000}, lease.Token(), "one node has counted further, and may be of the quorum")
		require.ErrorIs(t, lock.RaiseToken(t.Context(), lease, maxRaise+1), lock.ErrInvalid)
		require.NoError(t, lease.Release(t.Context()))
	})
}
