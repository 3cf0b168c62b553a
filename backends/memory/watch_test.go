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

// A turn that nobody takes lasts this long, as Watch documents.
const turn = 10 * time.Millisecond

func watch(t *testing.T, l *memory.Locker, key string) (wake chan struct{}, stop func()) {
	t.Helper()
	wake = make(chan struct{}, 1)
	stop, err := l.Watch(t.Context(), key, wake)
	require.NoError(t, err)
	t.Cleanup(stop)
	return wake, stop
}

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

// woken tells whether there is a wake once all that can happen now has happened.
func woken(wake chan struct{}) bool {
	synctest.Wait()
	select {
	case <-wake:
		return true
	default:
		return false
	}
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

func TestNobodyBargesInBeforeTheWokenWaiter(t *testing.T) {
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
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := memory.New()
				b := a.Client("b")
				lease := acquire(t, a, "k")
				wake, _ := watch(t, b, "k")
				require.Equal(t, "this process", refused(t, b, "k").Holder)
				end(t, a, lease)
				// No time passes: also a timer has not run yet.
				require.Equal(t, lock.HeldError{Key: "k", RetryAfter: turn}, refused(t, a, "k"))
				requireFree(t, a, "k")
				require.True(t, woken(wake))
				release(t, acquire(t, b, "k"))
				release(t, acquire(t, a, "k"))
			})
		})
	}
}

func TestATurnThatIsNotTakenPassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b, c := a.Client("b"), a.Client("c")
		lease := acquire(t, a, "k")
		bWake, _ := watch(t, b, "k")
		cWake, _ := watch(t, c, "k")
		refused(t, b, "k")
		refused(t, c, "k")
		release(t, lease)
		require.True(t, woken(bWake))
		require.False(t, woken(cWake))
		time.Sleep(turn - 1)
		require.False(t, woken(cWake))
		require.Equal(t, lock.HeldError{Key: "k", RetryAfter: 1}, refused(t, c, "k"), "b waits, and holds nothing")
		time.Sleep(time.Nanosecond)
		require.True(t, woken(cWake))
		require.Empty(t, refused(t, b, "k").Holder, "b is behind c now")
		time.Sleep(turn)
		require.True(t, woken(bWake))
		time.Sleep(turn)
		acquire(t, a, "k") // nobody wants it any more
	})
}

func TestAWaiterThatLeavesPassesItsTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		lease := acquire(t, a, "k")
		var stops []func()
		var wakes []chan struct{}
		for i := range 4 {
			c := a.Client(fmt.Sprint(i))
			wake, stop := watch(t, c, "k")
			refused(t, c, "k")
			wakes, stops = append(wakes, wake), append(stops, stop)
		}
		stops[1]() // before its turn
		release(t, lease)
		stops[0]() // in its turn
		stops[0]()
		require.True(t, woken(wakes[2]))
		require.False(t, woken(wakes[1]))
		require.False(t, woken(wakes[3]))
		stops[2]()
		stops[3]()
		acquire(t, a, "k")
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

// Its calls take longer than a turn, each time.
func TestASlowClientHoldsTheOthersUpForOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		slow, quick := a.Client("slow"), a.Client("quick")
		lease := acquire(t, a, "k")
		wake, _ := watch(t, slow, "k")
		refused(t, slow, "k")
		slow.Delay(time.Second)
		var all sync.WaitGroup
		defer all.Wait()
		all.Go(func() {
			<-wake
			if _, err := slow.TryAcquire(t.Context(), "k", ttl); !errors.Is(err, lock.ErrHeld) {
				t.Error(err)
			}
		})
		quickWake, _ := watch(t, quick, "k")
		refused(t, quick, "k")
		release(t, lease)
		begun := time.Now()
		<-quickWake
		require.Equal(t, turn, time.Since(begun))
		acquire(t, quick, "k")
	})
}

func TestRenewalsWakeNobodyAndMoveTheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b := a.Client("b")
		lease := acquire(t, a, "k")
		wake, _ := watch(t, b, "k")
		refused(t, b, "k")
		for range 1000 {
			time.Sleep(ttl / 2)
			require.NoError(t, lease.Extend(t.Context(), ttl))
			require.False(t, woken(wake))
		}
		require.NoError(t, lease.Extend(t.Context(), time.Second)) // earlier than it was
		time.Sleep(time.Second - 1)
		require.False(t, woken(wake))
		time.Sleep(time.Nanosecond)
		require.True(t, woken(wake))
		acquire(t, b, "k")
	})
}

func TestWhoOnlyWatchesIsToldOfEachEndAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b, c := a.Client("b"), a.Client("c")
		news, _ := watch(t, b, "k") // b never asks
		for range 3 {
			lease := acquire(t, a, "k")
			wake, stop := watch(t, c, "k")
			refused(t, c, "k")
			require.False(t, woken(news))
			release(t, lease)
			release(t, acquire(t, c, "k"))
			require.True(t, woken(news))
			require.True(t, woken(wake))
			stop()
		}
	})
}

func TestCloseWakesTheWaitersOfThatClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b := a.Client("b")
		acquire(t, a, "k")
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
		_, err := b.Watch(t.Context(), "k", make(chan struct{}))
		require.ErrorIs(t, err, lock.ErrClosed)
	})
}

func TestBadInputToWatchIsNamed(t *testing.T) {
	l := memory.New()
	_, err := l.Watch(t.Context(), "", make(chan struct{}))
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "memory: watch: lock: invalid: key is empty")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err = l.Watch(ctx, "k", make(chan struct{}))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "enough")
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
