package redlock

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/conformtest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// The conformance suite over whole quorums on fake time.
func TestConformanceInABubble(t *testing.T) {
	var mu sync.Mutex
	type client struct {
		q    *quorum
		nets []*network
	}
	clients := map[lock.Locker]client{}
	add := func(q *quorum) lock.Locker {
		l, nets := q.client(nil)
		mu.Lock()
		defer mu.Unlock()
		clients[l] = client{q, nets}
		return l
	}
	of := func(l lock.Locker) client {
		mu.Lock()
		defer mu.Unlock()
		return clients[l]
	}
	all := func(l lock.Locker, change func(w *network)) {
		for _, w := range of(l).nets {
			w.set(change)
		}
	}
	conformtest.Locks(t, "redlock, on fake time", locktest.Harness{
		New:  func(t *testing.T) lock.Locker { return add(newQuorum(t, 3)) },
		Peer: func(_ *testing.T, l lock.Locker) lock.Locker { return add(of(l).q) },
		Wrap: synctest.Test,
		Delay: func(_ *testing.T, l lock.Locker, d time.Duration) {
			all(l, func(w *network) { w.delay = d })
		},
		Outage: func(_ *testing.T, l lock.Locker, on bool) {
			synctest.Wait() // see LoseReply
			all(l, func(w *network) { w.down = on })
			time.Sleep(time.Millisecond) // nothing else takes any time here
		},
		LoseReply: func(_ *testing.T, l lock.Locker) {
			// A vote of the lease before may still be on its way, and is not what the case means:
			// a node without that is given the lock back, and then its token can't be raised.
			synctest.Wait()
			all(l, func(w *network) { w.loseNext = true })
		},
		Cut: func(_ *testing.T, l lock.Locker, n int) func() bool {
			all(l, func(w *network) { w.loseIn = n })
			return func() (hit bool) {
				all(l, func(w *network) { hit, w.loseIn = hit || w.loseIn == 0, 0 })
				return hit
			}
		},
		Delete: func(t *testing.T, l lock.Locker, key string) {
			synctest.Wait()
			k, err := l.(*Locker).keysOf(key)
			require.NoError(t, err)
			for _, n := range of(l).q.nodes {
				n.redis.Del(k.Lock)
				n.redis.Del(k.Fence)
			}
			time.Sleep(time.Millisecond) // a new counter starts from the node's clock, and requests take no time here
		},
		Break: func(_ *testing.T, l lock.Locker, key string) {
			synctest.Wait()
			for _, n := range of(l).q.nodes {
				n.redis.Del("redlock:" + key)
			}
		},
		Kill: func(_ *testing.T, l lock.Locker) {
			all(l, func(w *network) { w.down = true })
		},
		Skew: func(_ *testing.T, l lock.Locker, d time.Duration) {
			// miniredis' TTLs follow its clock, so that setting it would also pass time:
			// only what TIME reports is skewed.
			for _, n := range of(l).q.nodes {
				n.mu.Lock()
				n.skew = d
				n.mu.Unlock()
			}
		},
	})
}
