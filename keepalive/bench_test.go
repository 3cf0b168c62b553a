package keepalive

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

type term struct{}

func (term) ExtendTerm(_ context.Context, _ string, _ uint64, ttl time.Duration) (time.Time, error) {
	return time.Now().Add(ttl), nil
}
func (term) ReleaseTerm(context.Context, string, uint64) error { return nil }

func bare() lock.Lease {
	return lock.NewLease(lock.Grant{Key: key, Token: token, Expiry: time.Now().Add(time.Hour), Term: term{}})
}

// BenchmarkKept reports what a kept lease occupies, its core lease included.
func BenchmarkKept(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var before, after runtime.MemStats
	keepers := make([]*Keeper, 0, 200_000)
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ReportAllocs()
	for b.Loop() {
		k, err := Start(ctx, bare(), time.Hour, nil)
		if err != nil {
			b.Fatal(err)
		}
		k.Context().Done() // as any use of it does
		keepers = append(keepers, k)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(keepers)), "B/kept")
	for _, k := range keepers {
		_ = k.Release(ctx)
	}
}

func BenchmarkContextErr(b *testing.B) {
	k, err := Start(b.Context(), bare(), time.Hour, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer k.Release(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		if k.Context().Err() != nil {
			b.Fatal("ended")
		}
	}
}
