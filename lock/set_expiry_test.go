package lock_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// counted counts how often its Expiry is asked for.
type counted struct {
	lock.Lease
	asked *atomic.Int64
}

func (c counted) Expiry() time.Time {
	c.asked.Add(1)
	return c.Lease.Expiry()
}

func TestTheExpiryOfASetCostsOneMember(t *testing.T) {
	var asked atomic.Int64
	stores := map[string]*store{}
	var keys []string
	for i := range 1000 {
		keys = append(keys, fmt.Sprint(i))
		stores[keys[i]] = &store{}
	}
	set, err := lock.AcquireAll(t.Context(), granting(func(key string, ttl time.Duration) lock.Lease {
		return counted{stores[key].lease(func(g *lock.Grant) { g.Key, g.Expiry = key, time.Now().Add(ttl) }), &asked}
	}), keys, time.Hour, nil)
	require.NoError(t, err)
	for range 2 {
		asked.Store(0)
		for range 100 {
			require.False(t, set.Expiry().IsZero())
		}
		require.LessOrEqual(t, asked.Load(), int64(100))
		require.NoError(t, set.Extend(t.Context(), time.Hour))
	}
}

// An Extend that is under way has made one member end earlier, and has not returned.
func TestTheExpiryOfASetFollowsAMemberThatIsBeingShortened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, stores := setOf(t, 2)
		stores[0].extend = func(context.Context, time.Duration) (time.Time, error) { return time.Now().Add(time.Second), nil }
		answer := make(chan struct{})
		stores[1].extend = func(context.Context, time.Duration) (time.Time, error) {
			<-answer
			return time.Now().Add(time.Second), nil
		}
		done := make(chan error)
		start := time.Now()
		go func() { done <- set.Extend(t.Context(), time.Second) }()
		synctest.Wait()
		require.Equal(t, start.Add(time.Second), set.Expiry())
		close(answer)
		require.NoError(t, <-done)
		require.Equal(t, start.Add(time.Second), set.Expiry())

		require.NoError(t, set.Leases()[0].Release(t.Context()))
		require.Zero(t, set.Expiry(), "a member that was released by itself")
	})
}

func BenchmarkSetExpiry(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var keys []string
			for i := range n {
				keys = append(keys, fmt.Sprint(i))
			}
			set, err := lock.AcquireAll(b.Context(), granting(func(key string, ttl time.Duration) lock.Lease {
				return new(store).lease(func(g *lock.Grant) { g.Key, g.Expiry = key, time.Now().Add(ttl) })
			}), keys, time.Hour, nil)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				set.Expiry()
			}
		})
	}
}

// A member that grows by itself can find its loss between the calls of the Set.
func TestTheExpiryOfASetFollowsAMemberThatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		grow := func(expiry time.Duration, lost *store) granting {
			return func(key string, ttl time.Duration) lock.Lease {
				return lost.lease(raising(func(_ context.Context, least uint64) (uint64, error) { return least, nil }),
					func(g *lock.Grant) { g.Key, g.Expiry, g.GrowTo = key, time.Now().Add(expiry), ttl })
			}
		}
		old, next := &store{}, &store{}
		old.extend = func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, lock.ErrLost }
		both := lock.Both(grow(2*time.Second, old), slow{200 * time.Millisecond, grow(1500*time.Millisecond, next)})
		lease, err := both.(lock.Awaiter).Await(t.Context(), "k", 10*time.Second, func(*lock.HeldError) {})
		require.NoError(t, err)
		require.False(t, lease.Expiry().IsZero())
		time.Sleep(310 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 1, old.extends, "the old store's lease has tried to grow")
		require.Zero(t, next.extends)
		require.Zero(t, lease.Expiry())
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
	})
}

// slow grants after a while.
type slow struct {
	after time.Duration
	lock.Locker
}

func (s slow) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	time.Sleep(s.after)
	return s.Locker.TryAcquire(ctx, key, ttl)
}
