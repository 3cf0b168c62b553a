package redlock

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The end of a connection says nothing of its last request: it can arrive after the
// release that followed it on another connection.
func TestARequestThatArrivesAfterItsReleaseLeavesNothing(t *testing.T) {
	for _, late := range []time.Duration{time.Millisecond, testNodeTimeout / 4, testNodeTimeout, testNodeTimeout * 7 / 5} {
		bubble(t, func(t *testing.T) {
			q := newQuorum(t, 3)
			l, nets := q.warm()
			nets[0].set(func(w *network) { w.lateNext = late })
			lease := must(t)(l.TryAcquire(t.Context(), "k", time.Minute))
			require.NoError(t, lease.Release(t.Context()))
			time.Sleep(2 * testNodeTimeout)
			synctest.Wait()
			q.free("k")
		})
	}
}
