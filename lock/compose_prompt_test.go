package lock_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// failing is a store that hangs from its n-th call on, releases included.
type failing struct {
	lock.Locker
	left *atomic.Int32
}

func (f failing) hangs() bool {
	return f.left.Add(-1) < 0
}

func (f failing) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if f.hangs() {
		<-ctx.Done()
		return nil, lock.ContextError(ctx)
	}
	lease, err := f.Locker.TryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	return failingLease{lease, f}, nil
}

// Close is that of a store whose locker waits for what it has begun.
func (f failing) Close() error { return nil }

type failingLease struct {
	lock.Lease
	f failing
}

func (l failingLease) RaiseToken(ctx context.Context, least uint64) error {
	if l.f.hangs() {
		<-ctx.Done()
		return lock.ContextError(ctx)
	}
	return lock.RaiseToken(ctx, l.Lease, least)
}

func (l failingLease) Extend(ctx context.Context, ttl time.Duration) error {
	if l.f.hangs() {
		<-ctx.Done()
		return lock.ContextError(ctx)
	}
	return l.Lease.Extend(ctx, ttl)
}

func (l failingLease) Release(ctx context.Context) error {
	if l.f.hangs() {
		bound, cancel := lock.ReleaseContext(ctx, lock.DefaultReleaseTimeout)
		defer cancel()
		<-bound.Done()
		return fmt.Errorf("%w: no answer", lock.ErrUnavailable)
	}
	return l.Lease.Release(ctx)
}

// Whichever of the leases that an attempt takes is the one at which the store begins to hang:
// the attempt returns soon after its ctx has ended, and does not wait for the releases of those
// before, which go on in the background. Close waits for them.
func TestAnAttemptForSeveralLeasesReturnsWhenItsCtxEnds(t *testing.T) {
	compose := map[string]func(l lock.Locker) lock.Locker{
		"Both":   func(l lock.Locker) lock.Locker { return bothOf(l) },
		"Reader": func(l lock.Locker) lock.Locker { return newRW(t, l).Readers() },
		"Writer": func(l lock.Locker) lock.Locker { return newRW(t, l).Writer() },
	}
	for name, compose := range compose {
		for calls := range 20 {
			for how, ask := range map[string]func(ctx context.Context, l lock.Locker) error{
				"TryAcquire": func(ctx context.Context, l lock.Locker) error {
					_, err := l.TryAcquire(ctx, "k", time.Hour)
					return err
				},
				"Await": func(ctx context.Context, l lock.Locker) error {
					awaiter, ok := lock.As[lock.Awaiter](l)
					require.True(t, ok)
					_, err := awaiter.Await(ctx, "k", time.Hour, func(*lock.HeldError) {})
					return err
				},
			} {
				t.Run(fmt.Sprint(name, how, calls), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var left atomic.Int32
						left.Store(int32(calls))
						l := compose(failing{memory.New(), &left})
						ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
						defer cancel()
						start := time.Now()
						if err := ask(ctx, l); err != nil {
							require.ErrorIs(t, err, context.DeadlineExceeded)
						}
						require.LessOrEqual(t, time.Since(start), 600*time.Millisecond)
						require.NoError(t, lock.Close(l))
					})
				})
			}
		}
	}
}

func newRW(t *testing.T, l lock.Locker) *rwlock.Lock {
	rw, err := rwlock.New(l, 2)
	require.NoError(t, err)
	return rw
}
