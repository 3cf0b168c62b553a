package leader_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// handsOverShort is a store whose leases start with a second, and grow by themselves.
type handsOverShort struct{ *memory.Locker }

func (s handsOverShort) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	inner, err := s.Locker.Await(ctx, key, min(ttl, time.Second), refused)
	if err != nil {
		return nil, err
	}
	return lock.NewLease(lock.Grant{
		Key: key, Token: inner.Token(), Expiry: inner.Expiry(), GrowTo: ttl,
		Extend: func(ctx context.Context, ttl time.Duration) (time.Time, error) {
			err := inner.Extend(ctx, ttl)
			return inner.Expiry(), err
		},
		Release: inner.Release,
	}), nil
}

func TestATermWhoseLeaseStartsShort(t *testing.T) {
	bubble(t, "IsLedToItsEnd", func(t *testing.T) {
		store := memory.New()
		lead := func(name string, opts *leader.Options) (<-chan error, *leader.Elector, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			e := leader.New(handsOverShort{store.Client(name)}, key, opts)
			done := make(chan error, 1)
			go func() { done <- e.Run(ctx, untilDone) }()
			synctest.Wait()
			return done, e, cancel
		}
		opts := options()
		opts.Keepalive = &keepalive.Options{Margin: 3 * time.Second} // more than it starts with
		done1, a, stop1 := lead("a", opts)
		done2, b, stop2 := lead("b", opts)
		require.True(t, a.IsLeader())
		for range 3600 {
			time.Sleep(time.Second)
			require.True(t, a.IsLeader())
		}
		require.Equal(t, 1, a.Status().Terms)
		require.ErrorIs(t, b.Status().LastAttempt, lock.ErrHeld)
		require.Zero(t, b.Status().OutageSince, "standing by in a queue looks like an outage")
		stop1()
		require.NoError(t, <-done1)
		synctest.Wait()
		require.True(t, b.IsLeader(), "the resignation hands over")
		time.Sleep(time.Hour)
		require.True(t, b.IsLeader())
		require.Equal(t, 1, b.Status().Terms)
		stop2()
		require.NoError(t, <-done2)
	})
}
