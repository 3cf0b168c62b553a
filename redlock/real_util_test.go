package redlock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// Real servers, killed, stopped and cut off. Leases that must stand during a test
// have longTTL, which no test waits for; that something is freed early shows by
// testTimeout being much shorter.
const (
	longTTL     = 10 * time.Minute
	testTimeout = 30 * time.Second
)

// throwaway is for servers that were started just now, without durability.
func throwaway() *redlock.Options { return &redlock.Options{RestartGuard: -1} }

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

func release(t *testing.T, lease lock.Lease) {
	t.Helper()
	ctx := within(t, testTimeout)
	for {
		err := lease.Release(ctx)
		if err == nil {
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

// quick runs call and requires that it took far less than the node timeout, which
// is what a call costs that waits for a hung node.
func quick(t *testing.T, o *redlock.Options, what string, call func() error) {
	t.Helper()
	start := time.Now()
	require.NoError(t, call(), what)
	require.Less(t, time.Since(start), o.NodeTimeout/2, what)
}
