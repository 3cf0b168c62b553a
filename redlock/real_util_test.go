package redlock_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// Real servers, killed, stopped and cut off. Leases that must stand during a test
// have longTTL, which no test waits for; that something is freed early shows by
// testTimeout being much shorter. A busy machine can keep a process from its processor
// for seconds: nodeTimeout is longer, so that no node is silent but where a test wants it.
const (
	longTTL     = 10 * time.Minute
	testTimeout = 2 * time.Minute
	nodeTimeout = 5 * time.Second
)

// throwaway is for servers that were started just now, without durability.
func throwaway() *redlock.Options {
	return &redlock.Options{RestartGuard: -1, NodeTimeout: nodeTimeout}
}

// usual has the default node timeout, for tests in which nodes are silent.
func usual() *redlock.Options { return &redlock.Options{RestartGuard: -1} }

// guarded has the default guard.
func guarded() *redlock.Options { return &redlock.Options{NodeTimeout: nodeTimeout} }

func urls(addrs []string) []string {
	all := make([]string, len(addrs))
	for i, addr := range addrs {
		all[i] = "redis://" + addr
	}
	return all
}

func dial(t *testing.T, servers []*redistest.Server, o *redlock.Options) *redlock.Locker {
	t.Helper()
	return dialURLs(t, urls(redistest.Addrs(servers)), o)
}

func dialURLs(t *testing.T, urls []string, o *redlock.Options) *redlock.Locker {
	t.Helper()
	l, err := redlock.Dial(within(t, testTimeout), urls, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// dialError is why no quorum can be dialed: what the nodes say. A machine that is so busy that
// they don't come to say it gets more time.
func dialError(t *testing.T, urls []string, o *redlock.Options, says string) error {
	t.Helper()
	for wait := time.Second; ; wait *= 2 {
		l, err := redlock.Dial(within(t, wait), urls, o)
		require.Nil(t, l)
		require.Error(t, err)
		if strings.Contains(err.Error(), says) || wait > testTimeout/4 {
			return err
		}
	}
}

// within is a context for calls that must succeed: its end is a hang, not a
// measurement.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// acquire tries again: a busy machine can miss a node timeout. The lease is for the whole
// ttl at once, as those that were waited for are not.
func acquire(t *testing.T, l lock.Locker, key string, ttl time.Duration) lock.Lease {
	t.Helper()
	lease, err := lock.Acquire(within(t, testTimeout), l, key, ttl, &lock.AcquireOptions{Attempts: 1000})
	require.NoError(t, err)
	return lease
}

// extend tries until the store has an opinion, for the same reason.
func extend(t *testing.T, lease lock.Lease, ttl time.Duration) error {
	t.Helper()
	ctx := within(t, testTimeout)
	for {
		err := lease.Extend(ctx, ttl)
		if err == nil || errors.Is(err, lock.ErrLost) {
			return err
		}
		require.NoError(t, ctx.Err(), "no decision: %v", err)
	}
}

// release does not mind that a lease ended by itself before: one that was waited for begins
// with a second, for which a busy machine can stand still. One of longTTL never does.
func release(t *testing.T, lease lock.Lease) {
	t.Helper()
	ctx, expiry := within(t, testTimeout), lease.Expiry()
	for {
		err := lease.Release(ctx)
		if err == nil || errors.Is(err, lock.ErrLost) && !expiry.IsZero() && !time.Now().Before(expiry) {
			return
		}
		require.NotErrorIs(t, err, lock.ErrLost)
		require.NoError(t, ctx.Err(), "no decision: %v", err)
	}
}

func lockKey(key string) string  { return "redlock:" + key }
func fenceKey(key string) string { return redlock.FencePrefix + "{redlock:" + key + "}redlock:" + key }

// votes counts the servers that have a value for key.
func votes(servers []*redistest.Server, key string) int {
	n := 0
	for _, s := range servers {
		if s.Do("GET", lockKey(key)) != "" {
			n++
		}
	}
	return n
}

// eventually waits for what goes on in the background.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	require.Eventually(t, done, testTimeout, 5*time.Millisecond, what)
}

func standsOn(t *testing.T, servers []*redistest.Server, key string, want int) {
	t.Helper()
	eventually(t, "the lock's number of nodes", func() bool { return votes(servers, key) == want })
}

// settled returns when the lease stands on all servers, and nothing is under way for it: what
// is still to come of its acquire would bring back what a test takes away. Each node gets the
// extend behind all that, and it alone brings back the ttl.
func settled(t *testing.T, servers []*redistest.Server, lease lock.Lease, ttl time.Duration) {
	t.Helper()
	key := lockKey(lease.Key())
	standsOn(t, servers, lease.Key(), len(servers))
	for _, s := range servers {
		s.Do("PEXPIRE", key, strconv.FormatInt((ttl/2).Milliseconds(), 10))
	}
	eventually(t, "an extend on all nodes", func() bool {
		require.NoError(t, extend(t, lease, ttl))
		for _, s := range servers {
			if left, _ := strconv.Atoi(s.Do("PTTL", key)); time.Duration(left)*time.Millisecond < ttl*3/4 {
				return false
			}
		}
		return true
	})
}

// quick runs call and requires that it took far less than the node timeout, which
// is what a call costs that waits for a hung node.
func quick(t *testing.T, o *redlock.Options, what string, call func() error) {
	t.Helper()
	start := time.Now()
	require.NoError(t, call(), what)
	require.Less(t, time.Since(start), o.NodeTimeout/2, what)
}
