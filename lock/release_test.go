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

func TestRelease(t *testing.T) {
	bubble("IsIdempotentAndFinalNilStaysNil", t, func(t *testing.T) {
		s := &store{}
		l := s.lease()
		require.NoError(t, l.Release(t.Context()))
		time.Sleep(2 * ttl)
		require.NoError(t, l.Release(t.Context()))
		require.Equal(t, 1, s.releases)
		require.Zero(t, l.Expiry())
		requireLoss(t, l.Extend(t.Context(), ttl))
		require.Zero(t, s.extends)
	})
	bubble("FinalLossStaysLoss", t, func(t *testing.T) {
		s := &store{release: func(context.Context) error { return lock.ErrLost }}
		l := s.lease()
		requireLoss(t, l.Release(t.Context()))
		s.release = nil
		requireLoss(t, l.Release(t.Context()))
		require.Equal(t, 1, s.releases)
	})
	bubble("WorksUnderAnEndedCtxAndKeepsItsValues", t, func(t *testing.T) {
		type key struct{}
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
		cancel()
		s := &store{release: func(ctx context.Context) error {
			require.Equal(t, "v", ctx.Value(key{}))
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, time.Now().Add(lock.DefaultReleaseTimeout), deadline)
			return ctx.Err()
		}}
		require.NoError(t, s.lease().Release(ctx))
	})
	bubble("IsBoundedByItsOwnTimeoutAndIsNoContextError", t, func(t *testing.T) {
		for _, answer := range []error{nil, lock.ErrUnavailable, errStore} {
			s := &store{release: func(ctx context.Context) error {
				<-ctx.Done()
				return errors.Join(ctx.Err(), answer)
			}}
			start := time.Now()
			err := s.lease(func(g *lock.Grant) { g.ReleaseTimeout = time.Second }).Release(t.Context())
			require.Equal(t, time.Second, time.Since(start))
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			if answer != nil {
				require.ErrorIs(t, err, answer)
			}
		}
	})
	bubble("ThatFailedMayBeCalledAgainAndNothingIsCertainMeanwhile", t, func(t *testing.T) {
		s := &store{release: func(context.Context) error { return errStore }}
		l := s.lease()
		require.ErrorIs(t, l.Release(t.Context()), errStore)
		require.Zero(t, l.Expiry(), "the request may have been applied")
		requireLoss(t, l.Extend(t.Context(), ttl))
		s.release = nil
		require.NoError(t, l.Release(t.Context()))
		require.Equal(t, 2, s.releases)
	})
	bubble("PastExpiryStillTriesOnceAndSaysLost", t, func(t *testing.T) {
		s := &store{release: func(context.Context) error { return errStore }}
		l := s.lease()
		time.Sleep(ttl)
		requireLoss(t, l.Release(t.Context()))
		requireLoss(t, l.Release(t.Context()))
		require.Equal(t, 1, s.releases)
	})
	bubble("CutsAnExtendShortAndComesAfterIt", t, func(t *testing.T) {
		var order []string
		s := &store{}
		s.extend = func(ctx context.Context, ttl time.Duration) (time.Time, error) {
			<-ctx.Done()
			order = append(order, "extend")
			return time.Now().Add(ttl), nil // applied all the same
		}
		s.release = func(context.Context) error {
			order = append(order, "release")
			time.Sleep(time.Second)
			return nil
		}
		l, start := s.lease(), time.Now()
		errs := make(chan error, 3)
		for range 2 {
			go func() { errs <- l.Extend(t.Context(), ttl) }()
		}
		synctest.Wait()
		go func() { errs <- l.Release(t.Context()) }()
		requireLoss(t, <-errs)
		requireLoss(t, <-errs)
		require.Zero(t, time.Since(start), "an extend does not wait for the release to end")
		requireLoss(t, l.Extend(t.Context(), ttl))
		require.Zero(t, l.Expiry())
		require.NoError(t, <-errs)
		require.Equal(t, []string{"extend", "release"}, order)
	})
	bubble("SaysLostIfTheExtendItCutShortLearntThat", t, func(t *testing.T) {
		s := &store{extend: func(ctx context.Context, _ time.Duration) (time.Time, error) {
			<-ctx.Done()
			return time.Time{}, lock.ErrLost
		}}
		l := s.lease()
		go func() { requireLoss(t, l.Extend(t.Context(), ttl)) }()
		synctest.Wait()
		requireLoss(t, l.Release(t.Context()))
	})
	bubble("IsBoundedAlsoBehindAnExtendThatIgnoresItsCtx", t, func(t *testing.T) {
		s := &store{extend: func(_ context.Context, ttl time.Duration) (time.Time, error) {
			time.Sleep(7 * time.Second)
			return time.Now().Add(ttl), nil
		}}
		l, start := s.lease(), time.Now()
		go func() { _ = l.Extend(t.Context(), ttl) }()
		synctest.Wait()
		err := l.Release(t.Context())
		require.Equal(t, lock.DefaultReleaseTimeout, time.Since(start))
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, s.releases)
		require.NoError(t, l.Release(t.Context()))
	})
	bubble("CalledTwiceAtOnceAsksTheStoreOnce", t, func(t *testing.T) {
		s := &store{release: func(context.Context) error { time.Sleep(time.Second); return nil }}
		l := s.lease()
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- l.Release(t.Context()) }()
		}
		require.NoError(t, <-errs)
		require.NoError(t, <-errs)
		require.Equal(t, 1, s.releases)
	})
}
