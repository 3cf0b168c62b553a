package lock_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// Check takes what its doc says, and nothing else.
func FuzzCheck(f *testing.F) {
	for _, ttl := range []time.Duration{0, 1, -1, lock.MinTTL, lock.MinTTL - 1, lock.MaxTTL, lock.MaxTTL + 1, math.MaxInt64, math.MinInt64} {
		f.Add("k", int64(ttl))
	}
	f.Add("", int64(time.Second))
	f.Add("a\xff", int64(time.Second))
	f.Fuzz(func(t *testing.T, key string, nanos int64) {
		ttl := time.Duration(nanos)
		good := key != "" && len(key) <= 512 && utf8.ValidString(key) && ttl >= time.Millisecond && ttl <= 365*24*time.Hour
		err := lock.Check(key, ttl)
		require.Equal(t, good, err == nil)
		if err != nil {
			require.ErrorIs(t, err, lock.ErrInvalid)
			require.Less(t, len(err.Error()), 4*512+200)
		}
	})
}

// refusing asks for odd pauses, and counts.
type refusing struct {
	after time.Duration
	down  bool
	asked int
}

func (r *refusing) TryAcquire(_ context.Context, key string, _ time.Duration) (lock.Lease, error) {
	r.asked++
	if r.down {
		return nil, lock.ErrUnavailable
	}
	return nil, &lock.HeldError{Key: key, RetryAfter: r.after}
}

// Whatever the options and the store say, Acquire ends by what bounds it, and neither
// spins nor overflows on its way.
func FuzzAcquireOptions(f *testing.F) {
	for _, d := range []time.Duration{0, 1, -1, time.Second, lock.MaxTTL, math.MaxInt64, math.MinInt64} {
		f.Add(3, int64(d), int64(d), int64(0), 0.0, int64(d), false)
		f.Add(2, int64(time.Minute), int64(0), int64(d), 1.0, int64(-d), true)
	}
	f.Add(0, int64(time.Hour), int64(time.Second), int64(time.Minute), math.NaN(), int64(0), true)
	f.Fuzz(func(t *testing.T, attempts int, timeout, delay, maxDelay int64, jitter float64, after int64, down bool) {
		synctest.Test(t, func(t *testing.T) {
			o := &lock.AcquireOptions{Attempts: attempts % 20, Timeout: time.Duration(timeout), Delay: time.Duration(delay), MaxDelay: time.Duration(maxDelay), Jitter: jitter}
			l := &refusing{after: time.Duration(after), down: down}
			const testTimeout = time.Minute
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			start := time.Now()
			lease, err := lock.Acquire(ctx, l, "k", time.Second, o)
			took := time.Since(start)
			require.Nil(t, lease)
			require.Error(t, err)
			if bad := o.Validate(); bad != nil {
				require.ErrorIs(t, err, lock.ErrInvalid)
				require.Zero(t, l.asked)
				return
			}
			require.LessOrEqual(t, took, testTimeout)
			if o.Timeout > 0 {
				require.LessOrEqual(t, took, o.Timeout)
			}
			if o.Attempts > 0 {
				require.LessOrEqual(t, l.asked, o.Attempts)
			}
			require.LessOrEqual(t, l.asked, int(took/time.Millisecond)+2, "it spins")
		})
	})
}
