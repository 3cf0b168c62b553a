package rwlock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// slowRelease is a store whose releases hang until their ctx ends.
type slowRelease struct{ lock.Locker }

type slowLease struct{ lock.Lease }

func (s slowRelease) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := s.Locker.TryAcquire(ctx, key, ttl)
	return slowLease{lease}, err
}

func (l slowLease) Release(ctx context.Context) error {
	bound, cancel := lock.ReleaseContext(ctx, lock.DefaultReleaseTimeout)
	defer cancel()
	<-bound.Done()
	return bound.Err()
}

// A reader has its place, and frees the gate: however long that takes, the lease that it
// returns has time left, most of it.
func TestAReadersLeaseIsNotOldWhenItIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, ttl := range []time.Duration{time.Second, 4 * time.Second, time.Minute} {
			lease, err := newLock(t, slowRelease{memory.New()}, 2).Readers().TryAcquire(t.Context(), "k", ttl)
			require.NoError(t, err)
			require.GreaterOrEqual(t, time.Until(lease.Expiry()), ttl/2)
		}
	})
}
