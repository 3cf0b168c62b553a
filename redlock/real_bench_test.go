package redlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

// BenchmarkRealUncontended is a pair of acquire and release that nobody else wants the lock
// of, over three nodes: by a request that could wait, beside one attempt. They are made in
// turns, so that what else the machine does meets both alike; await/try is the ratio of
// their times.
func BenchmarkRealUncontended(b *testing.B) {
	var urls []string
	for _, s := range redistest.StartN(b, 3) {
		urls = append(urls, "redis://"+s.Addr())
	}
	l, err := Dial(b.Context(), urls, &Options{RestartGuard: -1, NodeTimeout: 10 * time.Second})
	require.NoError(b, err)
	defer l.Close()
	pairs := func(acquire func() (lock.Lease, error)) time.Duration {
		start := time.Now()
		for range 10 {
			lease, err := acquire()
			if err == nil {
				err = lease.Release(b.Context())
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(start)
	}
	var try, await time.Duration
	for b.Loop() {
		try += pairs(func() (lock.Lease, error) { return l.TryAcquire(b.Context(), "try", time.Minute) })
		await += pairs(func() (lock.Lease, error) {
			return l.Await(b.Context(), "await", time.Minute, func(*lock.HeldError) {})
		})
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(try.Microseconds())/float64(10*b.N), "try-µs")
	b.ReportMetric(float64(await.Microseconds())/float64(10*b.N), "await-µs")
	b.ReportMetric(float64(await)/float64(try), "await/try")
}
