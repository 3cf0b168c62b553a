package keepalive

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestRelease(t *testing.T) {
	bubble(t, "CancelsARenewalUnderWay", func(t *testing.T) {
		s := &store{onExtend: hang}
		k := keep(t, t.Context(), s, nil)
		time.Sleep(ttl/2 + 1)
		_, under, _ := s.seen()
		require.Equal(t, 1, under)
		start := time.Now()
		require.NoError(t, k.Release(t.Context()))
		require.Zero(t, time.Since(start))
		_, under, releases := s.seen()
		require.Zero(t, under)
		require.Equal(t, 1, releases)
	})

	bubble(t, "WaitsForARenewalUnderWay", func(t *testing.T) {
		s := &store{}
		s.onExtend = func(ctx context.Context, _ int) error {
			<-ctx.Done()
			time.Sleep(time.Second) // slow to notice
			return nil
		}
		s.onRelease = func() error {
			_, under, _ := s.seen()
			require.Zero(t, under)
			return nil
		}
		k := keep(t, t.Context(), s, nil)
		time.Sleep(ttl/2 + 1)
		require.NoError(t, k.Release(t.Context()))
		require.Zero(t, k.Expiry())
	})

	bubble(t, "NoRenewalRunsOrStartsAfterIt", func(t *testing.T) {
		for _, at := range []time.Duration{0, 1, ttl/2 - 1, ttl / 2, ttl/2 + 1, ttl} {
			s := &store{onExtend: func(context.Context, int) error { time.Sleep(time.Millisecond); return nil }}
			k := keep(t, t.Context(), s, nil)
			time.Sleep(at)
			require.NoError(t, k.Release(t.Context()))
			before, under, _ := s.seen()
			require.Zero(t, under)
			time.Sleep(time.Hour)
			after, _, _ := s.seen()
			require.Equal(t, before, after)
			require.ErrorIs(t, k.Extend(t.Context(), ttl), lock.ErrLost)
		}
	})

	bubble(t, "EndsThoughARenewalNeverReturns", func(t *testing.T) {
		hole := make(chan struct{})
		s := &store{onExtend: func(context.Context, int) error { <-hole; return nil }}
		k := keep(t, t.Context(), s, &Options{Margin: -1})
		time.Sleep(ttl/2 + 1)
		err := k.Release(t.Context())
		require.ErrorIs(t, err, lock.ErrUnavailable)
		_, _, releases := s.seen()
		require.Zero(t, releases) // what is under way could bring the lease back
		close(hole)
		synctest.Wait()
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost) // by now it is past its expiry
		_, _, releases = s.seen()
		require.Equal(t, 1, releases)
	})

	bubble(t, "IsIdempotentAndCanBeTriedAgain", func(t *testing.T) {
		s := &store{onRelease: func() error { return errBroken }}
		k := keep(t, t.Context(), s, nil)
		require.ErrorIs(t, k.Release(t.Context()), errBroken)
		s.onRelease = nil
		require.NoError(t, k.Release(t.Context()))
		require.NoError(t, k.Release(t.Context()))
		_, _, releases := s.seen()
		require.Equal(t, 2, releases)
		require.Zero(t, k.Expiry())
	})

	bubble(t, "WorksAfterCtxEnded", func(t *testing.T) {
		s := &store{}
		ctx, cancel := context.WithCancel(t.Context())
		k := keep(t, ctx, s, nil)
		cancel()
		require.NoError(t, k.Release(ctx))
		_, _, releases := s.seen()
		require.Equal(t, 1, releases)
	})

	bubble(t, "StillFreesALeaseLostInItsMargin", func(t *testing.T) {
		s := &store{onExtend: failing}
		k := keep(t, t.Context(), s, nil)
		<-k.Context().Done()
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
		require.ErrorIs(t, k.Release(t.Context()), lock.ErrLost)
		_, _, releases := s.seen()
		require.Equal(t, 1, releases)
	})

	bubble(t, "ManyAtTheSameTime", func(t *testing.T) {
		s := &store{onExtend: func(context.Context, int) error { time.Sleep(time.Millisecond); return nil }}
		k := keep(t, t.Context(), s, nil)
		time.Sleep(ttl / 2)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := k.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if err := k.Extend(t.Context(), ttl); err != nil && !errors.Is(err, lock.ErrLost) {
					t.Error(err)
				}
				_ = k.Expiry()
			})
		}
		wg.Wait()
		_, _, releases := s.seen()
		require.Equal(t, 1, releases)
	})
}
