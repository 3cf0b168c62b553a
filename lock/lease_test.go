package lock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

const ttl = 10 * time.Second

var errStore = errors.New("store says no")

// store is a Grant's two closures, and what they saw. Its zero value grants all.
type store struct {
	extend   func(ctx context.Context, ttl time.Duration) (time.Time, error)
	release  func(ctx context.Context) error
	extends  int
	releases int
}

func (s *store) lease(change ...func(*lock.Grant)) lock.Lease {
	g := lock.Grant{
		Key: "k", Token: 3, Expiry: time.Now().Add(ttl),
		Extend: func(ctx context.Context, ttl time.Duration) (time.Time, error) {
			s.extends++
			if s.extend != nil {
				return s.extend(ctx, ttl)
			}
			return time.Now().Add(ttl), nil
		},
		Release: func(ctx context.Context) error {
			s.releases++
			if s.release != nil {
				return s.release(ctx)
			}
			return nil
		},
	}
	for _, c := range change {
		c(&g)
	}
	return lock.NewLease(g)
}

func bubble(name string, t *testing.T, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func requireLoss(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, lock.ErrLost)
	require.NotErrorIs(t, err, lock.ErrUnavailable)
	require.NotErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
}

func TestNewLeasePanicsOnAMistakeOfTheBackend(t *testing.T) {
	for says, change := range map[string]func(*lock.Grant){
		"Key":           func(g *lock.Grant) { g.Key = "" },
		"Token":         func(g *lock.Grant) { g.Token = 0 },
		"zero time":     func(g *lock.Grant) { g.Expiry = time.Time{} },
		"monotonic":     func(g *lock.Grant) { g.Expiry = g.Expiry.Round(0) },
		"needs Extend ": func(g *lock.Grant) { g.Extend = nil },
		"or Term":       func(g *lock.Grant) { g.Release = nil },
		"GrowTo is -1s": func(g *lock.Grant) { g.GrowTo = -time.Second },
		"GrowTo is 9ns": func(g *lock.Grant) { g.GrowTo = 9 },
	} {
		func() {
			defer func() { require.Contains(t, recover(), says) }()
			new(store).lease(change)
		}()
	}
}

func TestExtend(t *testing.T) {
	bubble("MovesExpiryToTheStoresAnswerAlsoEarlier", t, func(t *testing.T) {
		s := &store{}
		l := s.lease()
		require.Equal(t, "k", l.Key())
		require.Equal(t, uint64(3), l.Token())
		require.Equal(t, time.Now().Add(ttl), l.Expiry())
		require.NoError(t, l.Extend(t.Context(), ttl/2))
		require.Equal(t, time.Now().Add(ttl/2), l.Expiry())
	})
	bubble("RefusesABadTTLBeforeAnyIO", t, func(t *testing.T) {
		s := &store{}
		require.ErrorIs(t, s.lease().Extend(t.Context(), 0), lock.ErrInvalid)
		require.Zero(t, s.extends)
	})
	bubble("OfAnExpiredLeaseIsLostWithoutIO", t, func(t *testing.T) {
		s := &store{}
		l := s.lease()
		time.Sleep(ttl)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		requireLoss(t, l.Extend(ctx, ttl))
		requireLoss(t, l.Extend(t.Context(), ttl))
		require.Zero(t, s.extends)
		require.Zero(t, l.Expiry())
	})
	bubble("AnsweredAfterTheOldExpiryIsLost", t, func(t *testing.T) {
		for _, answer := range []error{nil, lock.ErrUnavailable} {
			s := &store{extend: func(_ context.Context, ttl time.Duration) (time.Time, error) {
				time.Sleep(2 * ttl)
				return time.Now().Add(ttl), answer
			}}
			l := s.lease()
			requireLoss(t, l.Extend(t.Context(), ttl))
			requireLoss(t, l.Extend(t.Context(), ttl))
			require.Zero(t, l.Expiry())
			requireLoss(t, l.Release(t.Context()))
		}
	})
	bubble("IsCutAtTheOldExpiryAndTheLossIsNoContextError", t, func(t *testing.T) {
		s := &store{extend: func(ctx context.Context, _ time.Duration) (time.Time, error) {
			<-ctx.Done()
			return time.Time{}, errors.Join(ctx.Err(), errStore)
		}}
		l, start := s.lease(), time.Now()
		err := l.Extend(t.Context(), ttl)
		requireLoss(t, err)
		require.ErrorIs(t, err, errStore, "the store's own error stays inside")
		require.Equal(t, ttl, time.Since(start))
	})
	bubble("WithAnyOtherErrorKeepsExpiryAndMayBeTriedAgain", t, func(t *testing.T) {
		s := &store{}
		l := s.lease()
		before := l.Expiry()
		for _, answer := range []error{errStore, lock.ErrUnavailable} {
			s.extend = func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, answer }
			err := l.Extend(t.Context(), ttl)
			require.ErrorIs(t, err, answer)
			require.NotErrorIs(t, err, lock.ErrLost)
			require.Equal(t, before, l.Expiry())
		}
		s.extend = nil
		time.Sleep(time.Second)
		require.NoError(t, l.Extend(t.Context(), ttl))
		require.Equal(t, before.Add(time.Second), l.Expiry())
	})
	bubble("DefiniteLossIsFinal", t, func(t *testing.T) {
		s := &store{extend: func(context.Context, time.Duration) (time.Time, error) {
			return time.Time{}, errors.Join(lock.ErrLost, context.Canceled, lock.ErrUnavailable, &lock.HeldError{Key: "k"})
		}}
		l := s.lease()
		err := l.Extend(t.Context(), ttl)
		requireLoss(t, err)
		require.ErrorIs(t, err, lock.ErrHeld)
		_, ok := errors.AsType[*lock.HeldError](err)
		require.True(t, ok)
		require.Zero(t, l.Expiry())
		s.extend = nil
		requireLoss(t, l.Extend(t.Context(), ttl))
		requireLoss(t, l.Release(t.Context()))
		require.Equal(t, 1, s.releases, "what it left is still removed")
	})
	bubble("WithNoTimeLeftIsLost", t, func(t *testing.T) {
		s := &store{extend: func(context.Context, time.Duration) (time.Time, error) { return time.Now(), nil }}
		requireLoss(t, s.lease().Extend(t.Context(), ttl))
	})
	bubble("ReturnsWhenCtxEndsWithItsErrorAndCause", t, func(t *testing.T) {
		cause := errors.New("shutting down")
		s := &store{extend: func(ctx context.Context, _ time.Duration) (time.Time, error) {
			<-ctx.Done()
			return time.Time{}, ctx.Err()
		}}
		l := s.lease()
		before := l.Expiry()
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		errs := make(chan error, 3)
		start := time.Now()
		for range 2 { // the second waits for the first
			go func() { errs <- l.Extend(ctx, ttl) }()
		}
		for range 2 {
			err := <-errs
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, cause)
			require.NotErrorIs(t, err, lock.ErrLost)
		}
		require.Equal(t, time.Second, time.Since(start))
		require.ErrorIs(t, l.Extend(ctx, ttl), cause, "ended before the call")
		require.LessOrEqual(t, s.extends, 1)
		require.Equal(t, before, l.Expiry())
	})
	bubble("DoesNotReadAnotherLeasesLossInCtxAsItsOwn", t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(lock.ErrLost)
		l := new(store).lease()
		err := l.Extend(ctx, ttl)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, lock.ErrLost)
		require.NoError(t, l.Extend(t.Context(), ttl))
	})
	bubble("StoresOwnTimeoutIsAnOutageNotTheEndOfCtx", t, func(t *testing.T) {
		s := &store{extend: func(context.Context, time.Duration) (time.Time, error) {
			return time.Time{}, context.DeadlineExceeded
		}}
		err := s.lease().Extend(t.Context(), ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	})
	bubble("NeverOverlapsAnother", t, func(t *testing.T) {
		running := 0
		s := &store{}
		s.extend = func(_ context.Context, ttl time.Duration) (time.Time, error) {
			running++
			require.Equal(t, 1, running)
			start := time.Now()
			time.Sleep(time.Second)
			running--
			return start.Add(ttl), nil
		}
		l := s.lease()
		for range 5 {
			go func() { require.NoError(t, l.Extend(t.Context(), ttl)) }()
		}
		synctest.Wait()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, 5, s.extends)
	})
	bubble("PanicOfTheStoreLeavesTheLeaseUsable", t, func(t *testing.T) {
		s := &store{extend: func(context.Context, time.Duration) (time.Time, error) { panic("store") }}
		l := s.lease()
		require.PanicsWithValue(t, "store", func() { _ = l.Extend(t.Context(), ttl) })
		s.extend = nil
		require.NoError(t, l.Extend(t.Context(), ttl))
		s.release = func(context.Context) error { panic("store") }
		require.PanicsWithValue(t, "store", func() { _ = l.Release(t.Context()) })
		s.release = nil
		require.NoError(t, l.Release(t.Context()))
	})
}

func TestSuspensionOnlyEverShortensTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var suspended time.Duration
		s := &store{}
		l := s.lease(func(g *lock.Grant) { g.Suspended = func() time.Duration { return suspended } })
		end := l.Expiry()
		suspended = 4 * time.Second
		require.Equal(t, end.Add(-4*time.Second), l.Expiry())
		require.NoError(t, l.Extend(t.Context(), ttl))
		require.Equal(t, end, l.Expiry(), "what came before the request does not count")
		suspended = 3 * time.Second
		require.Equal(t, end, l.Expiry(), "never lengthened")
		s.extend = func(_ context.Context, ttl time.Duration) (time.Time, error) {
			suspended = 20 * time.Second // while the request is under way
			return time.Now().Add(ttl), nil
		}
		requireLoss(t, l.Extend(t.Context(), ttl))
		require.Zero(t, l.Expiry())
	})
}

type term struct{}

func (m *term) ExtendTerm(_ context.Context, key string, token uint64, ttl time.Duration) (time.Time, error) {
	if key != "k" || token != 3 {
		return time.Time{}, errStore
	}
	return time.Now().Add(ttl), nil
}

func (m *term) ReleaseTerm(_ context.Context, key string, token uint64) error {
	if key != "k" || token != 3 {
		return errStore
	}
	return nil
}

func TestTermTakesThePlaceOfTheClosuresAndAllocatesOnlyTheLease(t *testing.T) {
	m := &term{}
	g := lock.Grant{Key: "k", Token: 3, Expiry: time.Now().Add(time.Hour), Term: m, ReleaseTimeout: -1}
	l := lock.NewLease(g)
	require.NoError(t, l.Extend(t.Context(), time.Hour))
	require.NoError(t, l.Release(t.Context()))
	var err error
	allocs := testing.AllocsPerRun(100, func() {
		l := lock.NewLease(g)
		err = errors.Join(err, l.Release(context.Background()))
	})
	require.NoError(t, err)
	require.Equal(t, 1.0, allocs)
}
