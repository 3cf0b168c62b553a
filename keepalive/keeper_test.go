package keepalive

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestContext(t *testing.T) {
	bubble(t, "EndsWhenCtxDoesWithItsCause", func(t *testing.T) {
		errStop := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		k := keep(t, ctx, &store{}, nil)
		time.Sleep(time.Minute)
		require.NoError(t, k.Context().Err())
		cancel(errStop)
		<-k.Context().Done()
		require.Equal(t, context.Canceled, k.Context().Err())
		require.Equal(t, errStop, context.Cause(k.Context()))
	})

	bubble(t, "EndsWithTheParentsDeadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		k := keep(t, ctx, &store{}, nil)
		require.Equal(t, time.Minute, endsAfter(t, k.Context()))
		require.Equal(t, context.DeadlineExceeded, k.Context().Err())
	})

	bubble(t, "EndsMarginBeforeExpiryWhileARenewalHangs", func(t *testing.T) {
		k := keep(t, t.Context(), &store{onExtend: hang}, &Options{Margin: 2 * time.Second})
		require.Equal(t, ttl-2*time.Second, endsAfter(t, k.Context()))
		cause := context.Cause(k.Context())
		require.ErrorIs(t, cause, lock.ErrLost)
		require.ErrorIs(t, cause, lock.ErrUnavailable) // the tries that were cut short
		require.NotErrorIs(t, cause, context.DeadlineExceeded)
		require.ErrorContains(t, cause, key)
	})

	bubble(t, "EndsInTimeThoughExtendIgnoresItsContext", func(t *testing.T) {
		hole := make(chan struct{})
		k := keep(t, t.Context(), &store{onExtend: func(context.Context, int) error { <-hole; return nil }}, nil)
		require.Equal(t, ttl-ttl/10, endsAfter(t, k.Context()))
		require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
		close(hole) // now it "succeeds"
		synctest.Wait()
		require.Zero(t, k.Expiry())
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
	})

	bubble(t, "CauseHasTheStoresOwnErrorInside", func(t *testing.T) {
		k := keep(t, t.Context(), &store{onExtend: failing}, nil)
		require.Equal(t, ttl-ttl/10, endsAfter(t, k.Context()))
		require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
		require.ErrorIs(t, context.Cause(k.Context()), errBroken)
	})

	bubble(t, "SlowSuccessDoesNotPushTheDeadlineOut", func(t *testing.T) {
		// The first renewal takes 1.9s; the rest hang. Counted from its reply, the
		// context would live for so much longer.
		s := &store{onExtend: func(ctx context.Context, n int) error {
			if n > 1 {
				return hang(ctx, n)
			}
			time.Sleep(1900 * time.Millisecond)
			return nil
		}}
		k := keep(t, t.Context(), s, nil)
		ended := endsAfter(t, k.Context())
		extends, _, _ := s.seen()
		require.Equal(t, extends[0]+ttl-ttl/10, ended)
	})

	bubble(t, "SuccessAfterTheDeadlineDoesNotUndoTheLoss", func(t *testing.T) {
		// Within Expiry, but not within the margin.
		s := &store{onExtend: func(_ context.Context, n int) error {
			time.Sleep(4500 * time.Millisecond)
			return nil
		}}
		k := keep(t, t.Context(), s, nil)
		require.Equal(t, 9*time.Second, endsAfter(t, k.Context()))
		time.Sleep(time.Second)
		require.Error(t, k.Context().Err())
		require.ErrorIs(t, k.Extend(t.Context(), ttl), lock.ErrLost)
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
	})

	bubble(t, "DefiniteLossEndsItAtOnce", func(t *testing.T) {
		taken := errors.New("taken by another")
		s := &store{onExtend: func(context.Context, int) error { return errors.Join(lock.ErrLost, taken) }}
		k := keep(t, t.Context(), s, nil)
		ended := endsAfter(t, k.Context())
		require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
		require.ErrorIs(t, context.Cause(k.Context()), taken)
		time.Sleep(time.Minute)
		extends, _, _ := s.seen()
		require.Equal(t, []time.Duration{ended}, extends) // a loss is final
	})

	bubble(t, "EndsBeforeTheKeyIsFreed", func(t *testing.T) {
		var k *Keeper
		s := &store{}
		s.onRelease = func() error {
			require.Error(t, k.inner.Err()) // those who wait are notified, not only those who look
			return nil
		}
		k = keep(t, t.Context(), s, nil)
		require.NoError(t, k.Release(t.Context()))
		require.Equal(t, errReleased, context.Cause(k.Context()))
		require.NotErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
	})

	bubble(t, "SeesThePassedDeadlineBeforeAnyTimerRan", func(t *testing.T) {
		looks := map[string]func(ctx context.Context) bool{
			"Err":   func(ctx context.Context) bool { return ctx.Err() != nil },
			"Cause": func(ctx context.Context) bool { return errors.Is(context.Cause(ctx), lock.ErrLost) },
			"Done": func(ctx context.Context) bool {
				select {
				case <-ctx.Done():
					return true
				default:
					return false
				}
			},
		}
		for name, look := range looks {
			k := keep(t, t.Context(), &store{}, nil)
			k.timer.Stop() // as if the process had been stopped
			time.Sleep(9*time.Second - 1)
			require.False(t, look(k.Context()), name)
			time.Sleep(time.Nanosecond)
			require.True(t, look(k.Context()), name)
			<-k.Context().Done()
			require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
			require.Zero(t, k.Expiry())
		}
	})

	bubble(t, "EndsAsSoonAsReleaseHasBegun", func(t *testing.T) {
		k := keep(t, t.Context(), &store{}, nil)
		k.mu.Lock()
		k.released = true // and there the process was stopped
		k.mu.Unlock()
		time.Sleep(ttl)
		require.Error(t, k.Context().Err())
		require.Equal(t, errReleased, context.Cause(k.Context()))
	})

	bubble(t, "CarriesTheFencingTokenAndValues", func(t *testing.T) {
		type name struct{}
		ctx := context.WithValue(lock.WithToken(t.Context(), 1), name{}, "v")
		k := keep(t, ctx, &store{}, nil)
		require.EqualValues(t, token, lock.Token(k.Context()))
		require.Equal(t, "v", k.Context().Value(name{}))
	})

	bubble(t, "FollowsAnExpiryThatMovedEarlier", func(t *testing.T) {
		var slept time.Duration
		start := time.Now()
		lease := lock.NewLease(lock.Grant{
			Key: key, Token: token, Expiry: start.Add(ttl), Suspended: func() time.Duration { return slept },
			Extend:  func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, errBroken },
			Release: func(context.Context) error { return nil },
		})
		k, err := Start(t.Context(), lease, ttl, nil)
		require.NoError(t, err)
		require.NoError(t, k.Context().Err())
		slept = time.Minute
		require.Error(t, k.Context().Err())
		require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
	})
}

func TestLost(t *testing.T) {
	closed := func(k *Keeper) bool {
		select {
		case <-k.Lost():
			return true
		default:
			return false
		}
	}
	bubble(t, "TellsOfALossWhileDraining", func(t *testing.T) {
		s := &store{}
		ctx, cancel := context.WithCancel(t.Context())
		k := keep(t, ctx, s, nil)
		cancel()
		time.Sleep(time.Second)
		require.False(t, closed(k))
		s.answer(failing)
		start := time.Now()
		<-k.Lost()
		require.Equal(t, 8*time.Second, time.Since(start))
		require.True(t, closed(k))
		require.Equal(t, context.Canceled, context.Cause(k.Context()))
	})
	bubble(t, "StaysOpenAfterRelease", func(t *testing.T) {
		k := keep(t, t.Context(), &store{}, nil)
		require.NoError(t, k.Release(t.Context()))
		time.Sleep(time.Minute)
		require.False(t, closed(k))
	})
	bubble(t, "IsClosedIfAskedForLate", func(t *testing.T) {
		k := keep(t, t.Context(), &store{onExtend: failing}, nil)
		time.Sleep(time.Minute)
		require.True(t, closed(k))
	})
}

func TestStart(t *testing.T) {
	t.Run("RefusesOptionsThatCannotWork", func(t *testing.T) {
		for name, c := range map[string]struct {
			ttl  time.Duration
			opts Options
			want []string
		}{
			"interval and margin": {ttl, Options{Interval: 6 * time.Second, Margin: 4 * time.Second}, []string{"6s", "4s", "10s"}},
			"default interval":    {ttl, Options{Margin: 5 * time.Second}, []string{"5s", "10s"}},
			"huge":                {ttl, Options{Interval: 1 << 62, Margin: 1 << 62}, []string{"10s"}},
			"negative interval":   {ttl, Options{Interval: -time.Second}, []string{"Interval", "-1s"}},
			"negative margin":     {ttl, Options{Margin: -time.Second}, []string{"Margin", "-1s"}},
			"negative drain":      {ttl, Options{DrainTimeout: -time.Second}, []string{"DrainTimeout", "-1s"}},
			"interval unit":       {ttl, Options{Interval: 5}, []string{"Interval is 5ns", "at least 1ms", "5*time.Second"}},
			"margin unit":         {ttl, Options{Margin: 5}, []string{"Margin is 5ns", "at least 1ms", "5*time.Second"}},
			"drain unit":          {ttl, Options{DrainTimeout: 5}, []string{"DrainTimeout is 5ns", "at least 1ms", "5*time.Second"}},
			"ttl unit":            {10, Options{}, []string{"ttl is 10ns", "5*time.Second"}},
			"no ttl":              {0, Options{}, []string{"ttl", "0s"}},
			"acquire":             {ttl, Options{Acquire: &lock.AcquireOptions{Attempts: -1}}, []string{"Attempts", "-1"}},
		} {
			s := &store{}
			lease := s.lease(ttl)
			k, err := Start(t.Context(), lease, c.ttl, &c.opts)
			require.ErrorIs(t, err, lock.ErrInvalid, name)
			require.Nil(t, k, name)
			for _, want := range c.want {
				require.ErrorContains(t, err, want, name)
			}
			// Nothing held is lost by it.
			extends, _, releases := s.seen()
			require.Empty(t, extends)
			require.Zero(t, releases)
			require.NoError(t, lease.Extend(t.Context(), ttl))

			err = Do(t.Context(), s, key, c.ttl, func(context.Context) error { return nil }, &c.opts)
			require.ErrorIs(t, err, lock.ErrInvalid, name)
		}
		_, err := Start(t.Context(), nil, ttl, nil)
		require.ErrorIs(t, err, lock.ErrInvalid)
	})

	bubble(t, "RefusesALeaseThatIsOver", func(t *testing.T) {
		s := &store{}
		lease := s.lease(ttl)
		time.Sleep(ttl)
		_, err := Start(t.Context(), lease, ttl, nil)
		require.ErrorIs(t, err, lock.ErrLost)

		lease = s.lease(ttl)
		require.NoError(t, lease.Release(t.Context()))
		_, err = Start(t.Context(), lease, ttl, nil)
		require.ErrorIs(t, err, lock.ErrLost)
	})

	bubble(t, "RenewsAnOldLeaseAtOnce", func(t *testing.T) {
		s := &store{}
		lease := s.lease(ttl)
		time.Sleep(8 * time.Second)
		k, err := Start(t.Context(), lease, ttl, nil)
		require.NoError(t, err)
		defer k.Release(t.Context())
		synctest.Wait()
		extends, _, _ := s.seen()
		require.Equal(t, []time.Duration{8 * time.Second}, extends)
	})
}

func TestCost(t *testing.T) {
	const n = 300
	held := func(t *testing.T, ctx context.Context) (goroutines int, keepers []*Keeper) {
		before := runtime.NumGoroutine()
		for range n {
			k, err := Start(ctx, new(store).lease(ttl), ttl, nil)
			require.NoError(t, err)
			keepers = append(keepers, k)
		}
		time.Sleep(2 * ttl)
		synctest.Wait()
		return runtime.NumGoroutine() - before, keepers
	}
	release := func(t *testing.T, keepers []*Keeper) {
		for _, k := range keepers {
			require.NoError(t, k.Release(t.Context()))
		}
	}

	bubble(t, "NoGoroutinePerIdleLease", func(t *testing.T) {
		goroutines, keepers := held(t, t.Context())
		defer release(t, keepers)
		require.Less(t, goroutines, 10)
	})
	bubble(t, "DerivedContextsCostNoGoroutine", func(t *testing.T) {
		_, keepers := held(t, t.Context())
		defer release(t, keepers)
		before := runtime.NumGoroutine()
		for _, k := range keepers {
			ctx, cancel := context.WithCancel(context.WithValue(k.Context(), t, 1))
			defer cancel()
			require.NoError(t, ctx.Err())
		}
		require.Less(t, runtime.NumGoroutine()-before, 10)
	})
	bubble(t, "ForeignParentCostsOneGoroutine", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		goroutines, keepers := held(t, foreign{ctx, make(chan struct{})})
		defer release(t, keepers)
		require.InDelta(t, n, goroutines, 10)
	})
}

// foreign is a context that the standard library does not know.
type foreign struct {
	context.Context
	done chan struct{}
}

func (f foreign) Done() <-chan struct{} { return f.done }
func (f foreign) Value(any) any         { return nil }
