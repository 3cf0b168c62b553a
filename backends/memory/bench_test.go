package memory_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/backends/memory"
)

const benchKey = "pricing-oracle-keeper"

// BenchmarkAcquireRelease alternates with what it is measured against, one
// insert, one delete and one time.Now under a mutex, and reports the ratio:
// whatever else the machine does slows both.
func BenchmarkAcquireRelease(b *testing.B) {
	cancellable, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, bm := range []struct {
		name string
		ctx  context.Context
	}{{"background", context.Background()}, {"cancellable", cancellable}} {
		b.Run(bm.name, func(b *testing.B) {
			l := memory.New()
			plain := plainMap{held: map[string]time.Time{}}
			const batch = 1000
			var ours, theirs time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				for range batch {
					acquireRelease(b, bm.ctx, l, benchKey)
				}
				middle := time.Now()
				for range batch {
					plain.acquireRelease(benchKey)
				}
				ours, theirs = ours+middle.Sub(start), theirs+time.Since(middle)
			}
			perOp := func(d time.Duration) float64 { return float64(d) / float64(b.N) / batch }
			b.ReportMetric(perOp(ours), "ns/pair")
			b.ReportMetric(perOp(theirs), "ns/plain-map")
			b.ReportMetric(float64(ours)/float64(theirs), "x-plain-map")
		})
	}
}

type plainMap struct {
	mu   sync.Mutex
	held map[string]time.Time
}

func (m *plainMap) acquireRelease(key string) {
	m.mu.Lock()
	m.held[key] = time.Now()
	m.mu.Unlock()
	m.mu.Lock()
	delete(m.held, key)
	m.mu.Unlock()
}

func acquireRelease(b *testing.B, ctx context.Context, l *memory.Locker, key string) {
	lease, err := l.TryAcquire(ctx, key, time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	if err := lease.Release(ctx); err != nil {
		b.Fatal(err)
	}
}

// Each goroutine has a key of its own: compare -cpu 1,2,4.
func BenchmarkAcquireReleaseDistinctKeys(b *testing.B) {
	l := memory.New()
	var goroutines atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		key := benchKey + strconv.FormatInt(goroutines.Add(1), 10)
		for pb.Next() {
			lease, err := l.TryAcquire(context.Background(), key, time.Minute)
			if err != nil {
				b.Error(err)
				return
			}
			if err := lease.Release(context.Background()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkPlainMapDistinctKeys(b *testing.B) {
	var mu sync.Mutex
	held := map[string]time.Time{}
	var goroutines atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		key := benchKey + strconv.FormatInt(goroutines.Add(1), 10)
		for pb.Next() {
			mu.Lock()
			held[key] = time.Now()
			mu.Unlock()
			mu.Lock()
			delete(held, key)
			mu.Unlock()
		}
	})
}

func BenchmarkRefused(b *testing.B) {
	l := memory.New()
	if _, err := l.TryAcquire(b.Context(), benchKey, time.Hour); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.TryAcquire(context.Background(), benchKey, time.Minute); err == nil {
			b.Fatal("granted twice")
		}
	}
}

func BenchmarkExtend(b *testing.B) {
	l := memory.New()
	lease, err := l.TryAcquire(b.Context(), benchKey, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := lease.Extend(context.Background(), time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}

// Abandoned terms are swept on the way, at this cost for each grant.
func BenchmarkAcquireAbandon(b *testing.B) {
	l := memory.New()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := l.TryAcquire(context.Background(), strconv.Itoa(i), time.Millisecond); err != nil {
			b.Fatal(err)
		}
	}
}
