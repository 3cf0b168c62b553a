package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

func refused(t *testing.T, l lock.Locker, key string) lock.HeldError {
	t.Helper()
	lease, err := l.TryAcquire(t.Context(), key, ttl)
	require.Nil(t, lease)
	held, ok := errors.AsType[*lock.HeldError](err)
	require.True(t, ok, "%v", err)
	return *held
}

func release(t *testing.T, lease lock.Lease) {
	t.Helper()
	require.NoError(t, lease.Release(t.Context()))
}

func TestClientsAreServedInTheOrderInWhichTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, rounds = 20, 5
		l := memory.New()
		first := acquire(t, l, "k")
		var mu sync.Mutex
		var served []int
		var all sync.WaitGroup
		for i := range clients {
			c := l.Client(fmt.Sprint(i))
			all.Go(func() {
				for range rounds {
					lease, err := lock.Acquire(t.Context(), c, "k", ttl, nil)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					served = append(served, i)
					mu.Unlock()
					time.Sleep(time.Millisecond)
					if err := lease.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
			synctest.Wait() // it waits before the next one comes
		}
		begun := time.Now()
		release(t, first)
		all.Wait()
		require.Equal(t, clients*rounds*time.Millisecond, time.Since(begun), "hand-offs take no time")
		for n, i := range served {
			require.Equal(t, n%clients, i, "%v", served)
		}
	})
}

func TestCancelledWaitersDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		lease := acquire(t, a, "k")
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		for i := range 10 {
			all.Go(func() {
				_, err := lock.Acquire(ctx, a.Client(fmt.Sprint(i)), "k", ttl, nil)
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		var got time.Time
		all.Go(func() {
			if _, err := lock.Acquire(t.Context(), a.Client("last"), "k", ttl, nil); err != nil {
				t.Error(err)
			}
			got = time.Now()
		})
		synctest.Wait()
		begun := time.Now()
		cancel()
		release(t, lease)
		synctest.Wait()
		require.Equal(t, begun, got)
	})
}

// On live time, for the race detector: waiters come and go in all ways at once.
func TestContendersNeverShareTheKey(t *testing.T) {
	l := memory.New()
	var all sync.WaitGroup
	inside := 0 // not guarded but by the lock
	for i := range 8 {
		c := l.Client(fmt.Sprint(i))
		for range 3 {
			all.Go(func() {
				for n := range 200 {
					ctx, cancel := context.WithCancel(t.Context())
					if n%7 == 0 {
						time.AfterFunc(20*time.Microsecond, cancel)
					}
					lease, err := lock.Acquire(ctx, c, "k", ttl, nil)
					cancel()
					if err != nil {
						if !errors.Is(err, context.Canceled) {
							t.Error(err)
						}
						continue
					}
					inside++
					if inside != 1 {
						t.Errorf("%d holders", inside)
					}
					inside--
					if err := lease.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	requireFree(t, l, "k")
}

// waiting is an Await under way.
type waiting struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	lease  lock.Lease
	err    error
	held   []lock.HeldError // what refused received
	ended  time.Time
}

// await has one more wait, and returns when it stands in the queue, or is over.
func await(t *testing.T, l *memory.Locker, key string) *waiting {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	w := &waiting{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.lease, w.err = l.Await(ctx, key, ttl, func(held *lock.HeldError) { w.held = append(w.held, *held) })
		w.ended = time.Now()
	}()
	synctest.Wait()
	return w
}

// over reports whether it has ended, once all that can happen now has happened.
func (w *waiting) over() bool {
	synctest.Wait()
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// result is the error of one that must have ended.
func (w *waiting) result(t *testing.T) error {
	t.Helper()
	require.True(t, w.over())
	if w.err != nil {
		require.Nil(t, w.lease)
	}
	return w.err
}

// Whatever frees the key, and also where the timer of an expiry has not run yet.
func TestAKeyThatGetsFreeIsHandedOverInTheSameMoment(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, l *memory.Locker, lease lock.Lease){
		"released": func(t *testing.T, _ *memory.Locker, lease lock.Lease) { release(t, lease) },
		"expired":  func(*testing.T, *memory.Locker, lock.Lease) { time.Sleep(ttl) },
		"taken away": func(t *testing.T, l *memory.Locker, _ lock.Lease) {
			require.NoError(t, l.ForceRelease(t.Context(), "k", 0))
		},
		"reply lost": func(t *testing.T, l *memory.Locker, lease lock.Lease) {
			l.LoseReplies(1, nil)
			require.Error(t, lease.Release(t.Context()))
		},
		"kept until after its release": func(t *testing.T, l *memory.Locker, lease lock.Lease) {
			require.NoError(t, lock.ReleaseAfter(t.Context(), lease, ttl/2))
			time.Sleep(ttl / 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := memory.New()
				b := a.Client("b")
				lease := acquire(t, a, "k")
				w := await(t, b, "k")
				end(t, a, lease)
				freed := time.Now()
				require.Equal(t, lock.HeldError{Key: "k", Holder: "b", RetryAfter: ttl}, refused(t, a, "k"))
				require.NoError(t, w.result(t))
				require.Equal(t, freed, w.ended)
				require.Equal(t, freed.Add(ttl), w.lease.Expiry())
				require.Greater(t, w.lease.Token(), lease.Token())
				require.Len(t, w.held, 1)
				require.Equal(t, "this process", w.held[0].Holder)
				release(t, w.lease)
				release(t, acquire(t, a, "k"))
			})
		})
	}
}

func TestAWaiterThatLeavesCostsNobodyAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		lease := acquire(t, a, "k")
		var ws []*waiting
		for i := range 5 {
			ws = append(ws, await(t, a.Client(fmt.Sprint(i)), "k"))
		}
		gone := errors.New("gone")
		for _, i := range []int{1, 0, 4} {
			ws[i].cancel(gone)
			err := ws[i].result(t)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, gone)
		}
		release(t, lease)
		require.NoError(t, ws[2].result(t))
		require.False(t, ws[3].over())
		release(t, ws[2].lease)
		require.NoError(t, ws[3].result(t))
		release(t, ws[3].lease)
		acquire(t, a, "k")
	})
}

func TestAGrantThatMeetsTheEndOfItsWaitGoesToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 { // which of the two the waiter sees first is random
			a := memory.New()
			lease := acquire(t, a, "k")
			first, second := await(t, a.Client("first"), "k"), await(t, a.Client("second"), "k")
			release(t, lease)
			first.cancel(nil) // its goroutine has not run yet
			if err := first.result(t); err == nil {
				release(t, first.lease)
			} else {
				require.ErrorIs(t, err, context.Canceled)
			}
			require.NoError(t, second.result(t))
			release(t, second.lease)
			requireFree(t, a, "k")
		}
	})
}

func TestAnOutageEndsTheRequestsOfThatClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b, c := a.Client("b"), a.Client("c")
		acquire(t, a, "k")
		acquire(t, a, "l")
		w, x, y, z := await(t, b, "k"), await(t, b, "k"), await(t, b, "l"), await(t, c, "k")
		down := errors.New("down")
		b.FailNext(2, down)
		ended := 0
		for _, w := range []*waiting{w, x, y} {
			if w.over() {
				ended++
				require.ErrorIs(t, w.err, down)
			}
		}
		require.Equal(t, 2, ended)
		require.False(t, z.over())
		b.FailNext(-1, nil)
		for _, w := range []*waiting{w, x, y} {
			require.Error(t, w.result(t))
		}
		require.ErrorIs(t, await(t, b, "k").result(t), lock.ErrUnavailable)
		b.FailNext(0, nil)
		require.False(t, await(t, b, "k").over())
		z.cancel(nil)
		require.NoError(t, b.Close()) // ends the last one
	})
}

func TestALostReplyLeavesNothingInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b := a.Client("b")
		b.LoseReplies(1, nil)
		require.ErrorIs(t, await(t, b, "k").result(t), lock.ErrUnavailable)
		lease := acquire(t, a, "k")
		b.LoseReplies(1, nil)
		require.ErrorIs(t, await(t, b, "k").result(t), lock.ErrUnavailable)
		release(t, lease)
		requireFree(t, a, "k")
	})
}

func TestARequestThatWasSlowToArriveHasThatMuchLessOfItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b := a.Client("b")
		b.Delay(time.Second)
		lease := acquire(t, a, "k")
		w := await(t, b, "k")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Len(t, w.held, 1)
		release(t, lease)
		require.NoError(t, w.result(t))
		require.Equal(t, time.Now().Add(ttl-time.Second), w.lease.Expiry())
		require.Equal(t, ttl-time.Second, refused(t, a, "k").RetryAfter)
	})
}

func TestCloseEndsTheWaitsOfThatClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b, c := a.Client("b"), a.Client("c")
		lease := acquire(t, a, "k")
		mine, theirs := await(t, b, "k"), await(t, c, "k")
		var all sync.WaitGroup
		all.Go(func() {
			_, err := lock.Acquire(t.Context(), b, "k", ttl, nil)
			if !errors.Is(err, lock.ErrClosed) {
				t.Error(err)
			}
		})
		synctest.Wait()
		begun := time.Now()
		require.NoError(t, b.Close())
		all.Wait()
		require.Equal(t, begun, time.Now())
		require.ErrorIs(t, mine.result(t), lock.ErrClosed)
		require.ErrorIs(t, await(t, b, "k").result(t), lock.ErrClosed)
		release(t, lease)
		require.NoError(t, theirs.result(t))
	})
}

func TestBadInputToAwaitIsNamed(t *testing.T) {
	l := memory.New()
	none := func(*lock.HeldError) {}
	_, err := l.Await(t.Context(), "", ttl, none)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = l.Await(t.Context(), "k", 0, none)
	require.ErrorIs(t, err, lock.ErrInvalid)
	requireFree(t, l, "k")
}
