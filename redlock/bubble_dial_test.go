package redlock

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeconn"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

func TestAConnectionIsReplacedWithinAMinuteOrSoAndFindsAMovedName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, moved := newQuorum(t, 1), newFakeNode(t, "moved")
		l, roads := q.dialed(nil)
		require.NoError(t, l.connect(t.Context()))
		take := func(key string) *fakeNode {
			lease := must(t)(l.TryAcquire(t.Context(), key, ttl))
			defer lease.Release(t.Context())
			for _, n := range []*fakeNode{q.nodes[0], moved} {
				if n.value(key) != "" {
					return n
				}
			}
			return nil
		}
		require.Same(t, q.nodes[0], take("a"))
		w := &network{node: moved}
		defer w.set(refuse)
		roads[0].set(func(r *road) { r.to = w }) // the old server lives on
		time.Sleep(2 * nodeconn.MaxAge)
		require.Same(t, moved, take("b"))
		synctest.Wait() // until the old ones are closed
		require.Zero(t, q.nodes[0].redis.CurrentConnectionCount(), "the old ones are closed")
		require.Equal(t, 1, moved.redis.CurrentConnectionCount(), "and all but the last one of the new server's")
		require.LessOrEqual(t, roads[0].dialed(), 4)
		require.NoError(t, l.Close())
	})
}

func TestAReplacedConnectionAnswersWhatIsUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, roads := q.dialed(&Options{NodeTimeout: 10 * time.Second})
		require.NoError(t, l.connect(t.Context()))
		require.NoError(t, must(t)(l.TryAcquire(t.Context(), "first", ttl)).Release(t.Context()))
		roads[0].to.set(func(w *network) { w.delay = time.Second })
		old := l.nodes[0].Conn.Replaced()
		var renewed sync.WaitGroup
		time.AfterFunc(500*time.Millisecond, func() {
			if l.begin(1) == nil {
				renewed.Go(func() { defer l.wg.Done(); require.True(t, l.nodes[0].Conn.Renew()) })
			}
		})
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl)) // begins on the old one
		time.Sleep(5 * time.Second)
		renewed.Wait()
		<-old // there is another one
		synctest.Wait()
		require.Equal(t, 1, q.nodes[0].redis.CurrentConnectionCount(), "the old one is closed")
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestAReplacedConnectionThatCannotBeMadeAnewGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, roads := q.dialed(nil)
		require.NoError(t, l.connect(t.Context()))
		nowhere := &network{node: q.nodes[0], down: true}
		roads[0].set(func(r *road) { r.to = nowhere })
		before := roads[0].dialed()
		for range 20 {
			time.Sleep(nodeconn.MaxAge / 2)
			lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
			require.NoError(t, lease.Release(t.Context()))
		}
		tried := roads[0].dialed() - before
		require.Greater(t, tried, 20, "it goes on trying")
		require.Less(t, tried, 20*60/2)
	})
}

func TestAServerThatIsWrongIsLeftAtOnceAndWithoutABurst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, promoted := newQuorum(t, 1), newFakeNode(t, "promoted")
		l, roads := q.dialed(nil)
		require.NoError(t, l.connect(t.Context()))
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lease.Release(t.Context()))
		replica(q.nodes[0])
		before := roads[0].dialed()
		for range 3000 {
			_, err := l.TryAcquire(t.Context(), "k", ttl)
			require.ErrorContains(t, err, "READONLY")
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, roads[0].dialed()-before, 12, "in half a minute, of 3000 that failed")
		require.GreaterOrEqual(t, roads[0].dialed()-before, 5)

		w := &network{node: promoted}
		defer w.set(refuse)
		roads[0].set(func(r *road) { r.to = w })
		start := time.Now()
		lease, err := lock.Acquire(t.Context(), l, "k", ttl, nil)
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(start), 2*nodeconn.MaxRenew)
		require.NotEmpty(t, promoted.value("k"))
		require.NoError(t, lease.Release(t.Context()))

		time.Sleep(2 * nodeconn.MaxAge) // then the next one is left at once, again
		replica(promoted)
		roads[0].set(func(r *road) { r.to = &network{node: newFakeNode(t, "third")} })
		_, err = l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorContains(t, err, "READONLY")
		synctest.Wait()
		lease = must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lease.Release(t.Context()))
		require.NoError(t, l.Close())
		roads[0].to.set(refuse)
	})
}

func TestAnErrorSaysWhetherAnotherServerMayBeBetter(t *testing.T) {
	for text, want := range map[string]bool{
		"READONLY You can't write against a read only replica.":                                                                          true,
		"READONLY You can't write against a read only replica. script: 12ab, on @user_script:1.":                                         true,
		"Error running script (call to f_12ab): @user_script:8: @user_script: 8: -READONLY You can't write against a read only replica.": true,
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.":                                               true,
		"MOVED 12 h:1": true, "ASK 12 h:1": true, "CLUSTERDOWN Hash slot not served": true,
		"NOREPLICAS Not enough good replicas to write.": true, "LOADING Redis is loading the dataset in memory": true,
		"MISCONF Redis is configured to save RDB snapshots": true, "NOAUTH Authentication required.": true,
		"OOM command not allowed when used memory > 'maxmemory'.": false, "NOPERM this user has no permissions": false,
		"WRONGTYPE Operation against a key": false, "unknown command 'READONLY'": false, "a READONLY in the middle": false, "": false,
	} {
		refused := textError(t, text)
		require.Equal(t, want, nodeerr.LeadsAstray(refused), text)
	}
	require.False(t, nodeerr.LeadsAstray(context.Canceled))
}

// A name server that is dead costs each look-up seconds, and no node its vote for good.
func TestASlowLookUpDelaysANodeAndTakesNoVoteAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, slow := range []time.Duration{time.Second, 5 * time.Second, 10 * time.Second} {
			q := newQuorum(t, 3)
			l, roads := q.dialed(&Options{NodeTimeout: time.Second})
			for _, r := range roads {
				r.set(func(r *road) { r.slow = slow })
			}
			start := time.Now()
			require.NoError(t, l.connect(t.Context()), "without a deadline, once, but to the end: %v", slow)
			require.LessOrEqual(t, time.Since(start), slow+2*time.Second)

			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			late, roadsOfLate := q.dialed(&Options{NodeTimeout: time.Second})
			for _, r := range roadsOfLate {
				r.set(func(r *road) { r.slow = slow })
			}
			require.NoError(t, late.connect(ctx))

			time.Sleep(slow + 2*time.Second)
			lease := must(t)(l.TryAcquire(t.Context(), "k", time.Minute))
			for _, r := range roads { // all connections break, and servers are well
				r.to.set(refuse)
				r.to.set(func(w *network) { w.down = false })
			}
			extended := start
			for end := time.Now().Add(slow + 3*time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
				err := lease.Extend(t.Context(), time.Minute)
				if err == nil {
					extended = time.Now()
					break
				}
				require.ErrorIs(t, err, lock.ErrUnavailable)
				if slow > 2*time.Second {
					require.Regexp(t, `EOF|closed|still looking up node.example \(DNS\)`, err.Error())
				}
			}
			require.True(t, extended.After(start), "the leader goes on")
			dials := 0
			for _, r := range roads {
				dials += r.dialed()
			}
			require.LessOrEqual(t, dials, 3*2*(6+2))
			require.NoError(t, lease.Release(t.Context()))
		}
	})
}

// With each look-up taking two thirds of the ttl, there is no time to lose.
func TestALostConnectionIsMadeAnewBeforeItIsNeeded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, roads := q.dialed(&Options{NodeTimeout: time.Second})
		require.NoError(t, l.connect(t.Context()))
		time.Sleep(time.Second)
		const ttl = 15 * time.Second
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		time.Sleep(time.Second) // it stands on all
		for _, r := range roads {
			r.set(func(r *road) { r.slow = 10 * time.Second })
			r.to.set(refuse)
			r.to.set(func(w *network) { w.down = false })
		}
		for lease.Expiry().After(time.Now()) {
			time.Sleep(500 * time.Millisecond)
			if time.Until(lease.Expiry()) > 8*time.Second {
				continue // as a keeper, which renews at half the ttl
			}
			if err := lease.Extend(t.Context(), ttl); err == nil {
				require.NoError(t, lease.Release(t.Context()))
				return
			}
		}
		t.Fatal("the lease is lost, although all servers are well")
	})
}

func TestHealthSaysWhatConnectingTakesAndWaitsForItAsAttemptsDo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, roads := q.dialed(&Options{NodeTimeout: time.Second})
		roads[0].set(func(r *road) { r.slow = 4 * time.Second })
		soon, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		h, err := l.Health(soon)
		require.NoError(t, err)
		require.ErrorContains(t, h.Nodes[0].Err, "still looking up node.example (DNS)")
		_, err = lock.Acquire(soonAfter(t, 2*time.Second), l, "k", ttl, nil)
		require.NoError(t, err, "what health began is there for others: at 4s it is connected")
		time.Sleep(time.Second)
		h, err = l.Health(t.Context())
		require.NoError(t, err)
		require.NoError(t, h.Nodes[0].Err)
		require.Contains(t, strings.Join(h.Nodes[0].Warnings, "\n"), "to connect took 4s, 4s of it to look up its name (DNS)")
	})
}

// TCP and TLS take two round trips of 0.3s, and each answer one.
func TestAFarNodeReconnectsAsItConnects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, roads := q.dialed(&Options{NodeTimeout: time.Second})
		far := roads[0].to
		far.set(func(w *network) { w.delay = 300 * time.Millisecond })
		roads[0].set(func(r *road) { r.slow = 600 * time.Millisecond })
		require.NoError(t, l.connect(t.Context()))
		for range 5 {
			far.set(refuse)
			far.set(func(w *network) { w.down = false })
			lease, err := lock.Acquire(t.Context(), l, "k", time.Minute, &lock.AcquireOptions{Timeout: 10 * time.Second})
			require.NoError(t, err)
			require.NoError(t, lease.Release(t.Context()))
		}
		require.Less(t, roads[0].dialed(), 5*6)
	})
}

func TestAServerThatHungUpOnceIsNotTakenForOneWithoutHello(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, roads := q.dialed(nil)
		roads[0].set(func(r *road) { r.drops = 1 })
		require.NoError(t, l.connect(t.Context()))
		require.False(t, l.nodes[0].Conn.RESP2Only())
		require.Equal(t, 3, roads[0].dialed())
	})
}

// The client library sees to that only as long as one request is sent at a time.
func TestANodeThatHangsIsNoticedAsSoonBesideInspects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		var failed atomic.Int64
		start := time.Now()
		l, roads := q.dialed(&Options{NodeTimeout: time.Second, OnRequest: func(_ string, _ time.Duration, err error) {
			if err != nil {
				failed.CompareAndSwap(0, int64(time.Since(start)))
			}
		}})
		require.NoError(t, l.connect(t.Context()))
		var both sync.WaitGroup
		for i := range 20 { // now requests are sent side by side
			both.Go(func() {
				if i%2 == 0 {
					_, _ = l.Inspect(t.Context(), "k")
				} else if lease, err := l.TryAcquire(t.Context(), "j", ttl); err == nil {
					_ = lease.Release(t.Context())
				}
			})
		}
		both.Wait()
		for _, pause := range []time.Duration{0, 150 * time.Millisecond, 900 * time.Millisecond} {
			time.Sleep(pause)
			roads[0].to.set(hang)
			failed.Store(0)
			asked := time.Since(start)
			_, err := l.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			synctest.Wait()
			require.NotZero(t, failed.Load(), "before the node timeout")
			require.Equal(t, 900*time.Millisecond, time.Duration(failed.Load())-asked)
			roads[0].to.set(func(w *network) { w.hang = false })
			lease, err := lock.Acquire(t.Context(), l, "k", ttl, nil)
			require.NoError(t, err)
			require.NoError(t, lease.Release(t.Context()))
		}
	})
}

// textError is what the client library makes of a server's error.
func textError(t *testing.T, text string) error {
	t.Helper()
	err := answerOf(t, []byte("-"+text+"\r\n")).Err
	require.Error(t, err)
	return err
}

func soonAfter(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
