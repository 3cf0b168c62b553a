package redlock_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestRealLeaseStandsOnEveryNodeAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 4, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			servers := redistest.StartN(t, n)
			ours, theirs := dial(t, servers, throwaway()), dial(t, servers, throwaway())
			var last uint64
			for range 5 {
				lease := acquire(t, ours, "k", longTTL)
				require.Greater(t, lease.Token(), last)
				last = lease.Token()
				standsOn(t, servers, "k", n)
				_, err := theirs.TryAcquire(within(t, testTimeout), "k", longTTL)
				require.ErrorIs(t, err, lock.ErrHeld)
				require.NoError(t, extend(t, lease, longTTL))
				release(t, lease)
				standsOn(t, servers, "k", 0)
			}
		})
	}
}

// With one node less than a quorum gone, nothing is even slower.
func TestRealMinorityThatDiesOrHangsSlowsNothing(t *testing.T) {
	t.Parallel()
	faults := map[string]func(s *redistest.Server){
		"killed":       func(s *redistest.Server) { s.Kill() },
		"SIGSTOP":      func(s *redistest.Server) { s.Pause() },
		"CLIENT PAUSE": func(s *redistest.Server) { s.Do("CLIENT", "PAUSE", "600000", "ALL") },
		"DEBUG SLEEP": func(s *redistest.Server) {
			go func() { _, _ = s.Try("DEBUG", "SLEEP", "60") }() // ends with the server
		},
	}
	for name, fault := range faults {
		for _, n := range []int{3, 5} {
			t.Run(fmt.Sprint(name, "/", n), func(t *testing.T) {
				t.Parallel()
				servers := redistest.StartN(t, n)
				o := throwaway()
				o.NodeTimeout = 20 * time.Second
				l := dial(t, servers, o)
				held := acquire(t, l, "held", longTTL)
				standsOn(t, servers, "held", n)
				for _, s := range servers[:n-(n/2+1)] {
					fault(s)
				}
				ctx := context.Background()
				quick(t, o, "extend", func() error { return held.Extend(ctx, longTTL) })
				for i := range 5 {
					var lease lock.Lease
					quick(t, o, "acquire", func() (err error) {
						lease, err = l.TryAcquire(ctx, fmt.Sprint("k", i), longTTL)
						return err
					})
					quick(t, o, "extend", func() error { return lease.Extend(ctx, longTTL) })
					quick(t, o, "release", func() error { return lease.Release(ctx) })
				}
				quick(t, o, "release", func() error { return held.Release(ctx) })
			})
		}
	}
}

func TestRealMajorityThatDiedIsUnavailableAndFoundAgain(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			servers := redistest.StartN(t, n)
			l := dial(t, servers, throwaway())
			held := acquire(t, l, "held", longTTL)
			expiry := held.Expiry()
			dead := servers[:n/2+1]
			for _, s := range dead {
				s.Kill()
			}
			_, err := l.TryAcquire(within(t, testTimeout), "k", longTTL)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.NotErrorIs(t, err, lock.ErrHeld)
			for _, s := range dead {
				require.ErrorContains(t, err, "node "+s.Addr()+": ")
			}
			err = held.Extend(within(t, testTimeout), longTTL)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.NotErrorIs(t, err, lock.ErrLost)
			require.Equal(t, expiry, held.Expiry())
			for _, s := range dead {
				s.Restart(false)
			}
			acquire(t, l, "k", longTTL)
		})
	}
}

func TestRealMajorityThatHangsIsUnavailableWithinTheNodeTimeout(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	o := throwaway()
	o.NodeTimeout = 300 * time.Millisecond
	l := dial(t, servers, o)
	held := acquire(t, l, "held", longTTL)
	servers[0].Pause()
	servers[1].Pause()
	ctx := within(t, testTimeout)
	start := time.Now()
	_, err := l.TryAcquire(ctx, "k", longTTL)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "node "+servers[0].Addr()+": no answer within "+o.NodeTimeout.String())
	require.ErrorIs(t, held.Extend(ctx, longTTL), lock.ErrUnavailable)
	require.ErrorIs(t, held.Release(ctx), lock.ErrUnavailable)
	require.Less(t, time.Since(start), testTimeout/2)
	servers[0].Resume()
	servers[1].Resume()
	release(t, held)
	acquire(t, l, "again", longTTL) // the hung nodes may have got the request for k
}

// The connection may be given up while the node hangs: its requests are still in
// the node's socket, and run when it goes on.
func TestRealRequestsOfAHungNodeHoldForATTLAtMost(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	const ttl = 3 * time.Second
	// A vote that is still with the client when the node hangs is withdrawn: then there is
	// nothing to see, and it is tried again.
	for try := 0; ; try++ {
		o := throwaway()
		o.NodeTimeout = 200 * time.Millisecond // connections end after 400ms
		l := dial(t, servers, o)
		connected(t, l, servers)
		servers[0].Pause()
		key := fmt.Sprint("k", try)
		acquire(t, l, key, ttl)
		_ = acquire(t, l, key+"-released", ttl).Release(within(t, testTimeout)) // or it is over, on a busy machine
		require.NoError(t, l.Close())                                           // nothing comes after this
		servers[0].Resume()
		came := func() bool { return servers[0].Do("EXISTS", fenceKey(key)) == "1" }
		for end := time.Now().Add(2 * time.Second); !came() && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		for _, key := range []string{key, key + "-released"} {
			eventually(t, "the orphan's end", func() bool { return servers[0].Do("GET", lockKey(key)) == "" })
			// It stood for the ttl that was asked, or never; it is not there for good.
			require.Equal(t, "-2", servers[0].Do("PTTL", lockKey(key)))
		}
		if came() {
			return
		}
		require.Less(t, try, 10, "no late request in ten rounds")
	}
}

func TestRealWipedNodeIsRepairedByItsHolder(t *testing.T) {
	t.Parallel()
	wipes := map[string]func(s *redistest.Server){
		"FLUSHALL":   func(s *redistest.Server) { s.Do("FLUSHALL") },
		"DEL":        func(s *redistest.Server) { s.Do("DEL", lockKey("k")) },
		"PEXPIRE":    func(s *redistest.Server) { s.Do("PEXPIRE", lockKey("k"), "1") },
		"restart":    func(s *redistest.Server) { s.Restart(true) },
		"CLIENTKILL": func(s *redistest.Server) { s.Do("CLIENT", "KILL", "TYPE", "normal") },
		"SCRIPTS":    func(s *redistest.Server) { s.Do("SCRIPT", "FLUSH") },
	}
	for name, wipe := range wipes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := redistest.StartN(t, 3)
			l := dial(t, servers, throwaway())
			for _, s := range servers { // the nodes count alike: a count above the token is not repaired
				_, run, _ := strings.Cut(s.Do("INFO", "server"), "run_id:")
				s.Do("HSET", fenceKey("k"), "count", "1", "run", strings.Fields(run)[0])
			}
			lease := acquire(t, l, "k", longTTL)
			settled(t, servers, lease, longTTL)
			wipe(servers[1])
			eventually(t, "the repair", func() bool {
				require.NoError(t, extend(t, lease, longTTL))
				return votes(servers, "k") == 3
			})
			_, err := dial(t, servers, throwaway()).TryAcquire(within(t, testTimeout), "k", longTTL)
			require.ErrorIs(t, err, lock.ErrHeld)
			release(t, lease)
			standsOn(t, servers, "k", 0)
			require.Greater(t, acquire(t, l, "k", longTTL).Token(), lease.Token())
		})
	}
}

// An attempt that was granted there counted on, above the holder's token: the node
// is not repaired, and need not be.
func TestRealWipedNodeThatGrantedSinceLosesNothing(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	l, other := dial(t, servers, throwaway()), dial(t, servers, throwaway())
	lease := acquire(t, l, "k", longTTL)
	settled(t, servers, lease, longTTL)
	servers[1].Do("FLUSHALL")
	for range 3 {
		_, err := other.TryAcquire(within(t, testTimeout), "k", longTTL)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NoError(t, extend(t, lease, longTTL))
	}
	release(t, lease)
	require.Greater(t, acquire(t, other, "k", longTTL).Token(), lease.Token())
}

func TestRealLockDeletedOnAMajorityIsLostAtTheNextExtend(t *testing.T) {
	t.Parallel()
	losses := map[string][]string{"DEL": {"DEL", lockKey("k")}, "PEXPIRE": {"PEXPIRE", lockKey("k"), "1"}}
	for name, command := range losses {
		for _, n := range []int{1, 2, 3} {
			t.Run(fmt.Sprint(name, "/", n), func(t *testing.T) {
				servers := redistest.StartN(t, 3)
				l := dial(t, servers, throwaway())
				lease := acquire(t, l, "k", longTTL)
				settled(t, servers, lease, longTTL)
				for _, s := range servers[:n] {
					s.Do(command...)
				}
				standsOn(t, servers, "k", 3-n)
				err := extend(t, lease, longTTL)
				if n == 1 {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, lock.ErrLost)
				require.True(t, lease.Expiry().IsZero())
				standsOn(t, servers, "k", 3-n) // what is left keeps others out until the release
				require.ErrorIs(t, lease.Release(within(t, testTimeout)), lock.ErrLost)
				standsOn(t, servers, "k", 0)
				next := acquire(t, l, "k", longTTL)
				require.Greater(t, next.Token(), lease.Token())
				require.ErrorIs(t, lease.Release(within(t, testTimeout)), lock.ErrLost)
				standsOn(t, servers, "k", 3) // and the late release freed nothing
			})
		}
	}
}

func TestRealReleaseOfALockThatIsGoneIsLost(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	l := dial(t, servers, throwaway())
	lease := acquire(t, l, "k", longTTL)
	settled(t, servers, lease, longTTL)
	for _, s := range servers {
		s.Do("DEL", lockKey("k"))
	}
	next := acquire(t, l, "k", longTTL)
	require.ErrorIs(t, lease.Release(within(t, testTimeout)), lock.ErrLost)
	standsOn(t, servers, "k", 3)
	require.NoError(t, extend(t, next, longTTL))
}

func TestRealSplitVotesAreGivenBack(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	l := dial(t, servers, throwaway())
	for i, s := range servers[1:] { // two others have a node each
		s.Do("SET", lockKey("k"), fmt.Sprint("other", i), "PX", "600000")
	}
	_, err := l.TryAcquire(within(t, testTimeout), "k", longTTL)
	require.ErrorIs(t, err, lock.ErrHeld)
	eventually(t, "our vote to be free", func() bool { return servers[0].Do("GET", lockKey("k")) == "" })
	servers[1].Do("DEL", lockKey("k"))
	acquire(t, l, "k", longTTL) // a foreign value on one node stops nobody
	require.Equal(t, "other1", servers[2].Do("GET", lockKey("k")))
}

func TestRealContendersWhoSplitTheVotesSettle(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	const contenders = 5
	done := make(chan uint64, contenders)
	ctx := within(t, testTimeout)
	for range contenders {
		l := dial(t, servers, throwaway())
		go func() {
			lease, err := lock.Acquire(ctx, l, "k", longTTL, &lock.AcquireOptions{Delay: 5 * time.Millisecond, MaxDelay: 50 * time.Millisecond})
			if err != nil {
				done <- 0
				return
			}
			token := lease.Token()
			_ = lease.Release(ctx)
			done <- token
		}()
	}
	seen := map[uint64]bool{}
	for range contenders {
		token := <-done
		require.NotZero(t, token)
		require.False(t, seen[token], "token %d came twice", token)
		seen[token] = true
	}
}
