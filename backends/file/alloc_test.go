//go:build linux && !race

package file_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/file"
	"github.com/tonsurance/lockkeeper/lock"
)

// What acquire, extend and release allocate. The bounds are a third above what was
// measured. (The race detector allocates, too: make check runs this without.)
func TestAllocationsOfAcquireExtendAndRelease(t *testing.T) {
	ctx := t.Context()
	l, err := file.New(filepath.Join(t.TempDir(), "locks"), &file.Options{TrustFileSystem: true})
	require.NoError(t, err)
	defer l.Close()
	var lease lock.Lease
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	acquire := func() {
		var err error
		lease, err = l.TryAcquire(ctx, "k", time.Minute)
		must(err)
	}
	pair := testing.AllocsPerRun(300, func() { acquire(); must(lease.Release(ctx)) })
	acquire()
	extend := testing.AllocsPerRun(300, func() { must(lease.Extend(ctx, time.Minute)) })
	t.Logf("acquire and release %v, extend %v", pair, extend)
	require.LessOrEqual(t, pair, 72.0, "acquire and release")
	require.LessOrEqual(t, extend, 35.0, "extend")
}
