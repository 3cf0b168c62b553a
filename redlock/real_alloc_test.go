//go:build !race

package redlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

// What acquire, extend and release over three nodes allocate, the client library's part
// included. The bounds are a third above what was measured. (The race detector
// allocates, too: make check runs this without.)
func TestRealAllocationsOfAcquireExtendAndRelease(t *testing.T) {
	ctx := t.Context()
	var urls []string
	for _, s := range redistest.StartN(t, 3) {
		urls = append(urls, "redis://"+s.Addr())
	}
	l, err := Dial(ctx, urls, &Options{RestartGuard: -1, NodeTimeout: 10 * time.Second})
	require.NoError(t, err)
	defer l.Close()
	var lease lock.Lease
	acquire := func() {
		var err error
		if lease, err = l.TryAcquire(ctx, "k", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	release := func() {
		if err := lease.Release(ctx); err != nil {
			t.Fatal(err)
		}
	}
	const runs = 300
	pair := testing.AllocsPerRun(runs, func() { acquire(); release() })
	acquire()
	extend := testing.AllocsPerRun(runs, func() {
		if err := lease.Extend(ctx, time.Minute); err != nil {
			t.Fatal(err)
		}
	})
	release()
	t.Logf("acquire and release %v, extend %v", pair, extend)
	require.LessOrEqual(t, pair, 29.0, "acquire and release")
	require.LessOrEqual(t, extend, 16.0, "extend")
}
