//go:build !race

package memory_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// One allocation a lease; an extend has a context of its own. (The race detector
// allocates, too: make check runs this without.)
func TestAllocationsOfAcquireExtendAndRelease(t *testing.T) {
	ctx, l := t.Context(), memory.New()
	var lease lock.Lease
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	pair := testing.AllocsPerRun(1000, func() {
		var err error
		lease, err = l.TryAcquire(ctx, "k", time.Minute)
		must(err)
		must(lease.Release(ctx))
	})
	require.LessOrEqual(t, pair, 1.0, "acquire and release")
	lease, err := l.TryAcquire(ctx, "k", time.Minute)
	must(err)
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { must(lease.Extend(ctx, time.Minute)) }), 5.0, "extend")
}
