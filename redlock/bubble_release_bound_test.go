package redlock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// The nodes are slow: the caller of Release waits as long as it said, and the release
// is finished in the background.
func TestReleaseKeepsToItsCallersTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		lease := must(t)(l.TryAcquire(t.Context(), "k", time.Minute))
		for _, n := range nets {
			n.set(func(w *network) { w.delay = testNodeTimeout * 3 / 4 })
		}
		ctx, cancel := context.WithTimeout(t.Context(), testNodeTimeout/10)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, lease.Release(ctx), lock.ErrUnavailable)
		require.Equal(t, testNodeTimeout/10, time.Since(start))
		time.Sleep(2 * testNodeTimeout)
		synctest.Wait()
		q.free("k")
	})
}

func TestReleaseAfterKeepsToItsCallersTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		start := time.Now()
		lease := must(t)(l.TryAcquire(t.Context(), "k", time.Minute))
		synctest.Wait()
		for _, n := range nets {
			n.set(func(w *network) { w.delay = testNodeTimeout * 3 / 4 })
		}
		ctx, cancel := context.WithTimeout(t.Context(), testNodeTimeout/10)
		defer cancel()
		asked := time.Now()
		require.ErrorIs(t, lock.ReleaseAfter(ctx, lease, 30*time.Second), lock.ErrUnavailable)
		require.Equal(t, testNodeTimeout/10, time.Since(asked))
		time.Sleep(2 * testNodeTimeout)
		require.Error(t, ctx.Err())
		require.NoError(t, lock.ReleaseAfter(ctx, lease, 30*time.Second), "a ctx that has ended bounds nothing")
		synctest.Wait()
		for i := range q.nodes {
			require.GreaterOrEqual(t, q.left(i, "k"), time.Until(start.Add(30*time.Second)), "node %d", i)
		}
	})
}
