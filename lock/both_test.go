package lock_test

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

func inspect(t *testing.T, l lock.Locker, key string) lock.Info {
	t.Helper()
	in, ok := lock.As[lock.Inspector](l)
	require.True(t, ok)
	info, err := in.Inspect(t.Context(), key)
	require.NoError(t, err)
	return info
}

func take(t *testing.T, l lock.Locker, key string) lock.Lease {
	t.Helper()
	lease, err := l.TryAcquire(t.Context(), key, ttl)
	require.NoError(t, err)
	return lease
}

func TestBothExcludesThoseThatLockInOneStoreAlone(t *testing.T) {
	old, next := memory.New(), memory.New()
	both := lock.Both(old.Client("both"), next.Client("both"))
	refused := func(l lock.Locker, by string) {
		t.Helper()
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		held, ok := errors.AsType[*lock.HeldError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, by, held.Holder)
	}
	lease := take(t, both, "k")
	refused(old.Client("old alone"), "both")
	refused(next.Client("new alone"), "both")
	refused(lock.Both(old.Client("another"), next.Client("another")), "both")
	require.NoError(t, lease.Release(t.Context()))

	for _, l := range []*memory.Locker{old.Client("alone"), next.Client("alone")} {
		alone := take(t, l, "k")
		refused(both, "alone")
		require.NoError(t, alone.Release(t.Context()))
		for _, l := range []lock.Locker{old, next} { // nothing of the attempt that was refused is left
			require.Empty(t, inspect(t, l, "k").Holder)
		}
	}
}

// However the counts of the two stores stand, and in whatever order those follow each other that
// may run side by side.
func TestTokensRiseWhileTheStoresAreChanged(t *testing.T) {
	for name, ahead := range map[string][2]uint64{"Even": {0, 0}, "OldIsAhead": {1000, 0}, "NewIsAhead": {0, 1000}, "FarAhead": {3, 1 << 50}} {
		t.Run(name, func(t *testing.T) {
			old, next := memory.New(), memory.New()
			for i, l := range []*memory.Locker{old, next} {
				lease := take(t, l, "k")
				require.NoError(t, lock.RaiseToken(t.Context(), lease, ahead[i]))
				require.NoError(t, lease.Release(t.Context()))
			}
			both := lock.Both(old, next)
			var last uint64
			for i, l := range []lock.Locker{old, old, both, old, both, both, old, both, both, next, both, next, next, both, both, old, both, next, next} {
				lease := take(t, l, "k")
				require.Greater(t, lease.Token(), last, "step %d", i)
				last = lease.Token()
				if l == both {
					for _, store := range []lock.Locker{old, next} {
						require.Equal(t, last, inspect(t, store, "k").Token, "an operator sees one token")
					}
					for _, member := range lease.(*lock.Set).Leases() {
						require.Equal(t, last, member.Token())
					}
				}
				require.NoError(t, lease.Release(t.Context()))
			}
		})
	}
}

func TestALeaseOfBothEndsWithTheEarlierOne(t *testing.T) {
	bubble("InTime", t, func(t *testing.T) {
		old, next := memory.New(), memory.New()
		lease := take(t, lock.Both(old, next), "k")
		time.Sleep(ttl / 2)
		next.FailNext(1, nil)
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrUnavailable)
		require.Equal(t, ttl/2, time.Until(lease.Expiry()), "the old one alone was extended")
		time.Sleep(ttl / 2)
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
		require.Empty(t, inspect(t, old, "k").Holder, "what is left is released all the same")
	})
	for i, name := range []string{"BrokenInOld", "BrokenInNew"} {
		bubble(name, t, func(t *testing.T) {
			stores := []*memory.Locker{memory.New(), memory.New()}
			lease := take(t, lock.Both(stores[0], stores[1]), "k")
			require.NoError(t, stores[i].ForceRelease(t.Context(), "k", 0))
			require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
			require.Zero(t, lease.Expiry())
			require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
			for _, l := range stores {
				require.Empty(t, inspect(t, l, "k").Holder)
			}
		})
	}
}

func TestAnOutageOfEitherStoreIsOneOfBoth(t *testing.T) {
	for i, name := range []string{"Old", "New"} {
		bubble(name, t, func(t *testing.T) {
			stores := []*memory.Locker{memory.New(), memory.New()}
			mine := []*memory.Locker{stores[0].Client("mine"), stores[1].Client("mine")}
			both := lock.Both(mine[0], mine[1])
			mine[i].FailNext(1, nil)
			_, err := both.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.NotErrorIs(t, err, lock.ErrHeld)
			for _, l := range stores {
				require.Empty(t, inspect(t, l, "k").Holder)
			}

			// A caller that waits for it learns of that, and Acquire goes on after it.
			alone := take(t, stores[i].Client("alone"), "k")
			q := queue(t, both, "k")
			require.False(t, q.over())
			mine[i].FailNext(1, nil)
			require.True(t, q.over())
			require.ErrorIs(t, q.err, lock.ErrUnavailable)
			require.NotErrorIs(t, q.err, context.Canceled)
			w := stand(t, both, "k", nil)
			mine[i].FailNext(1, nil)
			require.False(t, w.over())
			require.NoError(t, alone.Release(t.Context()))
			time.Sleep(2 * time.Second)
			require.True(t, w.over())
			require.NoError(t, w.err)
		})
	}
}

// A raise whose reply is lost, or that comes too late, grants nothing.
func TestNothingIsGrantedBeforeTheTokensAreRaised(t *testing.T) {
	for i, name := range []string{"Old", "New"} {
		bubble(name, t, func(t *testing.T) {
			stores := []*memory.Locker{memory.New(), memory.New()}
			raised := uint64(0)
			further := func() {
				raised += 1000
				ahead := take(t, stores[1-i], "k")
				require.NoError(t, lock.RaiseToken(t.Context(), ahead, raised))
				require.NoError(t, ahead.Release(t.Context()))
			}
			lowly := &onRaise{Locker: stores[i]}
			pair := []lock.Locker{stores[0], stores[1]}
			pair[i] = lowly
			both := lock.Both(pair[0], pair[1])

			further()
			lowly.before = func() { stores[i].LoseReplies(1, nil) }
			_, err := both.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrUnavailable)

			further()
			lowly.before = func() { stores[i].Delay(2 * ttl) }
			_, err = both.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.NotErrorIs(t, err, lock.ErrLost, "of a lease that nobody has seen")
			stores[i].Delay(0)

			further()
			lowly.before = func() { require.NoError(t, stores[i].ForceRelease(t.Context(), "k", 0)) }
			_, err = both.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.NotErrorIs(t, err, lock.ErrLost)

			for _, l := range stores {
				require.Empty(t, inspect(t, l, "k").Holder)
			}
			lowly.before = func() {}
			require.Greater(t, take(t, both, "k").Token(), raised)
		})
	}
}

// onRaise calls before whenever a lease's token is raised.
type onRaise struct {
	lock.Locker
	before func()
}

func (l *onRaise) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := l.Locker.TryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	return raisedLease{lease, l}, nil
}

type raisedLease struct {
	lock.Lease
	l *onRaise
}

func (r raisedLease) RaiseToken(ctx context.Context, least uint64) error {
	if least > r.Token() {
		r.l.before()
	}
	return lock.RaiseToken(ctx, r.Lease, least)
}

// As the keeper of a key in next alone lets go and comes back at once, for ever, the one
// that has both gets its turn.
func TestWhoHasBothDoesNotStarveBesideOneStoreAlone(t *testing.T) {
	for i, name := range []string{"Old", "New"} {
		bubble(name, t, func(t *testing.T) {
			stores := []*memory.Locker{memory.New(), memory.New()}
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			terms := 0
			var mu sync.Mutex
			for c := range 4 {
				l := stores[i].Client(fmt.Sprint("alone", c))
				wg.Go(func() {
					for {
						lease, err := lock.Acquire(ctx, l, "k", ttl, nil)
						if err != nil {
							return
						}
						mu.Lock()
						terms++
						mu.Unlock()
						time.Sleep(ttl / 2)
						_ = lease.Release(ctx)
					}
				})
			}
			time.Sleep(10 * ttl)
			mu.Lock()
			before := terms
			mu.Unlock()
			lease, err := lock.Acquire(t.Context(), lock.Both(stores[0].Client("both"), stores[1].Client("both")), "k", ttl, &lock.AcquireOptions{Timeout: 100 * ttl})
			if err != nil {
				stop() // else the others would go on for ever
			}
			require.NoError(t, err)
			mu.Lock()
			require.LessOrEqual(t, terms-before, 5)
			mu.Unlock()
			require.NoError(t, lease.Release(t.Context()))
			stop()
			wg.Wait()
		})
	}
}

func TestBothKeepsTheOldStoreHoweverLongItWaitsForTheNewOne(t *testing.T) {
	bubble("AndItsLeaseHasTheWholeTTL", t, func(t *testing.T) {
		old, next := memory.New(), memory.New()
		alone, err := next.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		w := stand(t, lock.Both(old.Client("mine"), next.Client("mine")), "k", nil)
		time.Sleep(20*ttl + ttl/4) // old was extended a while ago
		require.False(t, w.over())
		require.Equal(t, "mine", inspect(t, old, "k").Holder)
		require.NoError(t, alone.Release(t.Context()))
		require.True(t, w.over())
		require.NoError(t, w.err)
		require.Greater(t, w.lease.Token(), alone.Token())
		time.Sleep(time.Until(w.lease.Expiry()) / 2)
		synctest.Wait()
		require.Greater(t, time.Until(w.lease.Expiry()), ttl*3/4, "it grows by itself")
	})
	bubble("AndLosesNothingIfItIsTakenAway", t, func(t *testing.T) {
		old, next := memory.New(), memory.New()
		_, err := next.TryAcquire(t.Context(), "k", 10*time.Hour)
		require.NoError(t, err)
		q := queue(t, lock.Both(old.Client("mine"), next.Client("mine")), "k")
		require.NoError(t, old.ForceRelease(t.Context(), "k", 0))
		time.Sleep(time.Hour) // its ttl
		require.True(t, q.over())
		require.ErrorIs(t, q.err, lock.ErrUnavailable)
		require.NotErrorIs(t, q.err, lock.ErrLost)
	})
}

// A caller that is granted the old store finds the new one free.
func TestBothReleasesTheNewStoreFirst(t *testing.T) {
	bubble("AlsoWhereThatIsSlow", t, func(t *testing.T) {
		old, next := memory.New(), memory.New()
		mine := next.Client("mine")
		lease := take(t, lock.Both(old, mine), "k")
		mine.Delay(time.Second)
		done := make(chan error, 1)
		go func() { done <- lease.Release(t.Context()) }()
		time.Sleep(time.Second - time.Millisecond)
		synctest.Wait()
		require.NotEmpty(t, inspect(t, next, "k").Holder)
		require.NotEmpty(t, inspect(t, old, "k").Holder)
		require.NoError(t, <-done)
		require.Empty(t, inspect(t, old, "k").Holder)
	})
}

func TestAReleaseOfBothThatFailedInOneIsRepeated(t *testing.T) {
	for i := range 2 {
		stores := []*memory.Locker{memory.New(), memory.New()}
		lease := take(t, lock.Both(stores[0], stores[1]), "k")
		stores[i].FailNext(1, nil)
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrUnavailable)
		require.NoError(t, lease.Release(t.Context()))
		require.NoError(t, lease.Release(t.Context()))
		for _, l := range stores {
			require.Empty(t, inspect(t, l, "k").Holder)
		}
	}
}
