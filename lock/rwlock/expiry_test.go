package rwlock_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// troubled is a store of which one key's leases can't be extended, and whose machine can be
// suspended.
type troubled struct {
	lock.Locker

	mu        sync.Mutex
	broken    string // that key
	suspended time.Duration
}

func (s *troubled) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := s.Locker.TryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	return troubledLease{lease, s}, nil
}

type troubledLease struct {
	lock.Lease
	s *troubled
}

func (l troubledLease) Expiry() time.Time {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	expiry := l.Lease.Expiry()
	if expiry.IsZero() {
		return expiry
	}
	return expiry.Add(-l.s.suspended)
}

func (l troubledLease) Extend(ctx context.Context, ttl time.Duration) error {
	l.s.mu.Lock()
	broken := l.s.broken == l.Key()
	l.s.mu.Unlock()
	if broken {
		return errors.New("connection reset")
	}
	return l.Lease.Extend(ctx, ttl)
}

func TestAWriterIsHeldNoLongerThanEachOfItsPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &troubled{Locker: memory.New()}
		lease, err := newLock(t, s, 2).Writer().TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		s.broken = "k;readers;slot=2"
		require.Error(t, lease.Extend(t.Context(), time.Second), "one place says nothing, and the others are for a second now")
		require.False(t, lease.Expiry().After(time.Now().Add(time.Second)), "held for another %v beside a reader", time.Until(lease.Expiry()))
	})
}

func TestAMachineThatWasSuspendedShortensTheLeasesOfReadersAndWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &troubled{Locker: memory.New()}
		rw := newLock(t, s, 2)
		for _, l := range []lock.Locker{rw.Readers(), rw.Writer()} {
			lease, err := l.TryAcquire(t.Context(), "k", ttl)
			require.NoError(t, err)
			expiry := lease.Expiry()
			s.suspended = time.Second
			require.Equal(t, expiry.Add(-time.Second), lease.Expiry())
			s.suspended = 0
			require.NoError(t, lease.Release(t.Context()))
			require.Zero(t, lease.Expiry())
		}
	})
}
