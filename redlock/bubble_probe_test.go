package redlock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// A node that restarted is asked whether it is durable, and then for its vote once more. The
// vote of an attempt that is over by then would only have to be freed again.
func TestAnAttemptThatEndsWhileANodeIsProbedAsksForNoOtherVote(t *testing.T) {
	for name, tc := range map[string]struct {
		vote string // the script that asks for it
		take func(ctx context.Context, l *Locker) (lock.Lease, error)
	}{
		"TryAcquire": {"acquire", func(ctx context.Context, l *Locker) (lock.Lease, error) { return l.TryAcquire(ctx, "k", ttl) }},
		"Await":      {"stand", func(ctx context.Context, l *Locker) (lock.Lease, error) { return l.Await(ctx, "k", ttl, noRefusal) }},
	} {
		for _, ends := range []time.Duration{time.Millisecond, 15 * time.Millisecond, time.Hour} {
			t.Run(name+"/"+ends.String(), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					q := newServers(t, 1)
					l, nets := q.client(nil)
					n := q.nodes[0]
					use(t, l) // agreed on the nodes, and connected
					synctest.Wait()
					n.restart(false)
					n.durable()
					before := n.seen(tc.vote)
					nets[0].set(func(w *network) { w.delay = 10 * time.Millisecond })
					ctx, cancel := context.WithTimeout(t.Context(), ends)
					defer cancel()
					lease, err := tc.take(ctx, l)
					time.Sleep(time.Second)
					synctest.Wait()
					if ends == time.Hour { // one that goes on has the vote
						require.NoError(t, err)
						require.Equal(t, 2, n.seen(tc.vote)-before)
						require.NoError(t, lease.Release(t.Context()))
					} else {
						require.Error(t, err)
						require.True(t, errors.Is(err, context.DeadlineExceeded) || errors.Is(err, lock.ErrUnavailable))
						require.Equal(t, 1, n.seen(tc.vote)-before)
					}
					nets[0].set(func(w *network) { w.delay = 0 })
					must(t)(l.TryAcquire(t.Context(), "k", ttl)) // nothing is left, and it has been proved durable
				})
			})
		}
	}
}
