package lock_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestASemaphoresWatch(t *testing.T) {
	bubble("WakesWhenAnySlotGetsFree", t, func(t *testing.T) {
		l := lock.Semaphore(memory.New(), 3)
		var leases []lock.Lease
		for range 3 {
			lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			leases = append(leases, lease)
		}
		for _, lease := range leases {
			begun := time.Now()
			time.AfterFunc(time.Second, func() { _ = lease.Release(context.Background()) })
			next, err := lock.Acquire(t.Context(), l, "k", time.Hour, nil)
			require.NoError(t, err)
			require.Equal(t, lease.Key(), next.Key())
			require.Equal(t, time.Second, time.Since(begun)) // nobody polled
		}
	})
	t.Run("OfSomeSlotsOnlyIsNone", func(t *testing.T) {
		all := &everything{watch: func(key string) error {
			if key == "k;slot=3" {
				return errStore
			}
			return nil
		}}
		w, ok := lock.As[lock.Watcher](lock.Semaphore(all, 4))
		require.True(t, ok)
		_, err := w.Watch(t.Context(), "k", nil)
		require.ErrorIs(t, err, errStore)
		require.ErrorContains(t, err, `"k"`)
		require.Equal(t, []string{"k", "k;slot=2"}, all.stopped)
		all.watch, all.stopped = nil, nil
		stop, err := w.Watch(t.Context(), "k", nil)
		require.NoError(t, err)
		require.Empty(t, all.stopped)
		stop()
		require.Equal(t, []string{"k", "k;slot=2", "k;slot=3", "k;slot=4"}, all.stopped)
	})
}

func TestASemaphoresInspect(t *testing.T) {
	infos := map[string]lock.Info{}
	all := &everything{inspect: func(key string) (lock.Info, error) {
		info := infos[key]
		info.Key = "full:" + key
		if info.Holder == "broken" {
			return lock.Info{}, errStore
		}
		return info, nil
	}}
	in := mustInspector(t, lock.Semaphore(all, 3))
	for name, c := range map[string]struct {
		slots [3]lock.Info
		want  string // of the key that comes out
		ttl   time.Duration
	}{
		"a free one":       {[3]lock.Info{{Holder: "a", TTL: 1}, {}, {Holder: "c", TTL: 2}}, "full:k;slot=2", 0},
		"the first to end": {[3]lock.Info{{Holder: "a", TTL: 3}, {Holder: "b", TTL: 1}, {Holder: "c", TTL: 2}}, "full:k;slot=2", 1},
		"-1 never ends":    {[3]lock.Info{{Holder: "a", TTL: -1}, {Holder: "b", TTL: 7}, {Holder: "c", TTL: -1}}, "full:k;slot=2", 7},
		"none ends":        {[3]lock.Info{{Holder: "a", TTL: -1}, {Holder: "b", TTL: -1}, {Holder: "c", TTL: -1}}, "full:k", -1},
	} {
		for i, info := range c.slots {
			infos[[]string{"k", "k;slot=2", "k;slot=3"}[i]] = info
		}
		info, err := in.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, c.want, info.Key, name)
		require.Equal(t, c.ttl, info.TTL, name)
	}
	infos["k;slot=2"] = lock.Info{Holder: "broken"}
	_, err := in.Inspect(t.Context(), "k")
	require.ErrorIs(t, err, errStore)
	require.ErrorContains(t, err, `"k"`)
}

// Clients with a larger n have slots, too, and every key is the slot 1 of itself.
func TestASemaphoresListIsThatOfTheLockerBelow(t *testing.T) {
	all := &everything{listErr: errStore, list: []lock.Info{{Key: "k"}, {Key: "k;slot=7"}, {Key: "other"}}}
	var got []string
	var failed error
	for info, err := range mustInspector(t, lock.Semaphore(all, 2)).List(t.Context(), "") {
		if err != nil {
			failed = err
			continue
		}
		got = append(got, info.Key)
	}
	require.Equal(t, []string{"k", "k;slot=7", "other"}, got)
	require.ErrorIs(t, failed, errStore)
	for range mustInspector(t, lock.Semaphore(all, 2)).List(t.Context(), "") {
		break
	}
}

func TestASemaphoresForceRelease(t *testing.T) {
	tokens := map[string]uint64{"k": 4, "k;slot=2": 5, "k;slot=3": 4}
	var broken []string
	fail := ""
	all := &everything{force: func(key string, token uint64) error {
		switch {
		case key == fail:
			return errStore
		case tokens[key] == 0:
			return nil
		case token != 0 && token != tokens[key]:
			return &lock.HeldError{Key: key, Holder: "other"}
		}
		broken = append(broken, key)
		return nil
	}}
	f := mustForce(t, lock.Semaphore(all, 3))
	force := func(token uint64) ([]string, error) {
		broken = nil
		err := f.ForceRelease(t.Context(), "k", token)
		return broken, err
	}
	got, err := force(4)
	require.NoError(t, err)
	require.Equal(t, []string{"k", "k;slot=3"}, got)
	got, err = force(0)
	require.NoError(t, err)
	require.Equal(t, []string{"k", "k;slot=2", "k;slot=3"}, got)
	got, err = force(6)
	require.ErrorIs(t, err, lock.ErrHeld)
	require.ErrorContains(t, err, `"k" (token 6): no slot has this token`)
	require.Empty(t, got)
	fail = "k" // the others are broken all the same
	got, err = force(0)
	require.ErrorIs(t, err, errStore)
	require.ErrorContains(t, err, "1 of 3 slots failed")
	require.Equal(t, []string{"k;slot=2", "k;slot=3"}, got)
	fail, tokens["k;slot=2"] = "", 0
	_, err = force(9)
	require.NoError(t, err, "one slot is free, so the term is over for sure")
}

func TestASemaphoreOffersWhatTheLockerBelowHas(t *testing.T) {
	l := lock.Semaphore(&fakeLocker{}, 2)
	_, ok := lock.As[lock.Watcher](l)
	require.False(t, ok)
	_, ok = lock.As[lock.Inspector](l)
	require.False(t, ok)
	_, ok = lock.As[lock.ForceReleaser](l)
	require.False(t, ok)
	_, ok = lock.As[lock.HealthChecker](l)
	require.False(t, ok)
	_, ok = lock.As[io.Closer](l)
	require.False(t, ok)
	_, ok = lock.As[interface{ onlyFake() }](l) // it might carry keys
	require.False(t, ok)

	all := lock.Semaphore(memory.New(), 2)
	h, ok := lock.As[lock.HealthChecker](all)
	require.True(t, ok)
	health, err := h.Health(t.Context())
	require.NoError(t, err)
	require.True(t, health.HasQuorum())
	c, ok := lock.As[io.Closer](all)
	require.True(t, ok)
	require.NoError(t, c.Close())
	_, err = all.TryAcquire(t.Context(), "k", ttl)
	require.ErrorIs(t, err, lock.ErrClosed)
}

// Anyone who waits for one of 2 slots must not keep one of 3 from the third.
func TestSemaphoresWithAnotherNHaveLinesOfTheirOwn(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		l := memory.New()
		two, three := lock.Semaphore(l, 2), lock.Semaphore(l, 3)
		for {
			if _, err := two.TryAcquire(t.Context(), "k", time.Hour); err != nil {
				break
			}
		}
		go func() { _, _ = lock.Acquire(t.Context(), two, "k", time.Hour, nil) }()
		synctest.Wait()
		begun := time.Now()
		lease, err := lock.Acquire(t.Context(), three, "k", time.Minute, nil)
		require.NoError(t, err)
		require.Equal(t, "k;slot=3", lease.Key())
		require.Zero(t, time.Since(begun))
		require.NoError(t, mustForce(t, two).ForceRelease(t.Context(), "k", 0))
	})
}

func mustInspector(t *testing.T, l lock.Locker) lock.Inspector {
	t.Helper()
	in, ok := lock.As[lock.Inspector](l)
	require.True(t, ok)
	return in
}

func mustForce(t *testing.T, l lock.Locker) lock.ForceReleaser {
	t.Helper()
	f, ok := lock.As[lock.ForceReleaser](l)
	require.True(t, ok)
	return f
}
