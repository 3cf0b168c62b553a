package redlock

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// left is how long node i keeps key.
func (q *quorum) left(i int, key string) time.Duration { return q.nodes[i].redis.TTL("redlock:" + key) }

// ends asserts that every node keeps key until then, and no longer than a clock that is
// fast by the drift needs.
func (q *quorum) ends(l *Locker, key string, until time.Time) {
	q.t.Helper()
	for i := range q.nodes {
		left, want := q.left(i, key), time.Until(until)
		require.GreaterOrEqual(q.t, left, want, "node %d", i)
		require.LessOrEqual(q.t, left, want+l.opts.drift(30*time.Second)+time.Millisecond, "node %d", i)
	}
}

func TestReleaseAfterEndsTheHoldAtThatTimeOnAllNodes(t *testing.T) {
	for name, extended := range map[string]time.Duration{"shortened": 50 * time.Second, "lengthened": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQuorum(t, 3)
				l, _ := q.client(nil)
				start := time.Now()
				lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
				time.Sleep(3 * time.Second)
				require.NoError(t, lease.Extend(t.Context(), extended))
				require.NoError(t, lock.ReleaseAfter(t.Context(), lease, 30*time.Second))
				synctest.Wait()
				q.ends(l, "k", start.Add(30*time.Second))
				require.NoError(t, l.Close()) // whatever becomes of the process
				time.Sleep(time.Until(start.Add(31 * time.Second)))
				q.free("k")
			})
		})
	}
}

// A late or doubled request of an extend that came before must not be needed, and one of
// the release itself ends the hold no earlier.
func TestReleaseAfterThatIsAskedAgainEndsTheHoldNoEarlier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		start := time.Now()
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		nets[0].set(refuse)
		nets[1].set(mute) // applied, reply lost
		require.ErrorIs(t, lock.ReleaseAfter(t.Context(), lease, 30*time.Second), lock.ErrUnavailable)
		nets[0].set(healthy)
		nets[1].set(func(w *network) { w.down = true })
		nets[1].set(healthy)
		time.Sleep(time.Second)
		require.NoError(t, lock.ReleaseAfter(t.Context(), lease, 30*time.Second))
		time.Sleep(time.Second)
		q.ends(l, "k", start.Add(30*time.Second))
		require.NoError(t, lease.Release(t.Context()), "it is finished")
		q.ends(l, "k", start.Add(30*time.Second))
		time.Sleep(30 * time.Second)
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestReleaseAfterReachesNodesThatWereDownOrHadLostTheLock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 5)
		l, nets := q.client(nil)
		start := time.Now()
		lease := must(t)(l.TryAcquire(t.Context(), "k", time.Minute))
		synctest.Wait()
		q.nodes[0].redis.Del("redlock:k")
		nets[1].set(refuse)
		require.NoError(t, lock.ReleaseAfter(t.Context(), lease, 20*time.Second))
		nets[1].set(healthy)
		time.Sleep(time.Second)
		q.ends(l, "k", start.Add(20*time.Second))
	})
}

// As for an extend: what such a node confirms, another may have forgotten.
func TestReleaseAfterIsNotConfirmedByNodesThatMayHaveForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		for _, n := range q.nodes {
			n.guarded(time.Hour)
		}
		l, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		q.nodes[0].restart(false)
		q.nodes[1].restart(false)
		err := lock.ReleaseAfter(t.Context(), lease, 30*time.Second)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "restarted lately")
	})
}

func TestReleaseAfterAboveTheGuardIsRefusedBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(&Options{RestartGuard: 40 * time.Second})
		require.NoError(t, lock.CheckReleaseAfter(l, 40*time.Second))
		require.ErrorIs(t, lock.CheckReleaseAfter(l, 41*time.Second), lock.ErrInvalid)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.ErrorIs(t, lock.ReleaseAfter(t.Context(), lease, 41*time.Second), lock.ErrInvalid)
		require.NoError(t, lease.Extend(t.Context(), ttl), "it is as it was")
		require.NoError(t, lock.ReleaseAfter(t.Context(), lease, 40*time.Second))
		synctest.Wait()
		for i := range q.nodes {
			require.LessOrEqual(t, q.left(i, "k"), 40*time.Second, "no promise is longer than the guard")
		}
		unguarded, _ := q.client(&Options{RestartGuard: -1})
		require.Equal(t, lock.MaxTTL, unguarded.MaxReleaseAfter())
	})
}

func TestReleaseAfterOfALockThatIsGoneIsALoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		q.nodes[0].redis.FlushAll()
		require.NoError(t, q.nodes[1].redis.Set("redlock:k", "another"))
		require.ErrorIs(t, lock.ReleaseAfter(t.Context(), lease, 30*time.Second), lock.ErrLost)
		synctest.Wait()
		require.NotEmpty(t, q.nodes[2].value("k"), "what is left keeps others out until then")
		require.Equal(t, "another", q.nodes[1].value("k"))
	})
}
