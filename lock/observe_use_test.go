package lock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// A callback uses the locker that it observes, for the key of the notification, in
// every way and with any ctx: nothing waits for itself.
func TestACallbackMayUseTheLocker(t *testing.T) {
	ways := map[string]func(ctx context.Context, l lock.Locker) error{
		"TryAcquire": func(ctx context.Context, l lock.Locker) error {
			lease, err := l.TryAcquire(ctx, "k", time.Second)
			if err == nil {
				err = lease.Release(ctx)
			}
			return err
		},
		"Acquire": func(ctx context.Context, l lock.Locker) error {
			ctx = context.WithoutCancel(ctx)
			lease, err := lock.Acquire(ctx, l, "k", time.Second, nil)
			if err == nil {
				err = lease.Release(ctx)
			}
			return err
		},
		"Inspect": func(ctx context.Context, l lock.Locker) error {
			i, _ := lock.As[lock.Inspector](l)
			_, err := i.Inspect(ctx, "k")
			return err
		},
	}
	ways["Acquire with its own ctx"] = func(_ context.Context, l lock.Locker) error {
		return ways["Acquire"](context.Background(), l)
	}
	ways["AcquireAll"] = func(_ context.Context, l lock.Locker) error {
		set, err := lock.AcquireAll(context.Background(), l, []string{"j", "k"}, time.Second, nil)
		if err == nil {
			err = set.Release(context.Background())
		}
		return err
	}
	for way, use := range ways {
		for _, kind := range []lock.EventKind{lock.EventAttempt, lock.EventWait, lock.EventExtend, lock.EventRelease, lock.EventLost} {
			t.Run(way+"/"+string(kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := memory.New()
					used := false
					var l lock.Locker
					l = lock.Observe(store, func(e lock.Event) {
						if e.Kind != kind || used || kind == lock.EventAttempt && e.Err == nil {
							return
						}
						used = true
						_ = use(e.Context, l)
					})
					// Refused at first, by a holder that leaves.
					other, err := store.Client("other").TryAcquire(t.Context(), "k", time.Hour)
					require.NoError(t, err)
					time.AfterFunc(time.Minute, func() { _ = other.Release(context.Background()) })

					lease, err := lock.Acquire(t.Context(), l, "k", time.Second, nil)
					require.NoError(t, err)
					_ = lease.Extend(t.Context(), time.Second)
					_ = lease.Release(t.Context())
					lease, err = lock.Acquire(t.Context(), l, "k", time.Second, nil)
					require.NoError(t, err)
					time.Sleep(time.Minute)
					require.ErrorIs(t, lease.Extend(t.Context(), time.Second), lock.ErrLost)
					require.True(t, used)
				})
			})
		}
	}
}
