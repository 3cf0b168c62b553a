package leader

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// Options are refused before anything is asked, or fn leads under a lease.
func FuzzOptions(f *testing.F) {
	for _, d := range []time.Duration{0, 1, -1, -2, time.Second, lock.MaxTTL, math.MaxInt64, math.MinInt64} {
		f.Add("k", int64(d), int64(0), int64(d), int64(d), 1, false)
		f.Add("", int64(10*time.Second), int64(d), int64(0), int64(0), 0, true)
		f.Add("k", int64(10*time.Second), int64(d), int64(0), int64(0), -1, true)
	}
	f.Fuzz(func(t *testing.T, key string, ttl, interval, margin, delay int64, attempts int, once bool) {
		synctest.Test(t, func(t *testing.T) {
			led := uint64(0)
			err := Run(t.Context(), memory.New(), key, func(ctx context.Context) error {
				led = lock.Token(ctx)
				return ctx.Err()
			}, &Options{TTL: time.Duration(ttl), Once: once,
				Acquire:   &lock.AcquireOptions{Attempts: attempts, Delay: time.Duration(delay)},
				Keepalive: &keepalive.Options{Interval: time.Duration(interval), Margin: time.Duration(margin)},
			})
			if led != 0 {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, lock.ErrInvalid)
			}
		})
	})
}
