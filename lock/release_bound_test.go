package lock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

func bothOf(l lock.Locker) lock.Locker { return lock.Both(l, lock.Prefix(l, "next:")) }

// A store hangs. Release waits for as long as its caller gives it, if ctx is alive.
func TestReleaseIsBoundedByTheDeadlineOfALiveCtx(t *testing.T) {
	wrap := map[string]func(t *testing.T, l *memory.Locker) lock.Lease{
		"a lease": func(t *testing.T, l *memory.Locker) lock.Lease {
			lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			return lease
		},
		"a lease that bounds its release itself": func(t *testing.T, l *memory.Locker) lock.Lease {
			lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			return lock.NewLease(lock.Grant{
				Key: "k", Token: 1, Expiry: lease.Expiry(), ReleaseTimeout: time.Minute,
				Extend:  func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, errStore },
				Release: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			})
		},
		"a Set": func(t *testing.T, l *memory.Locker) lock.Lease {
			set, err := lock.AcquireAll(t.Context(), l, []string{"a", "b"}, time.Hour, nil)
			require.NoError(t, err)
			return set
		},
		"an observed lease": func(t *testing.T, l *memory.Locker) lock.Lease {
			lease, err := lock.Observe(l, func(lock.Event) {}).TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			return lease
		},
		"a lease of Both": func(t *testing.T, l *memory.Locker) lock.Lease {
			lease, err := bothOf(l).TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			return lease
		},
		"a writer": func(t *testing.T, l *memory.Locker) lock.Lease {
			rw, err := rwlock.New(l, 2)
			require.NoError(t, err)
			lease, err := rw.Writer().TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			return lease
		},
		"a reader of Both": func(t *testing.T, l *memory.Locker) lock.Lease {
			rw, err := rwlock.New(bothOf(l), 2)
			require.NoError(t, err)
			lease, err := rw.Readers().TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			return lease
		},
		"a writer of Both": func(t *testing.T, l *memory.Locker) lock.Lease {
			rw, err := rwlock.New(bothOf(l), 2)
			require.NoError(t, err)
			lease, err := rw.Writer().TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			return lease
		},
		"a Keeper": func(t *testing.T, l *memory.Locker) lock.Lease {
			lease, err := l.TryAcquire(t.Context(), "k", time.Hour)
			require.NoError(t, err)
			k, err := keepalive.Start(t.Context(), lease, time.Hour, nil)
			require.NoError(t, err)
			return k
		},
	}
	for name, acquire := range wrap {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took := func(ctx context.Context) time.Duration {
					l := memory.New()
					lease := acquire(t, l)
					l.Delay(24 * time.Hour)
					start := time.Now()
					err := lease.Release(ctx)
					require.ErrorIs(t, err, lock.ErrUnavailable)
					return time.Since(start)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				require.Equal(t, 100*time.Millisecond, took(ctx))

				// Not by one that has ended, nor by one that is cancelled meanwhile.
				require.GreaterOrEqual(t, took(ctx), lock.DefaultReleaseTimeout)
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				require.GreaterOrEqual(t, took(ctx), lock.DefaultReleaseTimeout)
				// Nor by a deadline that lies far ahead.
				ctx, cancel = context.WithTimeout(t.Context(), 12*time.Hour)
				defer cancel()
				require.LessOrEqual(t, took(ctx), time.Minute)
			})
		})
	}
}

func TestAReleaseThatWaitsForAnExtendIsBoundedToo(t *testing.T) {
	for _, timeout := range []time.Duration{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			stuck := make(chan struct{})
			lease := lock.NewLease(lock.Grant{
				Key: "k", Token: 1, Expiry: time.Now().Add(time.Hour), ReleaseTimeout: timeout,
				Extend:  func(context.Context, time.Duration) (time.Time, error) { <-stuck; return time.Time{}, errStore },
				Release: func(context.Context) error { return nil },
			})
			go func() { _ = lease.Extend(t.Context(), time.Hour) }()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			require.ErrorIs(t, lease.Release(ctx), lock.ErrUnavailable)
			require.Equal(t, 100*time.Millisecond, time.Since(start))
			close(stuck)
			require.NoError(t, lease.Release(ctx))
		})
	}
}
