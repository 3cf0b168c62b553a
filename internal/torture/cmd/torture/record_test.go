package main

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// growing are leases that begin with a tenth of their ttl and have all of it soon.
type growing struct{ lock.Locker }

type grown struct {
	lock.Lease
	began time.Time
}

func (g growing) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := g.Locker.TryAcquire(ctx, key, ttl)
	return grown{lease, time.Now()}, err
}

func (g grown) Expiry() time.Time {
	if time.Since(g.began) < 10*time.Millisecond {
		return g.began.Add(100 * time.Millisecond)
	}
	return g.Lease.Expiry()
}

// Extend gets no answer: the lease grows by itself.
func (g grown) Extend(ctx context.Context, _ time.Duration) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestALeaseThatGrowsUnderAContextIsRecordedBeforeTheContextGoesByIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var until atomic.Int64
		r := recorder{growing{memory.New()}, func(s said) {
			if s.What == saidLease || s.What == saidUntil {
				until.Store(s.Until)
			}
		}, new(atomic.Int64)}
		require.NoError(t, keepalive.Do(t.Context(), r, "k", time.Second, func(ctx context.Context) error {
			for range 600 {
				at := mono()
				require.NoError(t, context.Cause(ctx))
				require.Less(t, at, until.Load(), "its work is done under a context that is alive")
				time.Sleep(time.Millisecond)
			}
			return nil
		}, &keepalive.Options{Interval: 700 * time.Millisecond, Margin: 20 * time.Millisecond}))
	})
}
