package keepalive

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// Options are refused, or work: renewal keeps the context alive, and when that stops,
// the context ends before the lease does.
func FuzzOptions(f *testing.F) {
	for _, d := range []time.Duration{0, 1, -1, -2, time.Second, lock.MaxTTL, math.MaxInt64, math.MinInt64} {
		f.Add(int64(10*time.Second), int64(d), int64(0), int64(d))
		f.Add(int64(d), int64(0), int64(d), int64(0))
	}
	f.Fuzz(func(t *testing.T, nanos, interval, margin, drain int64) {
		ttl := time.Duration(nanos)
		o := &Options{Interval: time.Duration(interval), Margin: time.Duration(margin), DrainTimeout: time.Duration(drain)}
		opts, err := o.WithDefaults(ttl)
		if err != nil {
			require.ErrorIs(t, err, lock.ErrInvalid)
			_, err := Start(t.Context(), (&store{}).lease(time.Hour), ttl, o)
			require.ErrorIs(t, err, lock.ErrInvalid)
			return
		}
		require.Greater(t, opts.Interval, time.Duration(0))
		require.Less(t, opts.Interval, ttl-max(0, opts.Margin))
		synctest.Test(t, func(t *testing.T) {
			s := &store{onExtend: func(_ context.Context, n int) error {
				if n > 3 {
					return errBroken
				}
				return nil
			}}
			lease := s.lease(ttl)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k, err := Start(ctx, lease, ttl, o)
			require.NoError(t, err)
			if opts.Interval > time.Microsecond {
				time.Sleep(opts.Interval / 2) // before the first renewal is due
				require.NoError(t, k.Context().Err())
			}
			<-k.Context().Done()
			require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
			extends, _, _ := s.seen()
			require.GreaterOrEqual(t, len(extends), 3)
			require.False(t, time.Now().After(lease.Expiry()), "it ended %v late", time.Since(lease.Expiry()))
			_ = k.Release(t.Context())
		})
	})
}
