//go:build linux || darwin || freebsd

package file

import (
	"strconv"
	"sync/atomic"
	"testing"
)

func BenchmarkAcquireRelease(b *testing.B) {
	l := newLocker(b, b.TempDir(), nil)
	b.ReportAllocs()
	for b.Loop() {
		release(b, acquire(b, l, "k", long))
	}
}

func BenchmarkAcquireReleaseParallel(b *testing.B) {
	l := newLocker(b, b.TempDir(), nil)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		key := strconv.FormatInt(n.Add(1), 10)
		for pb.Next() {
			release(b, acquire(b, l, key, long))
		}
	})
}

// One poll of a waiter.
func BenchmarkRefused(b *testing.B) {
	dir := b.TempDir()
	acquire(b, newLocker(b, dir, nil), "k", long)
	l := newLocker(b, dir, nil)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = l.TryAcquire(b.Context(), "k", long)
	}
}

func BenchmarkExtend(b *testing.B) {
	lease := acquire(b, newLocker(b, b.TempDir(), nil), "k", long)
	b.ReportAllocs()
	for b.Loop() {
		if err := lease.Extend(b.Context(), long); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFirstUseOfAKey(b *testing.B) {
	l := newLocker(b, b.TempDir(), nil)
	n := 0
	for b.Loop() {
		n++
		acquire(b, l, strconv.Itoa(n), long)
	}
}
