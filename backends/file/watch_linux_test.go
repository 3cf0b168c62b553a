package file

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// opened counts how often the file is opened from now on, by anybody.
func opened(t *testing.T, path string) func() int {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	_, err = syscall.InotifyAddWatch(fd, path, syscall.IN_OPEN|syscall.IN_CLOSE)
	require.NoError(t, err)
	total := 0
	return func() int {
		buf := make([]byte, 1<<16)
		n, _ := syscall.Read(fd, buf)
		total += max(0, n) / syscall.SizeofInotifyEvent / 2
		return total
	}
}

func TestAnIdleWaiterReadsNothing(t *testing.T) {
	dir := t.TempDir()
	holder := newLocker(t, dir, nil)
	lease := acquire(t, holder, "k", long)
	got := waitFor(t, newLocker(t, dir, nil))
	time.Sleep(200 * time.Millisecond) // what its coming has set off is over
	record, life := opened(t, holder.keyPath("k")), opened(t, holder.livePath(0))
	time.Sleep(500 * time.Millisecond) // it could
	require.Zero(t, record())
	require.Zero(t, life())
	for range 10 {
		require.NoError(t, lease.Extend(t.Context(), long))
	}
	require.LessOrEqual(t, record(), 20, "a renewal opens it, and the waiter looks")
	require.Zero(t, life())
	require.Empty(t, got)
	release(t, lease)
	release(t, (<-got).lease)
}

func TestALockerHasOneInotifyInstanceForAllKeys(t *testing.T) {
	instances := func() (n int) {
		links, err := filepath.Glob("/proc/self/fd/*")
		require.NoError(t, err)
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && strings.Contains(to, "inotify") {
				n++
			}
		}
		return n
	}
	dir := t.TempDir()
	l, holder := newLocker(t, dir, nil), newLocker(t, dir, nil)
	before := instances()
	for _, key := range []string{"a", "b", "c"} {
		acquire(t, holder, key, long)
		stop, err := l.Watch(t.Context(), key, make(chan struct{}))
		require.NoError(t, err)
		defer stop()
	}
	require.Equal(t, before+1, instances())
	l.hub.mu.Lock()
	require.Len(t, l.hub.marks, 4, "three records and one holder")
	l.hub.mu.Unlock()
	require.NoError(t, l.Close())
	require.Equal(t, before, instances())
}
