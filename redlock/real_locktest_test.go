package redlock_test

import (
	"sync"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/internal/conformtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// The conformance suite over three real nodes. What the proxies can't cause (other
// clocks) is shown on fake time.
func TestRealConformance(t *testing.T) {
	servers := redistest.StartN(t, 3)
	type client struct{ proxies []*redistest.Proxy }
	var mu sync.Mutex
	clients := map[lock.Locker]client{}
	add := func(t *testing.T) lock.Locker {
		var c client
		var addrs []string
		for _, s := range servers {
			p := redistest.NewProxy(t, s.Addr())
			c.proxies, addrs = append(c.proxies, p), append(addrs, p.Addr())
		}
		o := throwaway()
		o.NodeTimeout = 2 * time.Second // a starved server misses less, and its late vote stands for LongTTL
		l := dialURLs(t, urls(addrs), o)
		mu.Lock()
		defer mu.Unlock()
		clients[l] = c
		return l
	}
	all := func(l lock.Locker, change func(p *redistest.Proxy)) {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range clients[l].proxies {
			change(p)
		}
	}
	conformtest.Locks(t, "redlock, three real nodes", locktest.Harness{
		New:  add,
		Peer: func(t *testing.T, _ lock.Locker) lock.Locker { return add(t) },
		TTL:  500 * time.Millisecond,
		Delay: func(_ *testing.T, l lock.Locker, d time.Duration) {
			all(l, func(p *redistest.Proxy) { p.Delay(d / 2) }) // there and back
		},
		Outage: func(_ *testing.T, l lock.Locker, on bool) {
			all(l, func(p *redistest.Proxy) {
				p.Blackhole(on)
				p.Reset()
			})
		},
		LoseReply: func(_ *testing.T, l lock.Locker) {
			all(l, func(p *redistest.Proxy) { p.LoseReply("EVALSHA") }) // not a client's PING
		},
		Break: func(_ *testing.T, _ lock.Locker, key string) {
			for _, s := range servers {
				s.Do("DEL", lockKey(key))
			}
		},
		Kill: func(_ *testing.T, l lock.Locker) {
			all(l, func(p *redistest.Proxy) { p.Blackhole(true) })
		},
		AllowSkips: []string{"Wrap", "Skew", "Cut", "Repeat", "Conflict", "StaleReads", "Delete", "Watcher"},
	})
}
