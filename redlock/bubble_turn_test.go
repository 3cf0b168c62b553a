package redlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// These nodes tell of no keys (miniredis has no tracking): who waits goes by calls
// alone.

// waits starts an Acquire, and returns once it stands in line on every node.
func (q *quorum) waits(l lock.Locker, key string) <-chan lock.Lease {
	q.t.Helper()
	got := make(chan lock.Lease, 1)
	go func() {
		lease, err := lock.Acquire(q.t.Context(), l, key, ttl, nil)
		if err != nil {
			q.t.Error(err)
		}
		got <- lease
	}()
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
	return got
}

// hears gives a waiter for "k" what tracking nodes tell of the lock itself.
func hears(l *Locker, freed bool) {
	d := l.desk
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range l.nodes {
		d.touched(d.watches["redlock:k"], i, freed, time.Now())
	}
}

// line is who stands in a node's queue for key, the first one first.
func (n *fakeNode) line(key string) []string {
	k, _ := script.NewKeys("redlock:", key)
	ids, err := n.redis.ZMembers(k.Queue())
	if err != nil {
		return nil
	}
	return ids
}

func TestWhoHasNotWaitedDoesNotPassThoseWhoDo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		holder, _ := q.warm()
		slow, nets := q.client(&Options{Owner: "slow"})
		quick, _ := q.client(nil)
		lease := must(t)(holder.TryAcquire(t.Context(), "k", ttl))
		got := q.waits(slow, "k")
		for _, w := range nets {
			w.set(func(w *network) { w.delay = 10 * time.Millisecond })
		}
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait() // on every node
		for range 5 {
			_, err := quick.TryAcquire(t.Context(), "k", ttl)
			held := &lock.HeldError{}
			require.ErrorAs(t, err, &held)
			require.Equal(t, "slow", held.Holder)
			require.LessOrEqual(t, held.RetryAfter, 25*time.Millisecond)
			time.Sleep(time.Millisecond)
		}
		lease = <-got
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait()
		must(t)(quick.TryAcquire(t.Context(), "k", ttl)) // nobody waits any more
	})
}

// It is woken by the calls of two nodes. What comes after that is of the same release.
func TestWhoWasCalledAsksAtOnceAlthoughMoreNewsOfTheSameReleaseCome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		holder, _ := q.warm()
		next, _ := q.client(nil)
		lease := must(t)(holder.TryAcquire(t.Context(), "k", ttl))
		wake, other := make(chan struct{}, 1), make(chan struct{}, 1)
		for _, c := range []chan struct{}{wake, other} {
			stop, err := next.Watch(t.Context(), "k", c)
			require.NoError(t, err)
			defer stop()
		}
		time.Sleep(100 * time.Millisecond) // in line on every node
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait() // all have called
		<-wake
		<-other
		hears(next, true)
		must(t)(next.TryAcquire(t.Context(), "k", ttl))
		time.Sleep(100 * time.Millisecond)
		require.Empty(t, other) // and wake nobody once it is taken
	})
}

// The first of a line writes the counter. A DEL right after that looks like a renewal.
func TestTheFirstOfALineAsksOnceMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		holder, _ := q.warm()
		waiter, _ := q.client(nil)
		must(t)(holder.TryAcquire(t.Context(), "k", ttl))
		wake := make(chan struct{}, 1)
		stop, err := waiter.Watch(t.Context(), "k", wake)
		require.NoError(t, err)
		defer stop()
		synctest.Wait()
		_, err = waiter.TryAcquire(t.Context(), "k", ttl) // as whoever begins to watch does
		require.ErrorIs(t, err, lock.ErrHeld)
		for _, n := range q.nodes {
			n.redis.Del("redlock:k")
		}
		hears(waiter, false)
		start := time.Now()
		<-wake
		require.LessOrEqual(t, time.Since(start), turn)
	})
}

// One that was out of reach when the wait began, as on a full machine, would else have one
// queue that lets others pass.
func TestAWaiterQueuesOnANodeAsSoonAsItCan(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		holder, _ := q.warm()
		waiter, nets := q.client(nil)
		lease := must(t)(holder.TryAcquire(t.Context(), "k", ttl))
		nets[2].set(func(w *network) { w.down = true })
		got := q.waits(waiter, "k")
		require.Len(t, q.nodes[1].line("k"), 1)
		require.Empty(t, q.nodes[2].line("k"))
		nets[2].set(healthy)
		time.Sleep(blind / 2) // it asks again after that
		synctest.Wait()
		require.Equal(t, q.nodes[1].line("k"), q.nodes[2].line("k"))
		require.NoError(t, lease.Release(t.Context()))
		<-got
	})
}

func TestAWakeOfLongAgoIsNoTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		holder, _ := q.warm()
		before, _ := q.client(nil)
		second, _ := q.client(nil)
		must(t)(holder.TryAcquire(t.Context(), "k", ttl))
		for _, l := range []*Locker{before, second} {
			stop, err := l.Watch(t.Context(), "k", make(chan struct{}, 1))
			require.NoError(t, err)
			defer stop()
			time.Sleep(100 * time.Millisecond)
		}
		d := second.desk
		d.mu.Lock()
		d.wake(d.watches["redlock:k"]) // a connection was lost; whoever was woken did not ask, or had no quorum
		d.mu.Unlock()
		time.Sleep(turn)
		for _, n := range q.nodes { // by an operator
			n.redis.Del("redlock:k")
		}
		hears(second, true)
		_, err := second.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
	})
}

func TestATurnThatIsNotTakenPassesToAnybodyAndIsNotOfferedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		holder, _ := q.warm()
		hung, nets := q.client(nil)
		quick, _ := q.client(nil)
		lease := must(t)(holder.TryAcquire(t.Context(), "k", ttl))
		got := q.waits(hung, "k")
		for _, w := range nets {
			w.set(func(w *network) { w.delay = 20 * time.Second }) // it is called, and hears nothing
		}
		require.NoError(t, lease.Release(t.Context()))
		time.Sleep(24 * time.Millisecond)
		_, err := quick.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
		time.Sleep(2 * time.Millisecond)
		lease = must(t)(quick.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		for _, n := range q.nodes {
			require.Empty(t, n.line("k"), n.name)
		}
		time.Sleep(10 * time.Millisecond) // the holder leaves it to others for a while by itself
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait()
		lease = must(t)(holder.TryAcquire(t.Context(), "k", 55*time.Second)) // at once
		for _, w := range nets {
			w.set(func(w *network) { w.delay = 0 })
		}
		time.Sleep(25 * time.Second) // what was on its way arrives: it asks, and is in line again
		for _, n := range q.nodes {
			require.Len(t, n.line("k"), 1, n.name)
		}
		require.NoError(t, lease.Release(t.Context()))
		require.NoError(t, (<-got).Release(t.Context()))
	})
}

// The queue and its turns are a hint, whoever wrote them, whatever became of the clock.
func TestTurnsThatCanNotBeHoldNobodyUp(t *testing.T) {
	for name, c := range map[string]struct {
		turns  string
		left   time.Duration
		refuse bool
	}{
		"as a release leaves them":      {"2:5", 550 * time.Millisecond, true},
		"no number":                     {"2:soon", 550 * time.Millisecond, false},
		"no place":                      {"2:", 550 * time.Millisecond, false},
		"nothing":                       {":", 550 * time.Millisecond, false},
		"too long, or a clock set back": {"2:5", time.Hour, false},
		"too many":                      {"1000000:5", 25000500 * time.Millisecond, false},
		"endless":                       {strings.Repeat("9", 400) + ":5", time.Hour, false},
		"without an end":                {"2:5", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQuorum(t, 1)
				l, _ := q.warm()
				require.NoError(t, must(t)(l.TryAcquire(t.Context(), "k", ttl)).Release(t.Context()))
				k, _ := script.NewKeys("redlock:", "k")
				queue, redis := k.Queue(), q.nodes[0].redis
				redis.HSet(k.Fence, "line", "1")
				for i, id := range []string{"a", "b"} {
					_, err := redis.ZAdd(queue, float64(i+4), id)
					require.NoError(t, err)
				}
				turns := QueuePrefix + "turn:" + strings.TrimPrefix(queue, QueuePrefix)
				require.NoError(t, redis.Set(turns, c.turns))
				if c.left > 0 {
					redis.SetTTL(turns, c.left)
				}
				_, err := l.TryAcquire(t.Context(), "k", ttl)
				if c.refuse {
					require.ErrorIs(t, err, lock.ErrHeld)
				} else {
					require.NoError(t, err)
				}
			})
		})
	}
}

// standing notes when its waiter last came to stand in line.
type standing struct {
	*Locker
	since time.Time // the goroutine of the one waiter has it
}

func (s *standing) Watch(ctx context.Context, key string, wake chan<- struct{}) (func(), error) {
	stop, err := s.Locker.Watch(ctx, key, wake)
	s.since = time.Now()
	return stop, err
}

// The bound: once a process stands in line, each other one gets the lock before it
// once at most: if both came at the same time, or if the lock was free just then.
// (All must ask within their turn.)
func TestWhoStandsInLineIsOvertakenByNobodyWhoComesLater(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const processes, terms = 6, 20
				const impatient = 2 // of them ask again and again, and never wait
				rng := rand.New(rand.NewPCG(seed, 0))
				var mu sync.Mutex // guards rng and waits
				random := func(below time.Duration) time.Duration {
					mu.Lock()
					defer mu.Unlock()
					return time.Duration(rng.Int64N(int64(below)))
				}
				q := newQuorum(t, 3)
				type wait struct {
					who               int
					begun, stood, got time.Time
				}
				var waits []wait
				var wg sync.WaitGroup
				for who := range processes {
					l, nets := q.client(nil)
					for _, w := range nets {
						w.set(func(w *network) { w.delay = random(time.Millisecond) })
					}
					wg.Go(func() {
						for range terms {
							time.Sleep(random(50 * time.Millisecond)) // often longer than a process leaves the lock to others by itself
							s := &standing{Locker: l}
							var opts *lock.AcquireOptions
							if who < impatient {
								opts = &lock.AcquireOptions{Attempts: 3, Delay: 7 * time.Millisecond}
							}
							w := wait{who: who, begun: time.Now()}
							lease, err := lock.Acquire(t.Context(), s, "k", time.Minute, opts)
							for who < impatient && errors.Is(err, lock.ErrHeld) {
								w.begun = time.Now()
								lease, err = lock.Acquire(t.Context(), s, "k", time.Minute, opts)
							}
							if err != nil {
								t.Error(err)
								return
							}
							w.stood, w.got = s.since, time.Now()
							mu.Lock()
							waits = append(waits, w)
							mu.Unlock()
							time.Sleep(random(8 * time.Millisecond))
							if err := lease.Release(t.Context()); err != nil {
								t.Error(err)
							}
						}
					})
				}
				wg.Wait()
				require.Len(t, waits, processes*terms)
				stood, overtaken := 0, 0
				for _, w := range waits {
					if w.stood.IsZero() {
						continue
					}
					stood++
					by, later := map[int]int{}, 0
					for _, o := range waits {
						if o.who == w.who || o.got.Before(w.stood) || o.got.After(w.got) || o.begun.Before(w.begun) {
							continue
						}
						overtaken++
						by[o.who]++
						if o.begun.After(w.stood) {
							later++
						}
					}
					for _, n := range by {
						require.Equal(t, 1, n, "%+v", w)
					}
					require.LessOrEqual(t, later, 1, "%+v", w)
				}
				require.Greater(t, stood, processes*terms/5)
				t.Logf("%d of %d who stood in line were overtaken", overtaken, stood)
			})
		})
	}
}

// The client gives its connection up only after its own, longer timeout.
func TestADeadConnectionForNewsIsKnownSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(&Options{NodeTimeout: 5 * time.Second})
		stop, err := l.Watch(t.Context(), "k", make(chan struct{}, 1))
		require.NoError(t, err)
		defer stop()
		flowing := func() int {
			l.desk.mu.Lock()
			w := l.desk.watches["redlock:k"]
			l.desk.mu.Unlock()
			live, _, _, _ := l.desk.flow(w)
			return live
		}
		synctest.Wait()
		require.Equal(t, 3, flowing())
		for _, w := range nets {
			w.set(hang)
		}
		time.Sleep(heartbeat + beatTimeout)
		synctest.Wait()
		require.Zero(t, flowing())
	})
}

// Neither a lock that was left to others nor one that is watched makes the attempts for all
// other keys meet at one mutex.
func TestAttemptsForOtherKeysDoNotMeetAtTheDesk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		d := l.desk
		k, _ := script.NewKeys("redlock:", "k")
		wake := make(chan struct{}, 1)
		w := d.add(k, wake)
		d.yield(k.Lock)
		d.yield("redlock:other")
		require.True(t, d.concerns(k.Lock))
		require.False(t, d.concerns("redlock:third"))
		d.mu.Lock()
		lease := must(t)(l.TryAcquire(t.Context(), "third", ttl))
		require.NoError(t, lease.Release(t.Context()))
		d.mu.Unlock()
		d.remove(w, wake)
		require.True(t, d.concerns(k.Lock), "it is left to others")
		time.Sleep(turn)
		require.Zero(t, max(0, d.kept(k.Lock)))
		require.False(t, d.concerns(k.Lock))
		d.yield(k.Lock)
		require.False(t, d.concerns("redlock:other"), "its time is over")
	})
}
