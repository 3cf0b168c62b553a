package redlock_test

import (
	"context"
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

func TestRealWhateverFreesTheLockLetsAWaiterHaveIt(t *testing.T) {
	for name, free := range map[string]func(t *testing.T, servers []*redistest.Server, held lock.Lease){
		"ARelease": func(t *testing.T, _ []*redistest.Server, held lock.Lease) { release(t, held) },
		"AnOperatorsForceRelease": func(t *testing.T, servers []*redistest.Server, _ lock.Lease) {
			require.NoError(t, dial(t, servers, throwaway()).ForceRelease(within(t, testTimeout), "k", 0))
		},
		"ADEL": func(_ *testing.T, servers []*redistest.Server, _ lock.Lease) {
			for _, s := range servers {
				s.Do("DEL", lockKey("k"))
			}
		},
		"ADELOnAQuorum": func(_ *testing.T, servers []*redistest.Server, _ lock.Lease) {
			for _, s := range servers[:2] {
				s.Do("DEL", lockKey("k"))
			}
		},
		"FLUSHALL": func(_ *testing.T, servers []*redistest.Server, _ lock.Lease) {
			for _, s := range servers {
				s.Do("FLUSHALL")
			}
		},
		"ItsExpiry": func(_ *testing.T, servers []*redistest.Server, _ lock.Lease) {
			for _, s := range servers {
				s.Do("PEXPIRE", lockKey("k"), "50")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := redistest.StartN(t, 3)
			held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
			settled(t, servers, held, longTTL)
			wait := waiting(t, servers, dial(t, servers, throwaway()), "k")
			free(t, servers, held)
			require.Greater(t, wait().Token(), held.Token())
		})
	}
}

// A hand-over is one message to each node and, to the next holder, one from each.
func TestRealAHandOverCostsTheSameHoweverManyWait(t *testing.T) {
	servers := redistest.StartN(t, 3)
	const waiters = 12
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	var waits []func() lock.Lease
	for range waiters {
		waits = append(waits, waiting(t, servers, dial(t, servers, throwaway()), "k"))
	}
	published := func() int { return calls(servers)["publish"] }
	notifiable(t, servers, "k")
	next, compared := inTurn(t, waits), 0
	for i := range waits {
		before := published()
		undisturbed := prompt(servers, func() {
			release(t, held)
			held, _ = next()
		})
		eventually(t, "the lease on all nodes", func() bool { return queued(servers, "k") <= (waiters-i-1)*len(servers) })
		if undisturbed {
			compared++
			require.Equal(t, len(servers), published()-before, "the others receive nothing")
		}
	}
	require.Positive(t, compared)
	release(t, held)
}

func TestRealWhoWaitsLongestIsNext(t *testing.T) {
	servers := redistest.StartN(t, 3)
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	l := []*redlock.Locker{dial(t, servers, throwaway()), dial(t, servers, throwaway()), dial(t, servers, throwaway())}
	var waits []func() lock.Lease
	for i := range l {
		waits = append(waits, waiting(t, servers, l[i], "k"))
	}
	v, err := l[0].View(within(t, testTimeout), "k")
	require.NoError(t, err)
	require.Len(t, v.Waiters, 3)
	notifiable(t, servers, "k")
	next, last, ordered := inTurn(t, waits), held.Token(), 0
	for i := range waits {
		by := 0
		if prompt(servers, func() {
			release(t, held)
			held, by = next()
		}) {
			require.Equal(t, i, by)
			ordered++
		}
		require.Greater(t, held.Token(), last)
		last = held.Token()
	}
	require.Positive(t, ordered)
	release(t, held)
}

func TestRealWhoGivesUpLeavesNothing(t *testing.T) {
	servers := redistest.StartN(t, 3)
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	ctx, cancel := context.WithCancel(within(t, testTimeout))
	l := dial(t, servers, throwaway())
	done := make(chan error, 1)
	go func() {
		_, err := l.Await(ctx, "k", longTTL, func(*lock.HeldError) {})
		done <- err
	}()
	eventually(t, "its request", func() bool { return queued(servers, "k") == 3 })
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	eventually(t, "an empty queue", func() bool { return queued(servers, "k") == 0 })
	release(t, held)
	standsOn(t, servers, "k", 0)
}

func TestRealCloseEndsAWait(t *testing.T) {
	servers := redistest.StartN(t, 3)
	acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	l, err := redlock.Dial(within(t, testTimeout), urls(redistest.Addrs(servers)), throwaway())
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := l.Await(within(t, testTimeout), "k", longTTL, func(*lock.HeldError) {})
		done <- err
	}()
	eventually(t, "its request", func() bool { return queued(servers, "k") == 3 })
	start := time.Now()
	require.NoError(t, l.Close())
	if time.Since(start) < time.Second { // else it gave up what a busy machine had not answered
		require.Zero(t, queued(servers, "k"))
	}
	require.ErrorIs(t, <-done, lock.ErrClosed)
}

// The holder renews, the waiter waits: besides renewals and PINGs the servers see a refresh
// of the request, all 0.4 s.
func TestRealAnIdleWaiterCostsItsRefreshesOnly(t *testing.T) {
	servers := redistest.StartN(t, 3)
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	settled(t, servers, held, longTTL)
	wait := waiting(t, servers, dial(t, servers, throwaway()), "k")
	listenedTo(t, servers)
	asked := func(calls map[string]int) int { return calls["evalsha"] + calls["fcall"] }
	first := asked(calls(servers))
	eventually(t, "refreshes", func() bool { return asked(calls(servers)) > first+3*len(servers) })
	var begun time.Time
	var before, after map[string]int
	for try := 0; ; try++ {
		connections := connectionsOf(servers...)
		begun, before = time.Now(), calls(servers)
		for range 3 {
			time.Sleep(time.Second) // between renewals
			require.NoError(t, extend(t, held, longTTL))
		}
		after = calls(servers)
		if slices.Equal(connections, connectionsOf(servers...)) {
			break
		}
		// A machine that stood still for longer than a heartbeat may take.
		require.Less(t, try, 5, "connections come and go")
	}
	most := len(servers) * (3 + int(time.Since(begun)/(350*time.Millisecond)) + 2)
	require.LessOrEqual(t, asked(after)-asked(before), most)
	for _, name := range []string{"publish", "subscribe", "client|tracking", "hello", "set"} {
		require.Equal(t, before[name], after[name], name)
	}
	release(t, held)
	wait()
}

func TestRealALeaseThatStartsShortGrowsAndStandsOnAllNodes(t *testing.T) {
	servers := redistest.StartN(t, 3)
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	wait := waiting(t, servers, dial(t, servers, throwaway()), "k")
	l := dial(t, servers, throwaway())
	release(t, held)
	lease := wait()
	grown := func() bool { return time.Until(lease.Expiry()) > longTTL/2 }
	for try := 0; ; try++ {
		eventually(t, "the whole ttl", func() bool { return grown() || !time.Now().Before(lease.Expiry()) })
		if grown() {
			break
		}
		require.Less(t, try, 5, "it ends after its first second") // for which the machine may stand still
		held = acquire(t, dial(t, servers, throwaway()), "k", longTTL)
		wait = waiting(t, servers, l, "k")
		release(t, held)
		lease = wait()
	}
	for _, s := range servers {
		eventually(t, "the whole ttl on every node", func() bool {
			left, _ := strconv.Atoi(s.Do("PTTL", lockKey("k")))
			return time.Duration(left)*time.Millisecond > longTTL/2
		})
	}
	release(t, lease)
	require.True(t, lease.Expiry().IsZero())
}

func TestRealTheConnectionForNotificationsServesAllKeysAndIsNotMadeWithoutNeed(t *testing.T) {
	servers := redistest.StartN(t, 1)
	l := dial(t, servers, throwaway())
	clients := func() int { return strings.Count(servers[0].Do("CLIENT", "LIST"), "name=lockkeeper") }
	for range 3 {
		release(t, acquire(t, l, "free", longTTL))
	}
	// A connection that takes long to be made is tried once more beside it, and one of both ends.
	eventually(t, "one connection: nobody waited", func() bool { return clients() == 1 })
	one := acquire(t, dial(t, servers, throwaway()), "one", longTTL)
	two := acquire(t, dial(t, servers, throwaway()), "two", longTTL)
	first, second := waiting(t, servers, l, "one"), waiting(t, servers, l, "two")
	eventually(t, "one more, for both keys", func() bool { return clients() == 4 })
	release(t, one)
	release(t, two)
	first()
	second()
}

// The waiters of keys that begin with each other do not wake each other (edge 15.11), nor do those
// of another database of the same server (15.10).
func TestRealOtherKeysAndDatabasesConcernNobody(t *testing.T) {
	servers := redistest.StartN(t, 3)
	held := acquire(t, dial(t, servers, throwaway()), "k1", longTTL)
	var mu sync.Mutex
	asked := 0
	o := throwaway()
	o.OnRequest = func(string, time.Duration, error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
	}
	wait := waiting(t, servers, dial(t, servers, o), "k1")
	listenedTo(t, servers)
	var elsewhere []string
	for _, u := range urls(redistest.Addrs(servers)) {
		elsewhere = append(elsewhere, u+"/1")
	}
	other, away := dial(t, servers, throwaway()), dialURLs(t, elsewhere, throwaway())
	begun := time.Now()
	mu.Lock()
	asked = 0
	mu.Unlock()
	for i := range 100 {
		release(t, acquire(t, other, "k10"+strconv.Itoa(i%3), longTTL))
		release(t, acquire(t, away, "k1", longTTL))
	}
	mu.Lock()
	refreshes := int(time.Since(begun)/(350*time.Millisecond)) + 1
	require.LessOrEqual(t, asked, len(servers)*(refreshes+1))
	mu.Unlock()
	for _, s := range servers { // the holder has died
		s.Do("PEXPIRE", lockKey("k1"), "300")
	}
	start := time.Now()
	for range 20 {
		renewed := acquire(t, away, "k1", longTTL)
		require.NoError(t, extend(t, renewed, longTTL))
		release(t, renewed)
	}
	require.Greater(t, wait().Token(), held.Token())
	t.Logf("%v after its crash", time.Since(start))
}

// Sixteen processes take turns: nobody is overtaken by who came later, but for the split votes of
// a burst.
func TestRealWaitersTakeTurns(t *testing.T) {
	servers := redistest.StartN(t, 3)
	const processes, terms = 8, 25
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for i := range processes {
		l := dial(t, servers, throwaway())
		wg.Go(func() {
			for range terms {
				lease, err := l.Await(within(t, 2*testTimeout), "k", longTTL, func(*lock.HeldError) {})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				release(t, lease)
			}
		})
	}
	eventually(t, "everybody's request", func() bool { return queued(servers, "k") == processes*len(servers) })
	release(t, held)
	wg.Wait()
	require.Len(t, order, processes*terms)
	// A process that took the lock as soon as it had released it would be done before some
	// had it once.
	had, apart := make([]int, processes), 0
	for _, i := range order {
		had[i]++
		apart = max(apart, had[i]-slices.Min(had))
	}
	t.Log("apart", apart)
	require.LessOrEqual(t, apart, terms/4)
}

func TestRealAReleaseHandsTheLockOver(t *testing.T) {
	servers := redistest.StartN(t, 3)
	a, b := dial(t, servers, throwaway()), dial(t, servers, throwaway())
	var took []time.Duration
	for range 100 {
		held := acquire(t, a, "k", longTTL)
		eventually(t, "an empty queue", func() bool { return queued(servers, "k") == 0 })
		wait := waiting(t, servers, b, "k")
		start := time.Now()
		release(t, held)
		lease := wait()
		took = append(took, time.Since(start))
		require.Greater(t, lease.Token(), held.Token())
		release(t, lease)
	}
	slices.Sort(took)
	t.Logf("from release to lease: p50 %v, p99 %v", took[50], took[98])
}
