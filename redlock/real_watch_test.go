package redlock_test

import (
	"context"
	"fmt"
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

// never is an Acquire that polls so rarely that a test would not live to see it:
// what it gets, it gets by news.
func never() *lock.AcquireOptions {
	return &lock.AcquireOptions{Delay: longTTL, MaxDelay: longTTL}
}

// waiting starts an Acquire that news alone can end, and returns once it stands in
// line.
func waiting(t *testing.T, servers []*redistest.Server, l lock.Locker, key string) (wait func() lock.Lease) {
	t.Helper()
	before := standing(servers, key)
	got := make(chan lock.Lease, 1)
	ctx := within(t, patience)
	go func() {
		lease, err := lock.Acquire(ctx, l, key, longTTL, never())
		if err != nil {
			t.Error(err)
		}
		got <- lease
	}()
	eventually(t, "the waiter's place in line", func() bool { return standing(servers, key) > before })
	return func() lock.Lease {
		lease := <-got
		if lease == nil {
			t.FailNow()
		}
		return lease
	}
}

// standing is how many places there are in the queues of all servers.
func standing(servers []*redistest.Server, key string) int {
	n := 0
	for _, s := range servers {
		count, _ := strconv.Atoi(s.Do("ZCARD", queueKey(key)))
		n += count
	}
	return n
}

func queueKey(key string) string { return redlock.QueuePrefix + "{redlock:" + key + "}redlock:" + key }

// calls is how often the servers ran each command, without the tests' own.
func calls(servers []*redistest.Server) map[string]int {
	all := map[string]int{}
	for _, s := range servers {
		for line := range strings.Lines(s.Do("INFO", "commandstats")) {
			name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
			if ok {
				count, _, _ := strings.Cut(rest, ",")
				n, _ := strconv.Atoi(count)
				all[name] += n
			}
		}
	}
	return all
}

func TestRealWaitersHearThatALockIsFree(t *testing.T) {
	for name, free := range map[string]func(t *testing.T, servers []*redistest.Server, held lock.Lease){
		"ByItsRelease": func(t *testing.T, _ []*redistest.Server, held lock.Lease) { release(t, held) },
		"ByAnOperatorsDEL": func(_ *testing.T, servers []*redistest.Server, _ lock.Lease) {
			for _, s := range servers {
				s.Do("DEL", lockKey("k"))
			}
		},
		"ByAForeignClientsScript": func(_ *testing.T, servers []*redistest.Server, _ lock.Lease) {
			for _, s := range servers {
				s.Do("EVAL", "return redis.call('DEL', KEYS[1])", "1", lockKey("k"))
			}
		},
		"ByADELOnAQuorum": func(_ *testing.T, servers []*redistest.Server, _ lock.Lease) {
			for _, s := range servers[:2] {
				s.Do("DEL", lockKey("k"))
			}
		},
		"ByFLUSHALL": func(_ *testing.T, servers []*redistest.Server, _ lock.Lease) {
			for _, s := range servers {
				s.Do("FLUSHALL")
			}
		},
		"ByItsExpiry": func(_ *testing.T, servers []*redistest.Server, _ lock.Lease) {
			for _, s := range servers {
				s.Do("PEXPIRE", lockKey("k"), "50")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := redistest.StartN(t, 3)
			held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
			wait := waiting(t, servers, dial(t, servers, throwaway()), "k")
			free(t, servers, held)
			require.Greater(t, wait().Token(), held.Token())
		})
	}
}

func TestRealTheNextInLineIsWokenThoughOneWaiterDied(t *testing.T) {
	servers := redistest.StartN(t, 3)
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	for _, s := range servers { // it listens no more
		s.Do("ZADD", queueKey("k"), "0.5", "the dead")
	}
	wait := waiting(t, servers, dial(t, servers, throwaway()), "k")
	release(t, held)
	wait()
	eventually(t, "an empty line", func() bool { return standing(servers, "k") == 0 })
}

func TestRealWhoGivesUpLeavesTheLine(t *testing.T) {
	servers := redistest.StartN(t, 3)
	acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	ctx, cancel := context.WithCancel(within(t, patience))
	l := dial(t, servers, throwaway())
	done := make(chan error, 1)
	go func() {
		_, err := lock.Acquire(ctx, l, "k", longTTL, never())
		done <- err
	}()
	eventually(t, "the waiter's place in line", func() bool { return standing(servers, "k") == 3 })
	cancel()
	require.ErrorIs(t, <-done, lock.ErrHeld)
	eventually(t, "an empty line", func() bool { return standing(servers, "k") == 0 })
}

// The holder renews, the waiter waits: the servers see nothing but renewals, and
// the PINGs by which a connection shows that it lives.
func TestRealIdleWaitersCostNoCommands(t *testing.T) {
	servers := redistest.StartN(t, 3)
	held := acquire(t, dial(t, servers, throwaway()), "k", 3*time.Second)
	wait := waiting(t, servers, dial(t, servers, throwaway()), "k")
	standsOn(t, servers, "k", 3)
	eventually(t, "the waiter's last question", func() bool {
		before := calls(servers)["evalsha"]
		time.Sleep(200 * time.Millisecond) // a while in which it asks nothing
		return calls(servers)["evalsha"] == before
	})
	before, begun := calls(servers), time.Now()
	const renewals = 5
	for range renewals {
		time.Sleep(time.Second) // the time that passes between renewals
		require.NoError(t, extend(t, held, 3*time.Second))
	}
	eventually(t, "the last renewal's last node", func() bool {
		return calls(servers)["evalsha"]-before["evalsha"] >= renewals*len(servers)
	})
	after := calls(servers)
	require.Equal(t, renewals*len(servers), after["evalsha"]-before["evalsha"])
	// One each 0.9 s for news, and one a second of the client library on each of the two
	// connections for requests.
	pings := 1 + time.Since(begun)/(900*time.Millisecond) + 2*(1+time.Since(begun)/time.Second)
	require.LessOrEqual(t, after["ping"]-before["ping"], len(servers)*int(pings))
	for _, name := range []string{"publish", "zadd", "zrank", "subscribe", "client|tracking", "hello", "set"} {
		require.Equal(t, before[name], after[name], name)
	}
	release(t, held)
	wait()
}

func TestRealWaitersTakeTurns(t *testing.T) {
	servers := redistest.StartN(t, 3)
	const processes, terms = 6, 15
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for i := range processes {
		l := dial(t, servers, throwaway())
		wg.Go(func() {
			for range terms {
				lease, err := lock.Acquire(within(t, 2*patience), l, "k", longTTL, nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				if err := lease.Release(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	eventually(t, "everybody's place in line", func() bool { return standing(servers, "k") == processes*len(servers) })
	release(t, held)
	wg.Wait()
	require.Len(t, order, processes*terms)
	// Nobody is far ahead of the others at any time: a process that took the lock as
	// soon as it had released it would be done before some had it once.
	had := make([]int, processes)
	for at, i := range order {
		had[i]++
		least := had[0]
		for _, n := range had {
			least = min(least, n)
		}
		require.LessOrEqual(t, had[i]-least, terms-4, "after %d terms: %v", at+1, had)
	}
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
	l := dialURLs(t, urls(addrs), throwaway())
	ctx := within(t, patience)
	got := make(chan error, 1)
	go func() {
		_, err := lock.Acquire(ctx, l, "k", longTTL, nil)
		got <- err
	}()
	eventually(t, "the waiter's place in line", func() bool { return standing(servers, "k") == 3 })
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

// Where the server tells of no keys, waiters are still called when it is their turn.
func TestRealWaitersAreCalledWithoutTracking(t *testing.T) {
	servers := redistest.StartN(t, 3)
	for _, s := range servers {
		s.Do("ACL", "SETUSER", "keeper", "on", ">secret", "~*", "&*", "+@all", "-client", "+client|setname")
	}
	var as []string
	for _, s := range servers {
		as = append(as, fmt.Sprintf("redis://keeper:secret@%s", s.Addr()))
	}
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	wait := waiting(t, servers, dialURLs(t, as, throwaway()), "k")
	release(t, held)
	wait()
}

// Where it does neither, waiting is polling.
func TestRealWatchFailsWhereNewsAreForbidden(t *testing.T) {
	servers := redistest.StartN(t, 1)
	servers[0].Do("ACL", "SETUSER", "keeper", "on", ">secret", "~*", "resetchannels", "+@all", "-client", "+client|setname")
	l := dialURLs(t, []string{fmt.Sprintf("redis://keeper:secret@%s", servers[0].Addr())}, throwaway())
	_, err := l.Watch(within(t, patience), "k", make(chan struct{}, 1))
	require.ErrorIs(t, err, lock.ErrUnavailable)
	held := acquire(t, l, "k", longTTL)
	release(t, held)
}

func TestRealTheNewsConnectionIsClosedWhenNobodyWaits(t *testing.T) {
	servers := redistest.StartN(t, 1)
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	l := dial(t, servers, throwaway())
	clients := func() int { return strings.Count(servers[0].Do("CLIENT", "LIST"), "name=lockkeeper") }
	require.Equal(t, 2, clients())
	wait := waiting(t, servers, l, "k")
	require.Equal(t, 3, clients())
	release(t, held)
	wait()
	eventually(t, "the end of the third connection", func() bool { return clients() == 2 })
}

// It is called, and does not come: the others wait for one turn, once.
func TestRealAHungWaiterIsPassedOverOnce(t *testing.T) {
	servers := redistest.StartN(t, 3)
	var proxies []*redistest.Proxy
	var addrs []string
	for _, s := range servers {
		p := redistest.NewProxy(t, s.Addr())
		proxies, addrs = append(proxies, p), append(addrs, p.Addr())
	}
	held := acquire(t, dial(t, servers, throwaway()), "k", longTTL)
	hung := waiting(t, servers, dialURLs(t, urls(addrs), throwaway()), "k")
	for _, p := range proxies {
		p.Hold(true)
	}
	first := waiting(t, servers, dial(t, servers, throwaway()), "k")
	second := waiting(t, servers, dial(t, servers, throwaway()), "k")
	release(t, held)
	lease := first()
	eventually(t, "a line without the hung one", func() bool { return standing(servers, "k") == len(servers) })
	release(t, lease)
	lease = second()
	for _, p := range proxies {
		p.Hold(false)
	}
	eventually(t, "the place of the one that hung", func() bool { return standing(servers, "k") == len(servers) })
	release(t, lease)
	release(t, hung())
}

// Tens of thousands of waiters have died: a release stops the server for a moment only.
func TestRealReleaseOfAKeyWithManyDeadWaitersIsBounded(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := dial(t, []*redistest.Server{s}, throwaway())
	const dead = 1000
	args := []string{"ZADD", queueKey("k")}
	for i := range dead {
		args = append(args, strconv.Itoa(i+1), "dead"+strconv.Itoa(i))
	}
	s.Do(args...)
	for n := 1; n <= 2; n++ { // the lock is free, whatever is left of the queue
		release(t, acquire(t, l, "k", longTTL))
		require.Equal(t, strconv.Itoa(dead-100*n), s.Do("ZCARD", queueKey("k")))
	}
}

// Each prefix costs the server on every write.
func TestRealKeysThatWereWatchedAreForgottenWhileOthersAre(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := dial(t, []*redistest.Server{s}, throwaway())
	most := 0
	for i := range 300 {
		stop, err := l.Watch(within(t, patience), "key"+strconv.Itoa(1000+i), make(chan struct{}, 1))
		require.NoError(t, err)
		stop()
		_, after, _ := strings.Cut(s.Do("INFO", "stats"), "tracking_total_prefixes:")
		text, _, _ := strings.Cut(after, "\r")
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		most = max(most, n)
	}
	require.NotZero(t, most)
	require.LessOrEqual(t, most, 100)
}
