package lock_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// nothingLeft requires that nothing is held but the neighbour's.
func (c *composition) nothingLeft(t *testing.T) {
	t.Helper()
	held := 0
	for _, err := range c.base.List(t.Context(), "") {
		require.NoError(t, err)
		held++
	}
	require.Equal(t, 5, held, c.name)
}

func TestDecoratorsInEveryOrderTakeKeysUpToTheLimit(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		// Each semaphore leaves room for its slot 1024, whatever slot it gives.
		slots := strings.Count(c.names[len(c.names)-1], ";slot=")
		long := strings.Repeat("k", lock.MaxKeyLen-len(c.full)+len("k")-slots*len(";slot=1024"))
		longer := long + strings.Repeat("k", 1+slots*len(";slot=1024")) // not even slot 1, which adds nothing
		lease, err := c.locker.TryAcquire(t.Context(), long, time.Hour)
		require.NoError(t, err, c.name)
		require.NoError(t, lease.Release(t.Context()))
		_, err = c.locker.TryAcquire(t.Context(), longer, time.Hour)
		require.ErrorIs(t, err, lock.ErrInvalid, c.name)
		watcher, ok := lock.As[lock.Watcher](c.locker)
		require.True(t, ok)
		_, err = watcher.Watch(t.Context(), longer, make(chan struct{}, 1))
		require.ErrorIs(t, err, lock.ErrInvalid, c.name)
		_, err = lock.AcquireAll(t.Context(), c.locker, []string{"a", longer}, time.Hour, nil)
		require.ErrorIs(t, err, lock.ErrInvalid, c.name)
		c.nothingLeft(t)
	})
}

func TestDecoratorsInEveryOrderTakeKeysThatAreNamedLikeSlots(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		for _, key := range []string{"k;slot=2", ";slot=2", "k;slot=1", "k;slot=0", "k;slot=", "k;slot=2;slot=3"} {
			lease, err := c.locker.TryAcquire(t.Context(), key, time.Hour)
			require.NoError(t, err, c.name)
			i, _ := lock.As[lock.Inspector](c.locker)
			_, err = i.Inspect(t.Context(), key)
			require.NoError(t, err)
			seen := 0
			for info, err := range i.List(t.Context(), key) {
				require.NoError(t, err)
				if info.Key == lease.Key() {
					seen++
				}
			}
			require.Equal(t, 1, seen, "%s %q %s", c.name, key, lease.Key())
			require.NoError(t, lease.Release(t.Context()))
		}
	})
}

func TestDecoratorsInEveryOrderCarryKeepersLeadersAndSets(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		ran := 0
		err := keepalive.Do(t.Context(), c.locker, "k", 10*time.Second, func(ctx context.Context) error {
			ran++
			require.NotZero(t, lock.Token(ctx))
			time.Sleep(time.Minute)
			return ctx.Err()
		}, nil)
		require.NoError(t, err, c.name)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		led := make(chan struct{}, 10)
		for range 3 {
			wg.Go(func() {
				_ = leader.Run(ctx, c.locker, "k", func(ctx context.Context) error { led <- struct{}{}; time.Sleep(time.Minute); return nil }, nil)
			})
		}
		wg.Wait()
		require.Len(t, led, 3)
		cancel()
		set, err := lock.AcquireAll(t.Context(), c.locker, []string{"b", "a", "b"}, 10*time.Second, nil)
		require.NoError(t, err, c.name)
		k, err := keepalive.Start(t.Context(), set, 10*time.Second, nil)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, k.Context().Err())
		require.NoError(t, k.Release(t.Context()))
		c.nothingLeft(t)
	})
}

// From both sides at once, cut off at many moments.
func TestDecoratorsInEveryOrderKeepNothingOfACancelledSet(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				keys := []string{"a", "b", "c"}
				if i%2 == 1 {
					keys = []string{"c", "b", "a"}
				}
				for n := range 10 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n*i)*time.Millisecond)
					set, err := lock.AcquireAll(ctx, c.locker, keys, time.Minute, nil)
					cancel()
					if err == nil {
						if time.Until(set.Expiry()) < 30*time.Second {
							t.Error("too little left")
						}
						time.Sleep(time.Millisecond)
						if err := set.Release(t.Context()); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		wg.Wait()
		c.nothingLeft(t)
	})
}
