package redlock

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// A node that was taken when the lease was extended grants it the claim afterwards.
func TestANodeThatGrantsALeaseAfterItsExtendIsExtendedAsWell(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		holder, nets := q.client(&Options{NodeTimeout: time.Second})
		l, _ := q.client(nil)
		held := must(t)(holder.TryAcquire(t.Context(), "k", time.Minute))
		got := make(chan lock.Lease, 1)
		go func() { got <- must(t)(l.Await(t.Context(), "k", 10*time.Second, noRefusal)) }()
		time.Sleep(50 * time.Millisecond)
		nets[2].set(func(w *network) { w.lateNext = 400 * time.Millisecond })
		require.NoError(t, held.Release(t.Context()))
		lease := <-got
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, q.nodes[0].value("k"), q.nodes[1].value("k"))
		require.NotEqual(t, q.nodes[0].value("k"), q.nodes[2].value("k"), "it has grown on two nodes")
		time.Sleep(1700 * time.Millisecond)
		require.Equal(t, q.nodes[0].value("k"), q.nodes[2].value("k"))
		require.NoError(t, lease.Release(t.Context()))
	})
}
