package redlock

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
)

func slow(d time.Duration) func(w *network) { return func(w *network) { w.delay = d } }

// stands is on how many nodes key has a value.
func (q *quorum) stands(key string) int {
	n := 0
	for _, node := range q.nodes {
		if node.value(key) != "" {
			n++
		}
	}
	return n
}

// occupied gives node i a request whose answer takes 10ms, behind which others wait.
func (q *quorum) occupied(l *Locker, nets []*network, i int) {
	nets[i].set(slow(10 * time.Millisecond))
	lease := must(q.t)(l.TryAcquire(q.t.Context(), "occupies", ttl))
	synctest.Wait()
	q.t.Cleanup(func() { require.NoError(q.t, lease.Release(q.t.Context())) })
}

func TestAVoteThatWasNotSentAndIsNotWantedIsNotSent(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, l *Locker, q *quorum){
		"released": func(t *testing.T, l *Locker, _ *quorum) {
			lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
			require.NoError(t, lease.Release(t.Context()))
		},
		"refused": func(t *testing.T, l *Locker, q *quorum) {
			for _, n := range q.nodes[:2] {
				require.NoError(t, n.redis.Set("redlock:k", "a"))
			}
			_, err := l.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrHeld)
		},
		"over": func(t *testing.T, l *Locker, _ *quorum) {
			must(t)(l.TryAcquire(t.Context(), "k", 8*time.Millisecond))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQuorum(t, 3)
				l, nets := q.warm()
				q.occupied(l, nets, 2)
				end(t, l, q)
				time.Sleep(time.Second)
				require.Empty(t, q.nodes[2].count("k"), "no vote came")
				require.Empty(t, q.nodes[2].value("k"))
			})
		})
	}
}

func TestAReleaseGoesBeforeAVoteOfTheSameProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		nets[2].set(slow(10 * time.Millisecond))
		for i := range 20 {
			lease := must(t)(l.TryAcquire(t.Context(), "k", ttl)) // its vote is on the way to the slow node
			synctest.Wait()
			require.NoError(t, lease.Release(t.Context()))
			lease = must(t)(l.TryAcquire(t.Context(), "k", ttl)) // so that this one waits behind it
			time.Sleep(15 * time.Millisecond)                    // before a vote that was refused would be asked for again
			synctest.Wait()
			require.NotEmpty(t, q.nodes[0].value("k"))
			require.Equal(t, q.nodes[0].value("k"), q.nodes[2].value("k"), "round %d", i)
			require.NoError(t, lease.Release(t.Context()))
			time.Sleep(time.Second)
		}
	})
}

func TestALeaseOnFewerNodesIsCompletedSoonAfterItsGrant(t *testing.T) {
	for name, fault := range map[string]func(n *fakeNode, w *network) (mend func()){
		"another's value": func(n *fakeNode, _ *network) func() {
			_ = n.redis.Set("redlock:k", "other")
			return func() { n.redis.Del("redlock:k") }
		},
		"a lost reply": func(_ *fakeNode, w *network) func() {
			w.set(func(w *network) { w.loseNext = true })
			return func() {}
		},
		"a broken connection": func(_ *fakeNode, w *network) func() {
			w.set(refuse)
			return func() { w.set(healthy) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQuorum(t, 3)
				l, nets := q.warm()
				mend := fault(q.nodes[2], nets[2])
				lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
				time.Sleep(20 * time.Millisecond)
				mend()
				time.Sleep(500 * time.Millisecond)
				require.Equal(t, 3, q.stands("k"))
				nets[0].set(refuse) // one death
				require.NoError(t, lease.Extend(t.Context(), ttl))
				require.NoError(t, lease.Release(t.Context()))
				nets[0].set(healthy)
				time.Sleep(time.Second)
				q.free("k")
			})
		})
	}
}

func TestALeaseOnFewerNodesIsCompletedSoonAfterAnExtend(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.warm()
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, q.nodes[2].redis.Set("redlock:k", "other"))
		require.NoError(t, lease.Extend(t.Context(), ttl))
		synctest.Wait()
		q.nodes[2].redis.Del("redlock:k")
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, q.nodes[0].value("k"), q.nodes[2].value("k"))
		require.NoError(t, lease.Release(t.Context()))
		q.free("k")
	})
}

// What is asked again ends: after some tries, with the lease, and with the locker.
func TestCompletingALeaseIsBounded(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, l *Locker, lease lock.Lease){
		"some tries": func(*testing.T, *Locker, lock.Lease) {},
		"released": func(t *testing.T, _ *Locker, lease lock.Lease) {
			start := time.Now()
			require.NoError(t, lease.Release(t.Context()))
			require.Zero(t, time.Since(start))
		},
		"closed": func(t *testing.T, l *Locker, _ lock.Lease) { require.NoError(t, l.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQuorum(t, 3)
				l, _ := q.warm()
				require.NoError(t, q.nodes[2].redis.Set("redlock:k", "other"))
				lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
				require.NoError(t, lease.Extend(t.Context(), ttl))
				time.Sleep(6 * time.Millisecond)
				end(t, l, lease)
				synctest.Wait()
				asked := func() int { return q.nodes[2].seen("acquire") + q.nodes[2].seen("extend") }
				if name != "some tries" {
					before := asked()
					time.Sleep(time.Hour)
					require.Equal(t, before, asked())
					return
				}
				time.Sleep(time.Hour)
				require.LessOrEqual(t, asked(), 1+1+completions)
				require.Zero(t, l.nodes[2].Pausing())
			})
		})
	}
}

// A node that fails for very many leases is not asked again for each of them.
func TestCompletingManyLeasesAtOnceIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		nets[2].set(refuse)
		for i := range 4 * maxPausing {
			must(t)(l.TryAcquire(t.Context(), fmt.Sprint(i), ttl))
			require.Less(t, l.nodes[2].Pausing(), int64(2*maxPausing))
		}
		time.Sleep(time.Minute)
		require.Zero(t, l.nodes[2].Pausing())
	})
}

// More is asked of a node than it answers: its backlog stays bounded, its renewals and
// releases are not held up by votes, and when the load is over it is free at once.
func TestASlowNodesBacklogIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		leader := must(t)(l.TryAcquire(t.Context(), "leader", ttl))
		nets[2].set(slow(50 * time.Millisecond))
		for _, w := range nets[:2] {
			w.set(slow(5 * time.Millisecond))
		}
		var most atomic.Int64
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
					lease := must(t)(l.TryAcquire(t.Context(), fmt.Sprint(i), ttl))
					require.NoError(t, lease.Release(t.Context()))
					most.Store(max(most.Load(), l.nodes[2].InFlight()))
				}
			})
		}
		wg.Wait()
		require.LessOrEqual(t, most.Load(), int64(node.MaxBacklog+node.MaxBatch))
		nets[0].set(hang) // one death
		start := time.Now()
		require.NoError(t, leader.Extend(t.Context(), ttl))
		lease := must(t)(l.TryAcquire(t.Context(), "free", ttl))
		require.LessOrEqual(t, time.Since(start), time.Second)
		require.NoError(t, lease.Release(t.Context()))
		require.NoError(t, leader.Release(t.Context()))
	})
}

func TestANodeWithoutRoomIsLeftOutAndNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		nets[2].set(slow(40 * time.Millisecond))
		for i := range node.MaxBacklog {
			must(t)(l.TryAcquire(t.Context(), fmt.Sprint(i), ttl))
		}
		require.NoError(t, q.nodes[0].redis.Set("redlock:k", "other"))
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "node fake3:6379: not asked: it is slow, and 256 requests wait for it")
	})
}

// With too few nodes that have room, attempts wait for the slow ones as before.
func TestABurstIsNotRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		for _, w := range nets {
			w.set(slow(time.Millisecond))
		}
		var wg sync.WaitGroup
		for i := range 8 * node.MaxBacklog {
			wg.Go(func() { must(t)(l.TryAcquire(t.Context(), fmt.Sprint(i), ttl)) })
		}
		wg.Wait()
	})
}
