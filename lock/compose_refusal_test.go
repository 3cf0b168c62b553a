package lock_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// composed are lockers that acquire several leases for one, over stores of which the test may
// take hold.
func composed(t *testing.T, stores ...*memory.Locker) map[string]lock.Locker {
	rw := func(l lock.Locker) *rwlock.Lock {
		made, err := rwlock.New(l, 2)
		require.NoError(t, err)
		return made
	}
	both := lock.Both(stores[0], stores[1])
	return map[string]lock.Locker{
		"Both":             both,
		"SemaphoreOfOne":   lock.Semaphore(both, 1),
		"Semaphore":        lock.Semaphore(both, 3),
		"SemaphoreOfStore": lock.Semaphore(stores[0], 3),
		"Observe":          lock.Observe(both, func(lock.Event) {}),
		"Prefix":           lock.Prefix(both, "p:"),
		"Readers":          rw(stores[0]).Readers(),
		"Writer":           rw(stores[0]).Writer(),
		"WriterOfBoth":     rw(both).Writer(),
	}
}

// What worked once may work again, also where a store is below another locker: a hiccup of its
// permissions must not end those who wait.
func TestARefusalOfAStoreThatHasServedIsAnOutageInCompositionsToo(t *testing.T) {
	acquire := map[string]func(ctx context.Context, l lock.Locker) (lock.Lease, error){
		"Acquire": func(ctx context.Context, l lock.Locker) (lock.Lease, error) {
			return lock.Acquire(ctx, l, "k", time.Minute, nil)
		},
		"Attempts": func(ctx context.Context, l lock.Locker) (lock.Lease, error) {
			return lock.Acquire(ctx, l, "k", time.Minute, &lock.AcquireOptions{Attempts: 100, Delay: time.Second})
		},
		"AcquireAll": func(ctx context.Context, l lock.Locker) (lock.Lease, error) {
			return lock.AcquireAll(ctx, l, []string{"k", "j"}, time.Minute, nil)
		},
	}
	for name := range composed(t, memory.New(), memory.New()) {
		for how, acquire := range acquire {
			t.Run(name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					stores := []*memory.Locker{memory.New(), memory.New()}
					l := composed(t, stores...)[name]
					refuse := func(n int) {
						for _, s := range stores {
							s.FailNext(n, fmt.Errorf("%w: no permission", lock.ErrRefused))
						}
					}
					refuse(-1)
					_, err := acquire(t.Context(), l)
					require.ErrorIs(t, err, lock.ErrRefused, "it has never served")
					refuse(0)
					lease, err := acquire(t.Context(), l)
					require.NoError(t, err)
					require.NoError(t, lease.Release(t.Context()))

					refuse(-1)
					_, err = l.TryAcquire(t.Context(), "k", time.Minute)
					require.ErrorIs(t, err, lock.ErrUnavailable)
					time.AfterFunc(10*time.Second, func() { refuse(0) })
					lease, err = acquire(t.Context(), l)
					require.NoError(t, err)
					require.NoError(t, lease.Release(t.Context()))
				})
			})
		}
	}
}
