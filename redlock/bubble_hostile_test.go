package redlock

import (
	"context"
	"math"
	"net"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// clusterOfOne is a Locker on a one-server Redis Cluster.
func clusterOfOne(t *testing.T, o *Options) (*Locker, *miniredis.Miniredis) {
	m := miniredis.RunT(t)
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{m.Addr()}, DisableCache: true, DisableRetry: true})
	require.NoError(t, err)
	require.Equal(t, rueidis.ClientModeCluster, c.Mode())
	l, err := New([]rueidis.Client{c}, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		c.Close()
		require.NoError(t, l.Close())
	})
	return l, m
}

// A client library that is given two slots panics: such keys never reach it.
func TestAKeyThatAClusterCantKeepIsRefusedEverywhere(t *testing.T) {
	l, m := clusterOfOne(t, nil)
	ctx := context.Background()
	_, err := l.TryAcquire(ctx, "a}b", ttl)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = l.Inspect(ctx, "a}b")
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorIs(t, l.ForceRelease(ctx, "a}b", 0), lock.ErrInvalid)
	require.ErrorIs(t, l.ForceRelease(ctx, "a}b", 1), lock.ErrInvalid)
	require.NoError(t, m.Set("redlock:a}b", "somebody's"))
	require.NoError(t, m.Set("redlock:c", "somebody's"))
	require.Equal(t, []string{"c"}, list(t, l, ""), "what no client can lock is no lock")

	odd, _ := clusterOfOne(t, &Options{Prefix: "odd}"})
	h, err := odd.Health(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, h.Nodes[0].Err, lock.ErrInvalid)
}

// Without a prefix a key could have the name of another key's counter.
func TestAKeyCantBeAnothersFenceCounter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		for prefix, o := range map[string]*Options{"": {NoPrefix: true}, "lockkeeper:": {Prefix: "lockkeeper:"}} {
			l, _ := q.client(o)
			k, _ := script.NewKeys(prefix, "x")
			_, err := l.TryAcquire(t.Context(), k.Fence[len(prefix):], ttl)
			require.ErrorIs(t, err, lock.ErrInvalid)
			lease := must(t)(l.TryAcquire(t.Context(), "x", ttl))
			require.NoError(t, lease.Release(t.Context()))
		}
	})
}

// net's own dial timeouts match context.DeadlineExceeded.
func TestANodesTimeoutIsNotTheEndOfTheCallersContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		for _, w := range nets {
			w.set(func(w *network) {
				w.down, w.refusal = true, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
			})
		}
		_, _ = l.TryAcquire(t.Context(), "k", ttl) // meets the broken connections
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "dial tcp")
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		_, err = l.Inspect(t.Context(), "k")
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NotErrorIs(t, err, context.DeadlineExceeded)

		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = l.Inspect(cancelled, "k")
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, l.ForceRelease(cancelled, "k", 0), context.Canceled)
	})
}

func TestAHungNodeDoesNotHoldAttemptsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		nets[0].set(hang)
		start := time.Now()
		for i := range node.MaxBacklog * 3 / 2 {
			lease := must(t)(l.TryAcquire(t.Context(), strconv.Itoa(i), ttl))
			require.NoError(t, lease.Release(t.Context()))
		}
		require.Zero(t, time.Since(start))
	})
}

func TestAHungNodeGathersNoMoreThanItsShareOfRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		nets[0].set(hang)
		before := runtime.NumGoroutine()
		var leases []lock.Lease
		for i := range node.MaxBacklog * 3 / 2 {
			if i == node.MaxBacklog { // else it counts as slow
				time.Sleep(testNodeTimeout)
			}
			leases = append(leases, must(t)(l.TryAcquire(t.Context(), strconv.Itoa(i), ttl)))
		}
		synctest.Wait()
		require.EqualValues(t, node.MaxBacklog, l.nodes[0].InFlight())
		require.LessOrEqual(t, runtime.NumGoroutine()-before, maxPausing+10)
		for _, lease := range leases {
			require.NoError(t, lease.Release(t.Context()))
		}
		synctest.Wait()
		require.LessOrEqual(t, l.nodes[0].InFlight(), int64(2), "what was sent; the other votes are wanted no more")
		time.Sleep(10 * testNodeTimeout)
		require.Zero(t, l.nodes[0].InFlight(), "the end of the connection ends it, and its release")
	})
}

// A caller's client does not say whether a request was sent before its connection failed,
// so that each vote is followed by a release, after a pause.
func TestADeadNodeGathersNoMoreThanItsShareOfReleases(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		nets[0].set(refuse)
		before := runtime.NumGoroutine()
		for i := range node.MaxBacklog * 3 {
			lease := must(t)(l.TryAcquire(t.Context(), strconv.Itoa(i), ttl))
			synctest.Wait()
			require.NoError(t, lease.Release(t.Context()))
		}
		synctest.Wait()
		require.LessOrEqual(t, runtime.NumGoroutine()-before, node.MaxBacklog+10)
		time.Sleep(10 * testNodeTimeout)
		require.Zero(t, l.nodes[0].InFlight())
		require.Zero(t, l.nodes[0].Pausing())
	})
}

func TestLongDurationsAreNotWrappedAround(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", 1: "1", time.Millisecond: "1", time.Millisecond + 1: "2", math.MaxInt64: "9223372036855",
	} {
		require.Equal(t, script.Millis(want), script.ToMillis(d))
	}
	for guard, want := range map[time.Duration]string{
		time.Millisecond: "2", time.Second: "2", time.Second + 1: "3", time.Minute: "61", -1: "0",
	} {
		require.Equal(t, want, (&Options{RestartGuard: guard}).leastUptime())
	}
	for _, o := range []Options{
		{RestartGuard: math.MaxInt64, Retention: math.MaxInt64}, {NodeTimeout: math.MaxInt64},
	} {
		_, err := o.withDefaults(1)
		require.ErrorIs(t, err, lock.ErrInvalid)
	}
}

// A count rises under a held lock only by its holder's own commits: a server that
// always answers one more is lying.
func TestANodeThatRaisesEveryTokenEndsTheAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		for i, n := range q.nodes {
			k, _ := script.NewKeys("redlock:", "k")
			n.redis.HSet(k.Fence, "count", strconv.Itoa(100*(i+1)), "run", "-")
		}
		l, _ := q.client(nil)
		use(t, l) // so that nothing else is sent beside the commits
		var lies atomic.Int64
		for _, n := range q.nodes[:2] {
			n.redis.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
				if cmd != "EVALSHA" || scriptNames[args[0]] != "commit" {
					return false
				}
				c.WriteInt(int(1000 + lies.Add(1)))
				return true
			})
		}
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		synctest.Wait()
		require.Less(t, lies.Load(), int64(20))
		q.free("k")
	})
}

// Inspect shows no token where too few nodes agree on it; then nobody can say that
// another term has the key.
func TestForceReleaseOfATermThatCantBeToldApartIsUnavailable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		k, _ := script.NewKeys("redlock:", "k")
		q.nodes[0].redis.HSet(k.Fence, "count", "9000000000000000")
		nets[1].set(refuse)
		err := l.ForceRelease(t.Context(), "k", lease.Token())
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NotErrorIs(t, err, lock.ErrHeld)
	})
}

// owned makes l close its clients itself, as one that Dial made.
func owned(l *Locker) {
	l.owned = true
}

func TestCloseFinishesTheCleanupOfACancelledAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		owned(l)
		for _, w := range nets {
			w.set(func(w *network) { w.delay = 100 * time.Millisecond })
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		_, err := l.TryAcquire(ctx, "k", ttl)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, l.Close())
		q.free("k")
	})
}

func TestCloseDuringAnAttemptLeavesNothingHeld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		owned(l)
		for _, w := range nets[1:] {
			w.set(hang)
		}
		go func() {
			time.Sleep(testNodeTimeout / 2)
			_ = l.Close()
		}()
		lease, err := l.TryAcquire(t.Context(), "k", ttl)
		require.Nil(t, lease)
		require.Error(t, err)
		require.NoError(t, l.Close(), "it waits for the one under way")
		q.free("k")
	})
}

func TestCloseIsBoundedWithNodesThatHang(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		owned(l)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		for _, w := range nets {
			w.set(hang)
		}
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrUnavailable)
		start := time.Now()
		require.NoError(t, l.Close())
		require.LessOrEqual(t, time.Since(start), testNodeTimeout+time.Second)
	})
}
