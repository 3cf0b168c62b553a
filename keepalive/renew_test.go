package keepalive

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestRenewal(t *testing.T) {
	bubble(t, "IntervalDefaultsToHalfTheTTL", func(t *testing.T) {
		s := &store{}
		k := keep(t, t.Context(), s, nil)
		time.Sleep(26 * time.Second)
		extends, _, _ := s.seen()
		require.Len(t, extends, 5)
		inStep(t, 5*time.Second, extends)
		require.NoError(t, k.Context().Err())
	})

	bubble(t, "IntervalCountsFromTheRequest", func(t *testing.T) {
		s := &store{onExtend: func(context.Context, int) error { time.Sleep(time.Second); return nil }}
		keep(t, t.Context(), s, &Options{Interval: 3 * time.Second})
		time.Sleep(10 * time.Second)
		extends, _, _ := s.seen()
		require.Len(t, extends, 3)
		inStep(t, 3*time.Second, extends)
	})

	bubble(t, "LeasesTakenTogetherAreNotRenewedInStepButInGroups", func(t *testing.T) {
		const n = 2000
		var mu sync.Mutex
		moments := map[time.Duration]int{}
		began := time.Now()
		for range n {
			s := &store{onExtend: func(context.Context, int) error {
				mu.Lock()
				defer mu.Unlock()
				moments[time.Since(began)]++
				return nil
			}}
			keep(t, t.Context(), s, nil)
		}
		time.Sleep(ttl/2 + time.Nanosecond) // each is renewed once, none later
		mu.Lock()
		defer mu.Unlock()
		sum := 0
		for at, count := range moments {
			require.GreaterOrEqual(t, at, ttl/2-ttl/20)
			require.Less(t, count, n/10)
			sum += count
		}
		require.Equal(t, n, sum)
		// A tenth of the interval, whose moments are a 256th of it apart.
		require.Greater(t, len(moments), 20)
		require.LessOrEqual(t, len(moments), 27)
	})

	bubble(t, "OneFailureLosesNothing", func(t *testing.T) {
		s := &store{onExtend: func(_ context.Context, n int) error {
			if n%2 == 1 {
				return errBroken
			}
			return nil
		}}
		k := keep(t, t.Context(), s, nil)
		time.Sleep(time.Hour)
		require.NoError(t, k.Context().Err())
	})

	bubble(t, "OneHungRenewalLosesNothing", func(t *testing.T) {
		s := &store{onExtend: func(ctx context.Context, n int) error {
			if n%2 == 1 {
				return hang(ctx, n)
			}
			return nil
		}}
		k := keep(t, t.Context(), s, nil)
		time.Sleep(time.Hour)
		require.NoError(t, k.Context().Err())
	})

	bubble(t, "FailedRenewalIsTriedAgainSoonWhileTimeRemains", func(t *testing.T) {
		s := &store{onExtend: failing}
		k := keep(t, t.Context(), s, nil)
		<-k.Context().Done()
		extends, _, _ := s.seen()
		inStep(t, ttl/2, extends[:1])
		require.Less(t, extends[1]-extends[0], ttl/20)
		require.Greater(t, len(extends), 5)
		require.Less(t, len(extends), 25) // a store in trouble is not flooded
		require.Less(t, extends[len(extends)-1], 9*time.Second)
		require.Greater(t, extends[len(extends)-1], 8*time.Second)
	})

	bubble(t, "RetriesHaveJitter", func(t *testing.T) {
		pauses := map[time.Duration]bool{}
		for range 20 {
			s := &store{onExtend: failing}
			k := keep(t, t.Context(), s, nil)
			<-k.Context().Done()
			extends, _, _ := s.seen()
			pauses[extends[1]-extends[0]] = true
		}
		require.Greater(t, len(pauses), 10)
	})

	bubble(t, "EachTryIsBounded", func(t *testing.T) {
		var mu sync.Mutex
		var bounds []time.Duration
		s := &store{onExtend: func(ctx context.Context, n int) error {
			start := time.Now()
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			bounds = append(bounds, time.Since(start))
			return ctx.Err()
		}}
		k := keep(t, t.Context(), s, nil)
		<-k.Context().Done()
		synctest.Wait()
		extends, _, _ := s.seen()
		require.Equal(t, (ttl-ttl/10-extends[0])/2, bounds[0]) // half of what was left
		require.Greater(t, len(bounds), 3)
		require.Less(t, len(bounds), 25)
	})

	bubble(t, "RecoversAfterAnOutageWithinTheTTL", func(t *testing.T) {
		began := time.Now()
		s := &store{onExtend: func(ctx context.Context, n int) error {
			if d := time.Since(began); d > 20*time.Second && d < 27*time.Second {
				return errBroken
			}
			return nil
		}}
		k := keep(t, t.Context(), s, nil)
		time.Sleep(time.Minute)
		require.NoError(t, k.Context().Err())
		require.Zero(t, k.failures)
	})

	bubble(t, "AnExpiryShorterThanAskedForIsNotRenewedInASpin", func(t *testing.T) {
		calls := 0
		lease := lock.NewLease(lock.Grant{
			Key: key, Token: token, Expiry: time.Now().Add(4 * time.Second),
			Extend: func(context.Context, time.Duration) (time.Time, error) {
				calls++
				return time.Now().Add(4 * time.Second), nil // a store with a ceiling
			},
			Release: func(context.Context) error { return nil },
		})
		k, err := Start(t.Context(), lease, ttl, nil)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, k.Context().Err())
		require.NoError(t, k.Release(t.Context()))
		require.Less(t, calls, 200)
	})
}

func TestDraining(t *testing.T) {
	bubble(t, "RenewalGoesOnUntilRelease", func(t *testing.T) {
		s := &store{}
		ctx, cancel := context.WithCancel(t.Context())
		k := keep(t, ctx, s, &Options{DrainTimeout: time.Hour})
		cancel()
		time.Sleep(30 * time.Minute)
		require.Greater(t, time.Until(k.Expiry()), ttl/2-1)
		require.NoError(t, k.Release(context.Background()))
		extends, _, _ := s.seen()
		time.Sleep(time.Hour)
		after, _, _ := s.seen()
		require.Equal(t, extends, after)
	})

	bubble(t, "RenewalGoesOnUntilDrainTimeout", func(t *testing.T) {
		for drain, want := range map[time.Duration]int{0: 3, -1: 1, 11 * time.Second: 3, 20 * time.Second: 5} {
			s := &store{}
			ctx, cancel := context.WithCancel(t.Context())
			k := keep(t, ctx, s, &Options{DrainTimeout: drain})
			time.Sleep(6 * time.Second) // one renewal, at 4.5s to 5s
			cancel()
			<-k.Lost()
			extends, _, _ := s.seen()
			require.Len(t, extends, want, drain)
			require.ErrorIs(t, k.Release(context.Background()), lock.ErrLost)
		}
	})
}

func TestExtend(t *testing.T) {
	bubble(t, "MovesTheDeadlineAndTheNextRenewal", func(t *testing.T) {
		s := &store{}
		k := keep(t, t.Context(), s, nil)
		require.NoError(t, k.Extend(t.Context(), time.Hour))
		s.answer(failing)
		// Renewal is due when 5s are left, or a little more; the context ends when 1s is.
		require.Equal(t, time.Hour-time.Second, endsAfter(t, k.Context()))
		extends, _, _ := s.seen()
		inStep(t, ttl/2, []time.Duration{extends[1] - (time.Hour - ttl)})
	})

	bubble(t, "MayMoveTheDeadlineEarlier", func(t *testing.T) {
		s := &store{}
		k := keep(t, t.Context(), s, nil)
		require.NoError(t, k.Extend(t.Context(), 3*time.Second))
		s.answer(failing)
		require.Equal(t, 2*time.Second, endsAfter(t, k.Context()))
	})

	bubble(t, "ToAMomentIsRenewedWithinIt", func(t *testing.T) {
		s := &store{}
		k := keep(t, t.Context(), s, nil)
		require.NoError(t, k.Extend(t.Context(), ttl/10+ttl/100)) // a hundredth more than the margin
		time.Sleep(time.Minute)
		require.NoError(t, k.Context().Err())
		extends, _, _ := s.seen()
		require.Less(t, len(extends), 20)
	})

	bubble(t, "DefiniteLossEndsTheContextAtOnce", func(t *testing.T) {
		s := &store{onExtend: func(context.Context, int) error { return lock.ErrLost }}
		k := keep(t, t.Context(), s, nil)
		require.ErrorIs(t, k.Extend(t.Context(), ttl), lock.ErrLost)
		require.ErrorIs(t, context.Cause(k.inner), lock.ErrLost)
	})

	bubble(t, "FailureSaysNothing", func(t *testing.T) {
		s := &store{onExtend: failing}
		k := keep(t, t.Context(), s, nil)
		require.ErrorIs(t, k.Extend(t.Context(), ttl), errBroken)
		require.ErrorIs(t, k.Extend(t.Context(), 0), lock.ErrInvalid)
		require.NoError(t, k.Context().Err())
		s.answer(nil)
		time.Sleep(time.Minute)
		require.NoError(t, k.Context().Err())
	})
}

// rude is a lease by an author who left everything to the keeper.
type rude struct {
	mu       sync.Mutex
	expiry   time.Time
	extend   func(ctx context.Context) error
	released func()
}

func (l *rude) Key() string   { return key }
func (l *rude) Token() uint64 { return token }
func (l *rude) Expiry() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expiry
}
func (l *rude) Extend(ctx context.Context, _ time.Duration) error { return l.extend(ctx) }
func (l *rude) Release(context.Context) error                     { l.released(); return nil }

func TestAnyLease(t *testing.T) {
	bubble(t, "ReleaseWaitsForARenewalUnderWay", func(t *testing.T) {
		var under atomic.Bool
		lease := &rude{
			expiry: time.Now().Add(ttl),
			extend: func(ctx context.Context) error {
				under.Store(true)
				<-ctx.Done()
				time.Sleep(time.Second)
				under.Store(false)
				return ctx.Err()
			},
			released: func() { require.False(t, under.Load()) },
		}
		k, err := Start(t.Context(), lease, ttl, nil)
		require.NoError(t, err)
		time.Sleep(ttl/2 + 1)
		require.True(t, under.Load())
		require.NoError(t, k.Release(t.Context()))
	})

	bubble(t, "DefiniteLossEndsTheContextAtOnce", func(t *testing.T) {
		lease := &rude{
			expiry:   time.Now().Add(ttl),
			extend:   func(context.Context) error { return lock.ErrLost },
			released: func() {},
		}
		k, err := Start(t.Context(), lease, ttl, nil)
		require.NoError(t, err)
		inStep(t, ttl/2, []time.Duration{endsAfter(t, k.Context())})
		require.Zero(t, k.Expiry())
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
	})

	bubble(t, "SuccessAfterTheDeadlineIsALossThoughNoTimerRan", func(t *testing.T) {
		lease := &rude{expiry: time.Now().Add(ttl), released: func() {}}
		lease.extend = func(context.Context) error {
			time.Sleep(4500 * time.Millisecond)
			lease.mu.Lock()
			defer lease.mu.Unlock()
			lease.expiry = time.Now().Add(ttl)
			return nil
		}
		k, err := Start(t.Context(), lease, ttl, nil)
		require.NoError(t, err)
		time.Sleep(ttl/2 + 1)
		k.mu.Lock()
		k.timer.Stop() // as if the process had been stopped
		k.mu.Unlock()
		require.Less(t, endsAfter(t, k.inner), 4500*time.Millisecond)
		require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
	})
}
