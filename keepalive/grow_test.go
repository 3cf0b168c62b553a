package keepalive

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// growing is a lease that starts with a claim of ttl and takes the rest by itself, when
// a test calls grow.
type growing struct {
	lock.Lease
	grow func()
}

// growingLease makes one. It is lost if it is not extended and does not grow.
func (s *store) growingLease(claim time.Duration) *growing {
	lease := s.lease(claim)
	return &growing{lease, func() { _ = lease.Extend(context.Background(), ttl) }}
}

func TestALeaseThatStartsShort(t *testing.T) {
	const claim = time.Second // as much as the default margin
	bubble(t, "IsKeptAndRenewedAtOnce", func(t *testing.T) {
		s := &store{}
		k, err := Start(t.Context(), s.growingLease(claim), ttl, nil)
		require.NoError(t, err)
		synctest.Wait()
		extends, _, _ := s.seen()
		require.Equal(t, []time.Duration{0}, extends)
		require.Equal(t, time.Now().Add(ttl), k.Expiry())
		time.Sleep(time.Hour)
		require.NoError(t, k.Context().Err())
		require.NoError(t, k.Release(t.Context()))
	})
	bubble(t, "HasHalfOfItForAMarginUntilARenewalHasSucceeded", func(t *testing.T) {
		for _, margin := range []time.Duration{0, 4 * time.Second, 100 * time.Millisecond, -1} {
			want := claim / 2
			switch margin {
			case 100 * time.Millisecond:
				want = claim - margin
			case -1:
				want = claim
			}
			k, err := Start(t.Context(), (&store{onExtend: failing}).growingLease(claim), ttl, &Options{Margin: margin})
			require.NoError(t, err)
			require.Equal(t, want, endsAfter(t, k.Context()))
			require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
			require.ErrorIs(t, context.Cause(k.Context()), errBroken)
			_ = k.Release(t.Context())
		}
	})
	bubble(t, "HasTheWholeMarginAfterARenewal", func(t *testing.T) {
		s := &store{}
		k, err := Start(t.Context(), s.growingLease(claim), ttl, &Options{Margin: 4 * time.Second})
		require.NoError(t, err)
		synctest.Wait()
		s.answer(hang)
		require.Equal(t, ttl-4*time.Second, endsAfter(t, k.Context()))
		_ = k.Release(t.Context())
	})
	bubble(t, "IsRenewedAtOnceWhereLessThanIntervalIsLeft", func(t *testing.T) {
		s := &store{}
		k, err := Start(t.Context(), s.growingLease(7*time.Second), ttl, &Options{Interval: 8 * time.Second})
		require.NoError(t, err)
		synctest.Wait()
		extends, _, _ := s.seen()
		require.Equal(t, []time.Duration{0}, extends)
		require.NoError(t, k.Release(t.Context()))
	})
	bubble(t, "TriesAgainWhileAnyOfItIsLeft", func(t *testing.T) {
		s := &store{onExtend: func(ctx context.Context, n int) error {
			if n == 1 {
				return hang(ctx, n)
			}
			return nil
		}}
		k, err := Start(t.Context(), s.growingLease(claim), ttl, nil)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, k.Context().Err())
		require.NoError(t, k.Release(t.Context()))
	})
	// The keeper's own renewals fail, and the lease grows all the same.
	bubble(t, "IsNotTakenForLostWhenItGrowsByItself", func(t *testing.T) {
		for _, after := range []time.Duration{claim / 100, claim / 4, claim/2 - claim/100} {
			s := &store{}
			g := s.growingLease(claim)
			k, err := Start(t.Context(), renewalsFail{g}, ttl, &Options{Margin: 2 * time.Second})
			require.NoError(t, err)
			time.AfterFunc(after, g.grow)
			require.Equal(t, after+ttl-2*time.Second, endsAfter(t, k.Context()), after)
			_ = k.Release(t.Context())
		}
	})
	bubble(t, "IsLostOnceItsDeadlineWasOverAlthoughItGrewLater", func(t *testing.T) {
		g := (&store{}).growingLease(claim)
		k, err := Start(t.Context(), renewalsFail{g}, ttl, nil)
		require.NoError(t, err)
		time.AfterFunc(claim/2+1, g.grow)
		require.Equal(t, claim/2, endsAfter(t, k.Context()))
		time.Sleep(claim)
		require.Zero(t, k.Expiry())
		require.NotZero(t, g.Expiry())
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
	})
	bubble(t, "IsKeptInASet", func(t *testing.T) {
		l := shortGrants{memory.New()}
		set, err := lock.AcquireAll(t.Context(), l, []string{"a", "b", "c"}, ttl, nil)
		require.NoError(t, err)
		k, err := Start(t.Context(), set, ttl, nil)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.NoError(t, k.Context().Err())
		require.NoError(t, k.Release(t.Context()))
	})
	bubble(t, "IsKeptByDoInEveryComposition", func(t *testing.T) {
		base := memory.New()
		for name, l := range map[string]lock.Locker{
			"bare":     shortGrants{base},
			"observed": lock.Observe(shortGrants{base}, func(lock.Event) {}),
			"prefixed": lock.Prefix(shortGrants{base}, "p:"),
			"slots":    lock.Semaphore(shortGrants{base}, 2),
		} {
			require.NoError(t, Do(t.Context(), l, "k", ttl, func(ctx context.Context) error {
				time.Sleep(time.Hour)
				return ctx.Err()
			}, nil), name)
		}
	})
	bubble(t, "IsHeldForAtLeastThatLong", func(t *testing.T) {
		base := memory.New()
		start := time.Now()
		require.NoError(t, Do(t.Context(), shortGrants{base}, "k", ttl, func(context.Context) error { return nil }, &Options{AtLeast: time.Minute}))
		_, err := lock.Acquire(t.Context(), base, "k", ttl, nil)
		require.NoError(t, err)
		require.Equal(t, time.Minute, time.Since(start))
	})
}

// renewalsFail is a growing lease whose keeper can't reach the store.
type renewalsFail struct{ *growing }

func (renewalsFail) Extend(context.Context, time.Duration) error { return errBroken }

// shortGrants is a store whose leases all start with a second.
type shortGrants struct{ *memory.Locker }

func (s shortGrants) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	return s.shorten(key, ttl)(s.Locker.TryAcquire(ctx, key, min(ttl, time.Second)))
}

func (s shortGrants) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	return s.shorten(key, ttl)(s.Locker.Await(ctx, key, min(ttl, time.Second), refused))
}

func (shortGrants) shorten(key string, ttl time.Duration) func(lock.Lease, error) (lock.Lease, error) {
	return func(inner lock.Lease, err error) (lock.Lease, error) {
		if err != nil {
			return nil, err
		}
		start := time.Now()
		return lock.NewLease(lock.Grant{
			Key: key, Token: inner.Token(), Start: start, Expiry: inner.Expiry(), GrowTo: ttl,
			Extend: func(ctx context.Context, ttl time.Duration) (time.Time, error) {
				err := inner.Extend(ctx, ttl)
				return inner.Expiry(), err
			},
			Release: inner.Release,
			ReleaseAfter: func(ctx context.Context, until time.Time) error {
				return lock.ReleaseAfter(ctx, inner, until.Sub(start))
			},
		}), nil
	}
}
