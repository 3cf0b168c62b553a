package lock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// allOf takes two keys for each, so that its leases are Sets.
type allOf struct{ lock.Locker }

func (a *allOf) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if err := lock.Check(key, ttl); err != nil {
		return nil, err
	}
	set, err := lock.AcquireAll(ctx, a.Locker, []string{key + "/1", key + "/2"}, ttl, &lock.AcquireOptions{Attempts: 1})
	if err != nil {
		return nil, err
	}
	return set, nil
}

// As offers what has no keys.
func (a *allOf) As(target any) (ok bool) {
	switch t := target.(type) {
	case *io.Closer:
		*t, ok = lock.As[io.Closer](a.Locker)
	case *lock.HealthChecker:
		*t, ok = lock.As[lock.HealthChecker](a.Locker)
	case *lock.MaxReleaseAfterer:
		*t, ok = lock.As[lock.MaxReleaseAfterer](a.Locker)
	}
	return ok
}

func TestASetIsALease(t *testing.T) {
	joint := func(key string) string {
		if len(key+"/1"+key+"/2") > lock.MaxKeyLen {
			return key + "/1 + 1 more"
		}
		return key + "/1 + " + key + "/2"
	}
	h := composedHarness(func(l *memory.Locker) lock.Locker {
		return &renaming{&allOf{l}, joint}
	}, joint)
	h.AllowSkips = append(h.AllowSkips, "Awaiter", "Watcher", "Inspector", "ForceReleaser", "Waiters", "TokenRaiser", "ExtendStarter")
	locktest.Run(t, h)
}

// setOf acquires n keys, a, b, ..., from fakes whose answers can be changed, for 10 s.
func setOf(t *testing.T, n int) (*lock.Set, []*store) {
	var stores []*store
	var keys []string
	for i := range n {
		stores, keys = append(stores, &store{}), append(keys, string(rune('a'+i)))
	}
	set, err := lock.AcquireAll(t.Context(), granting(func(key string, ttl time.Duration) lock.Lease {
		i := int(key[0] - 'a')
		return stores[i].lease(func(g *lock.Grant) {
			g.Key, g.Token, g.Expiry = key, uint64(7-i), time.Now().Add(ttl-time.Duration(i)*time.Second)
		})
	}), keys, ttl, nil)
	require.NoError(t, err)
	return set, stores
}

// granting grants every key at once.
type granting func(key string, ttl time.Duration) lock.Lease

func (g granting) TryAcquire(_ context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	return g(key, ttl), nil
}

func TestASetTellsOfItsMembers(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		set, _ := setOf(t, 3)
		require.Equal(t, "a + b + c", set.Key())
		require.Equal(t, uint64(7), set.Token()) // that of the first key
		require.Equal(t, time.Now().Add(ttl-2*time.Second), set.Expiry())
		leases := set.Leases()
		require.Len(t, leases, 3)
		for i, lease := range leases {
			require.Equal(t, string(rune('a'+i)), lease.Key())
			require.Equal(t, uint64(7-i), lease.Token())
		}
		leases[0] = nil // a copy
		require.NotNil(t, set.Leases()[0])

		one, _ := setOf(t, 1)
		require.Equal(t, "a", one.Key())
	})
	t.Run("ALongNameIsCut", func(t *testing.T) {
		var keys []string
		for i := range 20 {
			keys = append(keys, fmt.Sprintf("%02d", i)+strings.Repeat("k", 98))
		}
		set, err := lock.AcquireAll(t.Context(), memory.New(), keys, ttl, nil)
		require.NoError(t, err)
		require.Equal(t, strings.Join(keys[:5], " + ")+" + 15 more", set.Key())
		require.Len(t, set.Leases(), 20)
		set, err = lock.AcquireAll(t.Context(), memory.New(), []string{strings.Repeat("k", 512), "a"}, ttl, nil)
		require.NoError(t, err)
		require.Equal(t, strings.Repeat("k", 512)+" + 1 more", set.Key())
	})
}

func TestASetsExtend(t *testing.T) {
	bubble("ExtendsAllAtOnce", t, func(t *testing.T) {
		set, stores := setOf(t, 3)
		for _, s := range stores {
			s.extend = func(_ context.Context, ttl time.Duration) (time.Time, error) {
				start := time.Now()
				time.Sleep(time.Second)
				return start.Add(ttl), nil
			}
		}
		begun := time.Now()
		require.NoError(t, set.Extend(t.Context(), 20*time.Second))
		require.Equal(t, time.Second, time.Since(begun))
		require.Equal(t, begun.Add(20*time.Second), set.Expiry())
		require.NoError(t, set.Extend(t.Context(), 3*time.Second)) // also earlier
		require.Equal(t, begun.Add(4*time.Second), set.Expiry())
	})
	bubble("ThatFailsForOneSaysNothingAndMovesNothing", t, func(t *testing.T) {
		set, stores := setOf(t, 3)
		before := set.Expiry()
		stores[2].extend = func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, errStore }
		err := set.Extend(t.Context(), time.Minute)
		require.ErrorIs(t, err, errStore)
		require.NotErrorIs(t, err, lock.ErrLost)
		require.ErrorContains(t, err, `"c"`)
		require.Equal(t, before, set.Expiry())
		stores[0].extend, stores[2].extend = stores[2].extend, nil // another
		require.ErrorIs(t, set.Extend(t.Context(), time.Minute), errStore)
		require.Equal(t, before, set.Expiry(), "the earliest is another now")
		stores[0].extend = nil
		require.NoError(t, set.Extend(t.Context(), time.Minute))
		require.Equal(t, time.Now().Add(time.Minute), set.Expiry())
	})
	bubble("ThatShortenedSomeTellsTheirs", t, func(t *testing.T) {
		set, stores := setOf(t, 2)
		stores[1].extend = func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, errStore }
		require.ErrorIs(t, set.Extend(t.Context(), time.Second), errStore)
		require.Equal(t, time.Now().Add(time.Second), set.Expiry())
	})
	bubble("OfWhichOneIsLostIsLostForGood", t, func(t *testing.T) {
		set, stores := setOf(t, 3)
		stores[1].extend = func(context.Context, time.Duration) (time.Time, error) {
			return time.Time{}, fmt.Errorf("%w: taken", lock.ErrLost)
		}
		stores[2].extend = func(context.Context, time.Duration) (time.Time, error) {
			return time.Time{}, fmt.Errorf("%w: %w", lock.ErrUnavailable, context.DeadlineExceeded)
		}
		requireLoss(t, set.Extend(t.Context(), time.Minute))
		require.Zero(t, set.Expiry())
		asked := stores[0].extends
		requireLoss(t, set.Extend(t.Context(), time.Minute))
		require.Equal(t, asked, stores[0].extends, "the others need no more time")
		for _, s := range stores {
			require.Zero(t, s.releases)
		}
		requireLoss(t, set.Release(t.Context()))
		for _, s := range stores {
			require.Equal(t, 1, s.releases)
		}
		requireLoss(t, set.Release(t.Context()))
		require.Equal(t, 1, stores[0].releases)
	})
	bubble("FindsAMemberThatWasLostByItself", t, func(t *testing.T) {
		set, stores := setOf(t, 3)
		require.NoError(t, set.Leases()[1].Release(t.Context()))
		require.Zero(t, set.Expiry())
		requireLoss(t, set.Extend(t.Context(), time.Minute))
		require.Zero(t, stores[0].extends)
	})
	bubble("OfAnExpiredSetIsLost", t, func(t *testing.T) {
		set, stores := setOf(t, 2)
		stores[1].extend = func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, errStore }
		require.ErrorIs(t, set.Extend(t.Context(), time.Minute), errStore)
		time.Sleep(ttl - time.Second) // the first member is still held
		require.Greater(t, time.Until(set.Leases()[0].Expiry()), time.Second)
		requireLoss(t, set.Extend(t.Context(), time.Minute))
		requireLoss(t, set.Release(t.Context()))
		require.Equal(t, 1, stores[0].releases)
		require.Equal(t, 1, stores[1].releases)
	})
	bubble("ReturnsWhenItsCtxEnds", t, func(t *testing.T) {
		set, stores := setOf(t, 2)
		stores[1].extend = func(ctx context.Context, _ time.Duration) (time.Time, error) {
			<-ctx.Done()
			return time.Time{}, ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := set.Extend(ctx, time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, lock.ErrLost)
	})
}

func TestASetsRelease(t *testing.T) {
	failing := func(context.Context) error { return errStore }
	bubble("FreesAllAtOnceAndStaysNil", t, func(t *testing.T) {
		set, stores := setOf(t, 3)
		for _, s := range stores {
			s.release = func(context.Context) error { time.Sleep(time.Second); return nil }
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		begun := time.Now()
		done := make(chan error, 1)
		go func() { done <- set.Release(ended) }()
		synctest.Wait()
		require.Zero(t, set.Expiry())
		requireLoss(t, set.Extend(t.Context(), ttl))
		require.NoError(t, <-done)
		require.Equal(t, time.Second, time.Since(begun))
		require.NoError(t, set.Release(t.Context()))
		for _, s := range stores {
			require.Equal(t, 1, s.releases)
		}
	})
	bubble("FreesAllThoughOneIsLost", t, func(t *testing.T) {
		set, stores := setOf(t, 3)
		stores[0].release = func(context.Context) error { return lock.ErrLost }
		for range 2 {
			requireLoss(t, set.Release(t.Context()))
			for _, s := range stores {
				require.Equal(t, 1, s.releases)
			}
		}
	})
	bubble("CanBeRepeatedWhereItFailed", t, func(t *testing.T) {
		set, stores := setOf(t, 3)
		stores[1].release = failing
		err := set.Release(t.Context())
		require.ErrorIs(t, err, errStore)
		require.ErrorContains(t, err, `"b"`)
		require.NotErrorIs(t, err, lock.ErrLost)
		stores[1].release = nil
		require.NoError(t, set.Release(t.Context()))
		require.Equal(t, 1, stores[0].releases)
		require.Equal(t, 2, stores[1].releases)
	})
	bubble("IsNotFinallyLostWhileAMemberCanBeTriedAgain", t, func(t *testing.T) {
		set, stores := setOf(t, 3)
		stores[0].release = func(context.Context) error { return lock.ErrLost }
		stores[1].release = failing
		err := set.Release(t.Context())
		require.ErrorIs(t, err, errStore)
		require.NotErrorIs(t, err, lock.ErrLost)
		require.ErrorContains(t, err, `"a"`)
		stores[1].release = nil
		requireLoss(t, set.Release(t.Context()))
		require.Equal(t, 2, stores[1].releases)
	})
	bubble("OfALostSetStillTriesWhatIsLeft", t, func(t *testing.T) {
		set, stores := setOf(t, 3)
		stores[0].extend = func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, lock.ErrLost }
		requireLoss(t, set.Extend(t.Context(), ttl))
		stores[2].release = func(context.Context) error { return fmt.Errorf("%w: down", lock.ErrUnavailable) }
		for n := range 3 {
			err := set.Release(t.Context())
			requireLoss(t, err)
			require.ErrorContains(t, err, `still there: lock: release "c"`)
			require.Equal(t, n+1, stores[2].releases)
			require.Equal(t, 1, stores[1].releases)
		}
		stores[2].release = nil
		err := set.Release(t.Context())
		requireLoss(t, err)
		require.NotContains(t, err.Error(), "still there")
		require.Equal(t, 4, stores[2].releases)
		requireLoss(t, set.Release(t.Context()))
		require.Equal(t, 4, stores[2].releases)
	})
	bubble("CutsAnExtendShort", t, func(t *testing.T) {
		set, stores := setOf(t, 2)
		stores[0].extend = func(ctx context.Context, _ time.Duration) (time.Time, error) {
			<-ctx.Done()
			return time.Time{}, ctx.Err()
		}
		extended := make(chan error, 1)
		go func() { extended <- set.Extend(context.Background(), ttl) }()
		synctest.Wait()
		require.NoError(t, set.Release(t.Context()))
		err := <-extended
		require.ErrorIs(t, err, lock.ErrLost)
		require.False(t, errors.Is(err, context.Canceled))
	})
}
