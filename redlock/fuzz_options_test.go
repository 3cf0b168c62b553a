package redlock

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// Options and a ttl are refused, or every number made of them is on the safe side, and
// the lease ends before any node can have forgotten it.
func FuzzTTLs(f *testing.F) {
	for _, d := range []time.Duration{0, 1, -1, 3 * time.Millisecond, 4 * time.Millisecond, time.Second, time.Minute, time.Minute + 1, lock.MaxTTL, lock.MaxTTL + 1, math.MaxInt64, math.MinInt64} {
		f.Add(int64(d), int64(-1), int64(0), int64(0), 0.0)
		f.Add(int64(time.Second), int64(d), int64(d), int64(d), 0.5)
		f.Add(int64(d), int64(lock.MaxTTL), int64(lock.MaxTTL), int64(0), 0.9999999999999999)
	}
	for _, drift := range []float64{1, -1, -0.5, 1e-300, math.NaN(), math.Inf(1)} {
		f.Add(int64(10*time.Second), int64(0), int64(0), int64(0), drift)
	}
	m := miniredis.RunT(f)
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{m.Addr()}, ForceSingleClient: true, DisableCache: true, DisableRetry: true})
	require.NoError(f, err)
	f.Cleanup(c.Close)
	f.Fuzz(func(t *testing.T, nanos, guard, retention, nodeTimeout int64, drift float64) {
		l, err := New([]rueidis.Client{c}, &Options{
			RestartGuard: time.Duration(guard), Retention: time.Duration(retention), NodeTimeout: time.Duration(nodeTimeout), DriftFactor: drift,
		})
		if err != nil {
			require.ErrorIs(t, err, lock.ErrInvalid)
			return
		}
		m.FlushAll()
		ttl := time.Duration(nanos)
		before := time.Now()
		lease, err := l.TryAcquire(context.Background(), "k", ttl)
		after := time.Now()
		if err != nil {
			require.Nil(t, lease)
			if lock.Check("k", ttl) != nil || l.checkTTL(ttl) != nil {
				require.ErrorIs(t, err, lock.ErrInvalid)
			} else {
				require.ErrorIs(t, err, lock.ErrUnavailable) // too slow for so short a ttl or time-out
			}
			return
		}
		require.NoError(t, lock.Check("k", ttl))
		if l.opts.RestartGuard != -1 {
			require.LessOrEqual(t, ttl, l.opts.RestartGuard)
			least, err := strconv.ParseInt(l.opts.least, 10, 64)
			require.NoError(t, err)
			require.Greater(t, time.Duration(least)*time.Second, l.opts.RestartGuard)
		}
		kept, err := strconv.ParseInt(string(script.ToMillis(ttl)), 10, 64)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Duration(kept)*time.Millisecond, ttl)
		allowed := l.opts.drift(ttl)
		require.GreaterOrEqual(t, allowed, fixedDrift)
		require.GreaterOrEqual(t, float64(allowed), float64(ttl)*l.opts.DriftFactor)
		require.True(t, lease.Expiry().After(before.Add(minValidity)), "it has no time")
		require.False(t, lease.Expiry().After(after.Add(ttl-allowed)), "it has too much time")
		if err := lease.Release(context.Background()); err != nil && !errors.Is(err, lock.ErrLost) { // it was short
			require.ErrorIs(t, err, lock.ErrUnavailable)
		}
	})
}

// secret is a password with all that means something in a URL; its pieces are what an
// error could show.
var secret = []string{"Zq7x", "Wk9v", "Jy5u", "Hg3t"}

// Whatever is wrong with a URL, and however badly the password in it is encoded, the
// error shows no piece of it.
func FuzzURLs(f *testing.F) {
	for _, scheme := range []string{"redis", "rediss", "unix", "http", "", "redis:", "REDIS", "valkey"} {
		for _, sep := range []string{"", "/", "?", "#", "@", ":", "%", "%zz", "[", ",", " ", "\x00", "://"} {
			f.Add(scheme, "u:", sep, sep, "h:1/0")
		}
	}
	for _, tail := range []string{"h:0", "h:99999", "[::1", "h/x", "h?db=-1", "h?x=y", "h?sentinel_password=z", "", "/p.sock", "h?write_timeout=-1s", "h#f", "h?addr=a:b:c", "h?cluster=%zz"} {
		f.Add("redis", ":", "", "", tail)
		f.Add("redis", "", "%3F", "%2F", tail)
	}
	f.Fuzz(func(t *testing.T, scheme, user, one, two, tail string) {
		for _, piece := range secret {
			if strings.Contains(scheme+user+one+two+tail, piece) {
				t.Skip()
			}
		}
		if !strings.Contains(user, ":") || strings.Contains(scheme, "://") {
			t.Skip() // where there is no user, there is no password
		}
		raw := scheme + "://" + user + secret[0] + one + secret[1] + two + secret[2] + "@" + tail
		ended, cancel := context.WithCancel(t.Context())
		cancel() // what is found good is not connected to
		l, err := Dial(ended, []string{raw, "redis://other.invalid?sentinel_password=" + secret[3] + "&master_set=m"}, nil)
		require.Nil(t, l)
		require.Error(t, err)
		for _, piece := range secret {
			require.NotContains(t, err.Error(), piece)
			require.NotContains(t, strings.ToUpper(err.Error()), strings.ToUpper(piece))
		}
	})
}
