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
	"github.com/tonsurance/lockkeeper/lock/rwlock"
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

func TestWhatBothCanNotDoIsRefusedWithWhatToDo(t *testing.T) {
	l := memory.New()
	for says, pair := range map[string][2]lock.Locker{
		"locker is nil.":    {l, nil},
		"locker is nil ":    {nil, l},
		"the same locker ":  {l, l},
		"same locker, wh ":  {l, lock.Observe(l, func(lock.Event) {})},
		"locker, which w ":  {lock.Prefix(lock.Observe(l, func(lock.Event) {}), "p:"), lock.Prefix(l, "p:")},
		"Semaphore(Both( ":  {lock.Semaphore(l, 2), memory.New()},
		"is a Semaphore ":   {memory.New(), lock.Prefix(lock.Semaphore(l, 2), "p:")},
		"stores is a Sema ": {memory.New(), lock.Observe(lock.Semaphore(l, 2), func(lock.Event) {})},
	} {
		both := lock.Both(pair[0], pair[1])
		_, err := both.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrInvalid)
		require.ErrorContains(t, err, says[:len(says)-1])
		_, err = lock.Acquire(t.Context(), both, "k", ttl, nil)
		require.ErrorIs(t, err, lock.ErrInvalid)
	}
	for i := range 2 {
		stores := []lock.Locker{memory.New(), memory.New()}
		pair := []lock.Locker{stores[0], stores[1]}
		pair[i] = noRaise{stores[i]}
		both := lock.Both(pair[0], pair[1])
		for range 2 {
			_, err := lock.Acquire(t.Context(), both, "k", ttl, nil)
			require.ErrorIs(t, err, lock.ErrRefused, "asking again does not mend it")
			require.ErrorIs(t, err, errors.ErrUnsupported)
			for _, l := range stores {
				require.Empty(t, inspect(t, l, "k").Holder)
			}
		}
	}
}

// noRaise has leases of which only the least is known that a Lease must do.
type noRaise struct{ inner lock.Locker }

func (l noRaise) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := l.inner.TryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	return struct{ lock.Lease }{lease}, nil
}

func TestBothOffersWhatTheTwoStoresOffer(t *testing.T) {
	old, next := memory.New(), memory.New()
	both := lock.Both(old, next)
	list := func() map[string]lock.Info {
		in, _ := lock.As[lock.Inspector](both)
		infos := map[string]lock.Info{}
		for info, err := range in.List(t.Context(), "k") {
			require.NoError(t, err)
			require.NotContains(t, infos, info.Key, "twice")
			infos[info.Key] = info
		}
		return infos
	}
	require.Empty(t, list())
	a := take(t, both, "k1")
	b, err := old.Client("old").TryAcquire(t.Context(), "k2", ttl)
	require.NoError(t, err)
	c, err := next.Client("new").TryAcquire(t.Context(), "k3", ttl)
	require.NoError(t, err)
	require.Len(t, list(), 3)
	require.NoError(t, a.(*lock.Set).Leases()[0].Extend(t.Context(), ttl/2))
	for key, want := range map[string]struct {
		lease  lock.Lease
		holder string
	}{"k1": {a, "this process"}, "k2": {b, "old"}, "k3": {c, "new"}} {
		for _, info := range []lock.Info{list()[key], inspect(t, both, key)} {
			require.Equal(t, want.holder, info.Holder)
			require.Equal(t, want.lease.Token(), info.Token)
			require.InDelta(t, time.Until(want.lease.Expiry()).Seconds(), info.TTL.Seconds(), 0.5)
		}
	}
	require.Empty(t, inspect(t, both, "k4").Holder)

	force, _ := lock.As[lock.ForceReleaser](both)
	require.ErrorIs(t, force.ForceRelease(t.Context(), "k1", a.Token()+1), lock.ErrHeld)
	require.ErrorIs(t, force.ForceRelease(t.Context(), "k2", b.Token()+1), lock.ErrHeld)
	require.ErrorIs(t, force.ForceRelease(t.Context(), "k3", c.Token()+1), lock.ErrHeld)
	require.NoError(t, force.ForceRelease(t.Context(), "k1", a.Token()))
	require.NoError(t, force.ForceRelease(t.Context(), "k2", 0))
	require.NoError(t, force.ForceRelease(t.Context(), "k3", c.Token()))
	require.Empty(t, list())
	old.FailNext(1, nil)

	health, _ := lock.As[lock.HealthChecker](both)
	h, err := health.Health(t.Context())
	require.NoError(t, err)
	require.False(t, h.HasQuorum(), "one of the two stores can't decide")
	_, err = old.TryAcquire(t.Context(), "k", ttl) // takes the failure
	require.ErrorIs(t, err, lock.ErrUnavailable)
	h, err = health.Health(t.Context())
	require.NoError(t, err)
	require.True(t, h.HasQuorum())
	require.Len(t, h.Nodes, 2)
	require.Equal(t, lock.Fact{Name: "store", Value: "old"}, h.Nodes[0].Facts[0])

	require.NoError(t, lock.CheckReleaseAfter(both, time.Hour))
	_, ok := lock.As[lock.Inspector](lock.Both(old, &fakeLocker{}))
	require.False(t, ok, "one of them can't")
	require.NoError(t, lock.Close(both))
	_, err = both.TryAcquire(t.Context(), "k", ttl)
	require.ErrorIs(t, err, lock.ErrClosed)
}

func TestOtherDecoratorsGoAroundBoth(t *testing.T) {
	old, next := memory.New(), memory.New()
	peer := lock.Both(old.Client("peer"), next.Client("peer"))
	both := lock.Both(old, next)
	sem := lock.Semaphore(both, 2)
	first, second := take(t, sem, "k"), take(t, sem, "k")
	require.NotEqual(t, first.Key(), second.Key())
	_, err := lock.Semaphore(old, 2).TryAcquire(t.Context(), "k", ttl)
	require.ErrorIs(t, err, lock.ErrHeld)
	_, err = lock.Semaphore(peer, 2).TryAcquire(t.Context(), "k", ttl)
	require.ErrorIs(t, err, lock.ErrHeld)
	require.NoError(t, first.Release(t.Context()))
	require.NoError(t, second.Release(t.Context()))

	rw, err := rwlock.New(both, 2)
	require.NoError(t, err)
	reader := take(t, rw.Readers(), "k")
	oldRW, err := rwlock.New(old.Client("alone"), 2)
	require.NoError(t, err)
	_, err = oldRW.Writer().TryAcquire(t.Context(), "k", ttl)
	require.ErrorIs(t, err, lock.ErrHeld)
	require.NoError(t, reader.Release(t.Context()))

	lease := take(t, lock.Prefix(both, "p:"), "k")
	require.Equal(t, "p:k", lease.Key())
	require.Equal(t, lease.Token(), inspect(t, old, "p:k").Token)
	require.NoError(t, lease.Release(t.Context()))

	set, err := lock.AcquireAll(t.Context(), both, []string{"a", "b"}, ttl, nil)
	require.NoError(t, err)
	require.NoError(t, set.Release(t.Context()))
	for _, l := range []lock.Locker{old, next} {
		in, _ := lock.As[lock.Inspector](l)
		for info := range in.List(t.Context(), "") {
			require.Empty(t, info)
		}
	}
}

func TestReleaseAfterKeepsAKeyInBothStores(t *testing.T) {
	bubble("UntilThen", t, func(t *testing.T) {
		old, next := memory.New(), memory.New()
		require.NoError(t, lock.ReleaseAfter(t.Context(), take(t, lock.Both(old, next), "k"), 10*ttl))
		time.Sleep(9 * ttl)
		for _, l := range []lock.Locker{old, next} {
			require.NotEmpty(t, inspect(t, l, "k").Holder)
		}
		time.Sleep(ttl)
		take(t, lock.Both(old, next), "k")
	})
}
