package redlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Who takes a lock for a time and lets it run out never releases it.
func TestAWaitWhoseLeaseRanOutIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		for range 20 {
			must(t)(l.Await(t.Context(), "k", time.Second, noRefusal))
			time.Sleep(2 * time.Second)
		}
		time.Sleep(10 * time.Second)
		lease := must(t)(l.Await(t.Context(), "k", time.Second, noRefusal))
		require.Less(t, len(l.pushes.all()), 5)
		require.NoError(t, lease.Release(t.Context()))
	})
}
