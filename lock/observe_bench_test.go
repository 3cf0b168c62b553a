package lock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func TestObserveAllocatesOneLease(t *testing.T) {
	var err error
	run := func(l lock.Locker) float64 {
		return testing.AllocsPerRun(100, func() {
			lease, e := l.TryAcquire(context.Background(), "k", time.Hour)
			err = errors.Join(err, e, lease.Extend(context.Background(), time.Hour), lease.Release(context.Background()))
		})
	}
	n := 0
	bare := run(termLocker{})
	observed := run(lock.Observe(termLocker{}, func(lock.Event) { n++ }))
	require.NoError(t, err)
	require.LessOrEqual(t, observed, bare+1)
	require.NotZero(t, n)
}

// termLocker grants at once, with the fewest allocations.
type termLocker struct{ term }

func (l termLocker) TryAcquire(_ context.Context, _ string, ttl time.Duration) (lock.Lease, error) {
	return lock.NewLease(lock.Grant{
		Key: "k", Token: 3, Expiry: time.Now().Add(ttl), Term: &grants, ReleaseTimeout: -1,
	}), nil
}

var grants term

func BenchmarkObserve(b *testing.B) {
	for name, l := range map[string]lock.Locker{
		"bare":     termLocker{},
		"observed": lock.Observe(termLocker{}, func(lock.Event) {}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				lease, err := l.TryAcquire(b.Context(), "k", time.Hour)
				if err != nil {
					b.Fatal(err)
				}
				if err := lease.Release(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
