package lock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

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
		"end one move ":     {lock.Both(l, memory.New()), memory.New()},
		"is a Both itself ": {memory.New(), lock.Prefix(lock.Both(l, memory.New()), "p:")},
		"a Both itself, ":   {memory.New(), lock.Observe(lock.Both(l, memory.New()), func(lock.Event) {})},
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
			require.ErrorContains(t, err, "want a store for each of the two")
			for _, l := range stores {
				require.Empty(t, inspect(t, l, "k").Holder)
			}
		}
	}
}

// withAny is a store of the user's that has what can't be compared in a field that could.
type withAny struct {
	any
	lock.Locker
}

func TestBothComparesNoStoresThatCanNotBeCompared(t *testing.T) {
	both := lock.Both(withAny{[]int{1}, memory.New()}, withAny{[]int{2}, memory.New()})
	lease, err := both.TryAcquire(t.Context(), "k", ttl)
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
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
	synctest.Test(t, bothOffersWhatTheTwoStoresOffer) // on its clock: a busy machine's leases end meanwhile
}

func bothOffersWhatTheTwoStoresOffer(t *testing.T) {
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
	require.NoError(t, a.(*lock.Set).Leases()[0].Extend(t.Context(), 2*ttl))
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
