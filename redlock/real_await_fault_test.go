package redlock_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func TestRealADeadWaiterCostsNothing(t *testing.T) {
	least := time.Hour
	for range 5 { // a busy machine may need a claim's time by itself, but not each time
		if least = min(least, handOverBehindADeadWaiter(t)); least < claim/2 {
			return
		}
	}
	require.Less(t, least, claim/2)
}

// handOverBehindADeadWaiter is how long a hand-over takes to the waiter behind a dead one.
func handOverBehindADeadWaiter(t *testing.T) time.Duration {
	servers := redistest.StartN(t, 3)
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	var proxies []*redistest.Proxy
	var addrs []string
	for _, s := range servers {
		p := redistest.NewProxy(t, s.Addr())
		proxies, addrs = append(proxies, p), append(addrs, p.Addr())
	}
	o := throwaway()
	o.NodeTimeout = 500 * time.Millisecond
	dead, err := redlock.Dial(within(t, testTimeout), urls(addrs), o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(within(t, testTimeout))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = lock.Acquire(ctx, dead, "k", longTTL, nil) // over what a busy machine takes for an outage
	}()
	eventually(t, "its request, with notifications", func() bool {
		for _, s := range servers {
			if !strings.Contains(s.Do("HVALS", askedKey("k")), redlock.WakePrefix) {
				return false
			}
		}
		return true
	})
	for _, p := range proxies {
		p.Close()
	}
	wait := waiting(t, servers, dial(t, servers, throwaway()), "k")
	start := time.Now()
	release(t, held)
	lease := wait()
	took := time.Since(start)
	eventually(t, "an empty queue", func() bool { return queued(servers, "k") == 0 })
	cancel()
	<-ended
	require.NoError(t, dead.Close())
	release(t, lease)
	return took
}

// It is granted, and does not come: the others wait for its claim, once.
func TestRealAHungWaiterCostsAClaimOnce(t *testing.T) {
	servers := redistest.StartN(t, 3)
	var proxies []*redistest.Proxy
	var addrs []string
	for _, s := range servers {
		p := redistest.NewProxy(t, s.Addr())
		proxies, addrs = append(proxies, p), append(addrs, p.Addr())
	}
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	hung := dialURLs(t, urls(addrs), usual())
	ctx, cancel := context.WithCancel(within(t, testTimeout))
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = lock.Acquire(ctx, hung, "k", longTTL, nil) })
	eventually(t, "its request", func() bool { return queued(servers, "k") == 3 })
	first := waiting(t, servers, dial(t, servers, throwaway()), "k")
	second := waiting(t, servers, dial(t, servers, throwaway()), "k")
	for _, p := range proxies {
		p.Hold(true)
	}
	release(t, held)
	lease := first()
	release(t, lease)
	release(t, second())
	cancel()
	for _, p := range proxies {
		p.Hold(false)
	}
	wg.Wait()
	eventually(t, "nothing of it", func() bool { return queued(servers, "k")+votes(servers, "k") == 0 })
}

func TestRealWaitersOutliveABlackout(t *testing.T) {
	servers := redistest.StartN(t, 3)
	var proxies []*redistest.Proxy
	var addrs []string
	for _, s := range servers {
		p := redistest.NewProxy(t, s.Addr())
		proxies, addrs = append(proxies, p), append(addrs, p.Addr())
	}
	acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	l := dialURLs(t, urls(addrs), usual())
	ctx := within(t, testTimeout)
	got := make(chan error, 1)
	go func() {
		_, err := lock.Acquire(ctx, l, "k", longTTL, nil)
		got <- err
	}()
	eventually(t, "the waiter's request", func() bool { return queued(servers, "k") == 3 })
	for _, p := range proxies {
		p.Blackhole(true)
	}
	for _, s := range servers {
		s.Do("DEL", lockKey("k"))
	}
	time.Sleep(2 * time.Second) // the black-out
	for _, p := range proxies {
		p.Blackhole(false)
	}
	start := time.Now()
	require.NoError(t, <-got)
	t.Logf("%v after the connections' return", time.Since(start))
}

// Whatever a server refuses, waiting works: by asking.
func TestRealWaitingWorksWhateverANodeRefuses(t *testing.T) {
	for name, rules := range map[string][]string{
		"notifications": {"~*", "resetchannels", "+@all"},
		"to publish":    {"~*", "&*", "+@all", "-publish"},
		"to subscribe":  {"~*", "&*", "+@all", "-subscribe"},
		"the queue":     {"~redlock:*", "~lockkeeper:fence:*", "~lockkeeper:agreed:*", "&*", "+@all"},
		"queueing":      {"~*", "&*", "+@all", "-zadd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := redistest.StartN(t, 3)
			var as []string
			for _, s := range servers {
				s.Do(append([]string{"ACL", "SETUSER", "keeper", "on", ">secret"}, rules...)...)
				as = append(as, fmt.Sprintf("redis://keeper:secret@%s", s.Addr()))
			}
			one, two := dialURLs(t, as, throwaway()), dialURLs(t, as, throwaway())
			h, err := one.Health(within(t, testTimeout))
			require.NoError(t, err)
			require.True(t, h.HasQuorum())
			for _, n := range h.Nodes {
				said := slices.ContainsFunc(n.Warnings, func(w string) bool { return strings.Contains(w, "those who wait") })
				require.True(t, said, "%v", n.Warnings)
			}
			held := acquire(t, one, "k", longTTL)
			got := make(chan lock.Lease, 1)
			waits := make(chan struct{}, 1)
			go func() {
				lease, err := lock.Acquire(within(t, testTimeout), two, "k", longTTL, &lock.AcquireOptions{OnWait: func(error) {
					select {
					case waits <- struct{}{}:
					default:
					}
				}})
				if err != nil {
					t.Error(err)
				}
				got <- lease
			}()
			select {
			case <-waits:
			case lease := <-got:
				t.Fatalf("it did not wait: %v", lease)
			}
			release(t, held)
			lease := <-got
			require.NotNil(t, lease)
			release(t, lease)
		})
	}
}

// lines are a log's messages.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(line))
	return len(line), nil
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.all {
		if strings.Contains(line, what) {
			n++
		}
	}
	return n
}

func TestRealANodeThatMayNotQueueIsNoOutageAndNeedsNoVoteLess(t *testing.T) {
	servers := redistest.StartN(t, 3)
	as := urls(redistest.Addrs(servers))
	servers[1].Do("ACL", "SETUSER", "keeper", "on", ">secret", "~*", "&*", "+@all", "-zadd")
	as[1] = "redis://keeper:secret@" + servers[1].Addr()
	log := new(lines)
	o := throwaway()
	o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	l := dialURLs(t, as, o)
	got := make(chan lock.Lease, 1)
	go func() {
		lease, err := l.Await(within(t, testTimeout), "k", longTTL, func(*lock.HeldError) {})
		if err != nil {
			t.Error(err)
		}
		got <- lease
	}()
	eventually(t, "its request on the others", func() bool { return queued(servers, "k") == 2 })
	noted := func() bool { return log.count("keeps no queue of waiters") > 0 }
	eventually(t, "the refusal of the third, which may be slower than the two", noted)
	release(t, held)
	lease := <-got
	require.NotNil(t, lease)
	standsOn(t, servers, "k", 3)
	release(t, lease)
	require.NoError(t, l.Close())
	require.Equal(t, 1, log.count("keeps no queue of waiters"), "it is said once")
	require.Zero(t, log.count("level=WARN"), "%s", log.all)
}

// Tens of thousands of waiters have died: a release stops the server for a moment only.
func TestRealReleaseOfAKeyWithManyDeadWaitersIsBounded(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := dial(t, []*redistest.Server{s}, throwaway())
	const dead = 1000
	held := acquire(t, l, "k", longTTL)
	args := []string{"ZADD", queueKey("k")}
	for i := range dead {
		args = append(args, strconv.Itoa(i+1), "dead"+strconv.Itoa(i))
	}
	s.Do(args...)
	s.Do("HSET", fenceKey("k"), "standing", "1")
	release(t, held)
	left, err := strconv.Atoi(s.Do("ZCARD", queueKey("k")))
	require.NoError(t, err)
	require.Positive(t, left, "it stops somewhere")
	require.Less(t, left, dead, "and goes on each time")
	for range 15 {
		release(t, acquire(t, l, "k", longTTL))
	}
	require.Equal(t, "0", s.Do("ZCARD", queueKey("k")))
}

// Not even where the connections carry other requests than votes (edge 15.6).
func TestRealAHandOverDoesNotWaitForANodeThatHangs(t *testing.T) {
	servers := redistest.StartN(t, 3)
	o := throwaway()
	o.NodeTimeout = 20 * time.Second
	one, two := dial(t, servers, o), dial(t, servers, o)
	held := acquire(t, one, "k", longTTL)
	wait := waiting(t, servers, two, "k")
	for _, l := range []*redlock.Locker{one, two} {
		_, err := l.Inspect(within(t, testTimeout), "k")
		require.NoError(t, err)
	}
	servers[2].Pause()
	start := time.Now()
	release(t, held)
	lease := wait()
	require.Less(t, time.Since(start), o.NodeTimeout/2)
	servers[2].Resume()
	require.NoError(t, lease.Release(within(t, testTimeout)))
}
