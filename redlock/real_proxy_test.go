package redlock_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// proxied starts n servers, each behind a proxy of its own.
func proxied(t *testing.T, n int) ([]*redistest.Server, []*redistest.Proxy, []string) {
	t.Helper()
	servers := redistest.StartN(t, n)
	proxies, addrs := make([]*redistest.Proxy, n), make([]string, n)
	for i, s := range servers {
		proxies[i] = redistest.NewProxy(t, s.Addr())
		addrs[i] = proxies[i].Addr()
	}
	return servers, proxies, urls(addrs)
}

// impatient has a short node timeout; its connections end after twice that.
func impatient() *redlock.Options {
	o := throwaway()
	o.NodeTimeout = time.Second
	return o
}

// connected makes sure that all nodes' connections stand. A lease that a busy node misses gets
// it only when it is extended.
func connected(t *testing.T, l *redlock.Locker, servers []*redistest.Server) {
	t.Helper()
	lease := acquire(t, l, "connected", longTTL)
	repairedOn(t, lease, servers)
	release(t, lease)
	standsOn(t, servers, "connected", 0)
}

func TestRealFaultOnTheWayIsSuccessOrLeavesNothing(t *testing.T) {
	t.Parallel()
	faults := map[string]struct {
		on, off func(p *redistest.Proxy)
	}{
		"requests lost":          {func(p *redistest.Proxy) { p.Blackhole(true) }, func(p *redistest.Proxy) { p.Blackhole(false) }},
		"replies lost":           {func(p *redistest.Proxy) { p.DropReplies(true) }, func(p *redistest.Proxy) { p.DropReplies(false) }},
		"held up":                {func(p *redistest.Proxy) { p.Hold(true) }, func(p *redistest.Proxy) { p.Hold(false) }},
		"above the node timeout": {func(p *redistest.Proxy) { p.Delay(impatient().NodeTimeout) }, func(p *redistest.Proxy) { p.Delay(0) }},
		"reset":                  {func(p *redistest.Proxy) { p.Reset() }, func(*redistest.Proxy) {}},
	}
	for name, fault := range faults {
		for _, n := range []int{1, 2, 3} {
			t.Run(name+"/"+string(rune('0'+n)), func(t *testing.T) {
				t.Parallel()
				servers, proxies, urls := proxied(t, 3)
				l := dialURLs(t, urls, impatient())
				connected(t, l, servers)
				for _, p := range proxies[:n] {
					fault.on(p)
				}
				lease, err := l.TryAcquire(within(t, testTimeout), "k", longTTL)
				for _, p := range proxies[:n] {
					fault.off(p)
				}
				if err == nil {
					release(t, lease)
				} else {
					require.ErrorIs(t, err, lock.ErrUnavailable)
				}
				standsOn(t, servers, "k", 0)
				// And what is late does not touch a later lease.
				lease = acquire(t, l, "k", longTTL)
				require.NoError(t, extend(t, lease, longTTL))
				release(t, lease)
				standsOn(t, servers, "k", 0)
			})
		}
	}
}

func TestRealCutOffHolderKeepsItsDeadlineAndExtendsAfterwards(t *testing.T) {
	t.Parallel()
	servers, proxies, urls := proxied(t, 3)
	l := dialURLs(t, urls, impatient())
	lease := acquire(t, l, "k", longTTL)
	settled(t, servers, lease, longTTL)
	expiry := lease.Expiry()
	for _, p := range proxies {
		p.Blackhole(true)
	}
	for range 3 {
		require.ErrorIs(t, lease.Extend(within(t, testTimeout), longTTL), lock.ErrUnavailable)
		require.Equal(t, expiry, lease.Expiry())
	}
	for _, p := range proxies {
		p.Blackhole(false)
	}
	require.NoError(t, extend(t, lease, longTTL))
	require.True(t, lease.Expiry().After(expiry))
}

func TestRealLeaseOfACutOffHolderEndsBeforeTheNextBegins(t *testing.T) {
	t.Parallel()
	servers, proxies, urls := proxied(t, 3)
	cut, other := dialURLs(t, urls, impatient()), dial(t, servers, throwaway())
	const ttl = 8 * time.Second // an extend that fails takes a second, and more on a busy machine
	lease := acquire(t, cut, "k", ttl)
	for _, p := range proxies {
		p.DropReplies(true) // one way only: its extends arrive
	}
	require.ErrorIs(t, lease.Extend(within(t, testTimeout), ttl), lock.ErrUnavailable)
	expiry := lease.Expiry()
	next := acquire(t, other, "k", ttl)
	require.False(t, time.Now().Before(expiry))
	require.Greater(t, next.Token(), lease.Token())
	require.ErrorIs(t, lease.Extend(within(t, testTimeout), ttl), lock.ErrLost)
}

func TestRealGrantThatTookLongerThanTheTTLIsNoLease(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} { // of three, the counts differ or not: one round or two
		servers, proxies, urls := proxied(t, n)
		o := throwaway()
		o.NodeTimeout = 20 * time.Second
		l := dialURLs(t, urls, o)
		connected(t, l, servers)
		for _, p := range proxies {
			p.Delay(200 * time.Millisecond) // 400 there and back
		}
		for try := 0; ; try++ {
			lease, err := l.TryAcquire(within(t, testTimeout), "k", 300*time.Millisecond)
			require.Nil(t, lease)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			if n != 1 || strings.Contains(err.Error(), "of the ttl of 300ms") {
				break
			}
			// It was over before a busy machine had sent it.
			require.Less(t, try, 10, "%v", err)
		}
	}
}

func TestRealSlowGrantDoesNotLengthenTheLease(t *testing.T) {
	t.Parallel()
	servers, proxies, urls := proxied(t, 3)
	o := throwaway()
	o.NodeTimeout = 20 * time.Second
	l := dialURLs(t, urls, o)
	connected(t, l, servers)
	for _, p := range proxies {
		p.Delay(200 * time.Millisecond)
	}
	const ttl = time.Minute
	start := time.Now()
	lease, err := l.TryAcquire(within(t, testTimeout), "k", ttl)
	require.NoError(t, err)
	answered := time.Now()
	require.GreaterOrEqual(t, answered.Sub(start), 400*time.Millisecond)
	require.True(t, lease.Expiry().Before(answered.Add(ttl-400*time.Millisecond)))
	require.NoError(t, lease.Extend(within(t, testTimeout), ttl))
	require.True(t, lease.Expiry().Before(time.Now().Add(ttl-400*time.Millisecond)))
}

// A client with several connections to a node, of which the one with the acquire
// is slow.
func TestRealCleanupNeverOvertakesTheAcquire(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	gate := &acquireGate{open: make(chan struct{}), caught: make(chan struct{}, 3)}
	clients := make([]rueidis.Client, len(servers))
	for i, s := range servers {
		c, err := rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{s.Addr()}, ForceSingleClient: true, DisableCache: true, DisableRetry: true,
			PipelineMultiplex: 3, DialCtxFn: gate.dial, // 8 connections
		})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		clients[i] = c
	}
	o := throwaway()
	o.NodeTimeout = testTimeout // it is ctx that ends it
	l, err := redlock.New(clients, o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(within(t, testTimeout))
	failed := make(chan error)
	go func() {
		_, err := l.TryAcquire(ctx, "k", longTTL)
		failed <- err
	}()
	for range servers {
		<-gate.caught // an acquire is on its way to each node
	}
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	for range 20 { // many times what a release takes that waits for nothing
		for _, s := range servers {
			s.Do("PING")
		}
	}
	close(gate.open)
	require.NoError(t, l.Close()) // returns when all requests have been answered
	for _, s := range servers {
		require.Equal(t, "1", s.Do("EXISTS", fenceKey("k")), "the acquire came")
		require.Empty(t, s.Do("GET", lockKey("k")), "and was cleaned up")
	}
}

// acquireGate holds back the first write of each server that speaks of the lock.
type acquireGate struct {
	open   chan struct{}
	caught chan struct{}
	seen   sync.Map // address: an acquire was caught
}

func (g *acquireGate) dial(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return gatedConn{conn, g, addr}, nil
}

type gatedConn struct {
	net.Conn
	gate *acquireGate
	addr string
}

func (c gatedConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(lockKey("k"))) {
		if _, before := c.gate.seen.LoadOrStore(c.addr, true); !before {
			c.gate.caught <- struct{}{}
			<-c.gate.open
		}
	}
	return c.Conn.Write(b)
}

// The votes came after the node timeout, but their connection still stands.
func TestRealVoteDelayedPastTheTimeoutLeavesNothing(t *testing.T) {
	t.Parallel()
	servers, proxies, urls := proxied(t, 3)
	for i := range urls {
		urls[i] += "?write_timeout=60s"
	}
	l := dialURLs(t, urls, impatient())
	connected(t, l, servers)
	for _, p := range proxies {
		p.Hold(true)
	}
	_, err := l.TryAcquire(within(t, testTimeout), "k", longTTL)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	standsOn(t, servers, "k", 0)
	for _, p := range proxies {
		p.Hold(false)
	}
	// Of a quorum: a connection that ended while the machine stood still had sent none.
	late := func() int {
		n := 0
		for _, s := range servers {
			if s.Do("EXISTS", fenceKey("k")) == "1" {
				n++
			}
		}
		return n
	}
	eventually(t, "the late votes", func() bool { return late() >= 2 })
	standsOn(t, servers, "k", 0)
}
