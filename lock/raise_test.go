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
)

func raising(f func(ctx context.Context, least uint64) (uint64, error)) func(*lock.Grant) {
	return func(g *lock.Grant) { g.RaiseToken = f }
}

func TestARaisedTokenIsTheLeasesFromThenOn(t *testing.T) {
	asked := 0
	s := &store{}
	lease := s.lease(raising(func(_ context.Context, least uint64) (uint64, error) {
		asked++
		return least + 5, nil // a store that has counted further
	}))
	require.NoError(t, lock.RaiseToken(t.Context(), lease, 3))
	require.Zero(t, asked, "it has that token")
	require.NoError(t, lock.RaiseToken(t.Context(), lease, 10))
	require.Equal(t, uint64(15), lease.Token())
	require.NoError(t, lock.RaiseToken(t.Context(), lease, 12))
	require.Equal(t, uint64(15), lease.Token())
	require.Equal(t, 1, asked)
	require.NoError(t, lease.Extend(t.Context(), ttl))
	require.NoError(t, lease.Release(t.Context()))
	requireLoss(t, lock.RaiseToken(t.Context(), lease, 20))
	require.Equal(t, 1, asked)
}

func TestWhatCanNotBeRaisedIsRefused(t *testing.T) {
	s := &store{}
	after := func(g *lock.Grant) {
		g.Start, g.ReleaseAfter = time.Now(), func(context.Context, time.Time) error { return nil }
	}
	for name, lease := range map[string]lock.Lease{
		"its store can't": s.lease(), "nor one that can keep a key": s.lease(after), "a foreign lease": struct{ lock.Lease }{s.lease()},
	} {
		require.ErrorIs(t, lock.RaiseToken(t.Context(), lease, 0), errors.ErrUnsupported, name)
	}
	require.ErrorIs(t, lock.RaiseToken(t.Context(), nil, 1), lock.ErrInvalid)
	can := raising(func(_ context.Context, least uint64) (uint64, error) { return least, nil })
	lease := s.lease(can, after)
	require.ErrorIs(t, lock.RaiseToken(t.Context(), lease, lock.MaxRaise+1), lock.ErrInvalid)
	require.NoError(t, lock.RaiseToken(t.Context(), lease, lock.MaxRaise))
	require.NoError(t, lock.ReleaseAfter(t.Context(), lease, time.Minute), "it can both")
}

func TestARaiseThatFailedSaysNothing(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"an outage": {lock.ErrUnavailable, lock.ErrUnavailable}, "an error of the driver": {errStore, lock.ErrUnavailable},
		"too large for the store": {lock.ErrInvalid, lock.ErrInvalid},
	} {
		s := &store{}
		lease := s.lease(raising(func(context.Context, uint64) (uint64, error) { return 0, c.err }))
		err := lock.RaiseToken(t.Context(), lease, 10)
		require.ErrorIs(t, err, c.want, name)
		require.NotErrorIs(t, err, lock.ErrLost, name)
		require.Equal(t, uint64(3), lease.Token(), name)
		require.NoError(t, lease.Extend(t.Context(), ttl), name)
	}
	s := &store{}
	lease := s.lease(raising(func(_ context.Context, least uint64) (uint64, error) { return least - 1, nil }))
	require.ErrorIs(t, lock.RaiseToken(t.Context(), lease, 10), lock.ErrUnavailable, "a store that does not do it")
	require.Equal(t, uint64(3), lease.Token())
	lease = s.lease(raising(func(context.Context, uint64) (uint64, error) { return 0, lock.ErrLost }))
	requireLoss(t, lock.RaiseToken(t.Context(), lease, 10))
	require.Zero(t, lease.Expiry(), "that is final")
	require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
}

func TestARaiseThatIsAnsweredTooLateIsALoss(t *testing.T) {
	bubble("AtItsEnd", t, func(t *testing.T) {
		s := &store{}
		lease := s.lease(raising(func(ctx context.Context, least uint64) (uint64, error) {
			time.Sleep(ttl)
			return least, nil
		}))
		requireLoss(t, lock.RaiseToken(t.Context(), lease, 10))
		require.Equal(t, uint64(3), lease.Token())
	})
	bubble("ItsContextEndsThere", t, func(t *testing.T) {
		s := &store{}
		lease := s.lease(raising(func(ctx context.Context, least uint64) (uint64, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}))
		start := time.Now()
		requireLoss(t, lock.RaiseToken(t.Context(), lease, 10))
		require.Equal(t, ttl, time.Since(start))
	})
}

func TestAReleaseCutsARaiseShortAndComesAfterIt(t *testing.T) {
	bubble("Release", t, func(t *testing.T) {
		s := &store{}
		under := false
		s.release = func(context.Context) error { require.False(t, under); return nil }
		lease := s.lease(raising(func(ctx context.Context, least uint64) (uint64, error) {
			under = true
			<-ctx.Done()
			under = false
			return least, nil // applied all the same
		}))
		done := make(chan error, 1)
		go func() { done <- lock.RaiseToken(t.Context(), lease, 10) }()
		synctest.Wait()
		require.NoError(t, lease.Release(t.Context()))
		requireLoss(t, <-done)
	})
}

// A lease that waited may be growing: its growth waits for the raise, and goes on.
func TestALeaseThatGrowsCanBeRaised(t *testing.T) {
	bubble("AndGrows", t, func(t *testing.T) {
		s := &store{}
		lease := s.lease(raising(func(_ context.Context, least uint64) (uint64, error) {
			time.Sleep(ttl / 2)
			return least, nil
		}), func(g *lock.Grant) { g.GrowTo = 2 * ttl })
		require.NoError(t, lock.RaiseToken(t.Context(), lease, 10))
		require.Equal(t, uint64(10), lease.Token())
		synctest.Wait()
		require.Equal(t, 1, s.extends)
		require.Equal(t, 2*ttl, time.Until(lease.Expiry()))
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestARaiseIsOfTheLeaseBelowAnObserver(t *testing.T) {
	lease := take(t, lock.Observe(memory.New(), func(lock.Event) {}), "k")
	require.NoError(t, lock.RaiseToken(t.Context(), lease, 100))
	require.Equal(t, uint64(100), lease.Token())
}
