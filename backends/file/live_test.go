//go:build linux || darwin || freebsd

package file

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func TestADeadHoldersKeysAreFreeAtOnce(t *testing.T) {
	dir := t.TempDir()
	a, b := newLocker(t, dir, nil), newLocker(t, dir, nil)
	first := acquire(t, a, "k", long)
	refused(t, b, "k")
	die(t, a)
	info, err := b.Inspect(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, lock.Info{Key: "k"}, info)
	require.Greater(t, acquire(t, b, "k", long).Token(), first.Token())
}

// A new Locker takes the dead one's file; what the dead one held is still free.
func TestASignOfLifeTakenOverDoesNotVouchForTheDead(t *testing.T) {
	dir := t.TempDir()
	a := newLocker(t, dir, nil)
	acquire(t, a, "k", long)
	die(t, a)
	b := newLocker(t, dir, nil)
	acquire(t, b, "other", long)
	require.Equal(t, a.life.Slot, b.life.Slot)
	acquire(t, newLocker(t, dir, nil), "k", long)
}

func TestProbingAHolderDisturbsNobody(t *testing.T) {
	dir := t.TempDir()
	a, b := newLocker(t, dir, nil), newLocker(t, dir, nil)
	acquire(t, a, "k", long)
	// Another prober is just looking: that is no holder, and a is still one.
	require.False(t, b.dead(a.life))
	die(t, a)
	fd, err := openFile(b.livePath(a.life.Slot), 0, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	require.NoError(t, flock(fd, syscall.LOCK_SH))
	require.True(t, b.dead(a.life))
	// And a Locker that takes a sign of life meanwhile takes the next one.
	acquire(t, b, "other", long)
	require.Equal(t, 1, b.life.Slot)
}

func TestADeletedSignOfLifeLeavesTheHoldToItsExpiry(t *testing.T) {
	dir := t.TempDir()
	a, b := newLocker(t, dir, nil), newLocker(t, dir, nil)
	lease := acquire(t, a, "k", long)
	require.NoError(t, os.Remove(a.livePath(0)))
	refused(t, b, "k")
	acquire(t, b, "other", long) // makes the file again
	require.Equal(t, 0, b.life.Slot)
	refused(t, newLocker(t, dir, nil), "k")
	require.NoError(t, lease.Extend(t.Context(), long))
	release(t, lease)
}

func TestManyLeasesNeedOneOpenFile(t *testing.T) {
	fds := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skipf("can't count open files: %v", err)
		}
		return len(entries)
	}
	l := newLocker(t, t.TempDir(), nil)
	before := fds()
	for i := range 50 {
		acquire(t, l, string(rune('A'+i)), long)
		refused(t, l, "A")
	}
	require.Equal(t, before+1, fds())
}
