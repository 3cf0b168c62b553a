package rwlock_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// endsCalls is a store that ends the calls for one name by a context of its own.
type endsCalls struct {
	lock.Locker
	name string
	err  error
}

func (s endsCalls) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if key == s.name {
		return nil, fmt.Errorf("the store's own: %w", s.err)
	}
	return s.Locker.TryAcquire(ctx, key, ttl)
}

// A place whose error reads like the end of a context is a place that the writer does not have.
func TestAWriterHasEveryPlaceWhateverTheErrorOfOneReadsLike(t *testing.T) {
	for _, of := range []error{context.Canceled, context.DeadlineExceeded} {
		for _, name := range []string{"k;readers", "k;readers;slot=16"} {
			t.Run(fmt.Sprintf("%v at %s", of, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := memory.New()
					rw := newLock(t, endsCalls{store, name, of}, 16)
					lease, err := rw.Writer().TryAcquire(t.Context(), "k", ttl)
					require.ErrorIs(t, err, lock.ErrUnavailable)
					require.NotErrorIs(t, err, of, "it is not the caller's ctx that ended")
					require.Nil(t, lease)
					for info, err := range store.List(t.Context(), "k") {
						require.NoError(t, err)
						require.Empty(t, info, "it is given back")
					}
				})
			})
		}
	}
}
