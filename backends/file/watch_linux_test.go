package file

import (
	"os"
	"path/filepath"
	"runtime"
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
	record, life := opened(t, holder.keyPath("k")), opened(t, holder.livePath(0))
	for quiet, end := false, time.Now().Add(soon); !quiet; { // what its coming has set off ends
		require.True(t, time.Now().Before(end), "it reads all the time")
		before := record() + life()
		time.Sleep(500 * time.Millisecond) // it could
		quiet = record()+life() == before
	}
	records, lives := record(), life()
	for range 10 {
		require.NoError(t, lease.Extend(t.Context(), long))
	}
	require.LessOrEqual(t, record()-records, 20, "a renewal opens it, and the waiter looks")
	require.Equal(t, lives, life())
	require.Empty(t, got)
	release(t, lease)
	release(t, (<-got).lease)
}

// watchHeld puts l into the queue of k, which is held.
func watchHeld(t *testing.T, l *Locker, wake chan struct{}) (stop func()) {
	t.Helper()
	stop, err := l.Watch(t.Context(), "k", wake)
	require.NoError(t, err)
	refused(t, l, "k")
	return stop
}

// What a watch has set up stays for a moment, and may be of a file that is gone then.
func TestAFileThatWasMadeAnewBetweenTwoWatchesIsFollowed(t *testing.T) {
	for range 10 { // if this process pauses for too long, nothing stays
		dir := t.TempDir()
		holder, l := newLocker(t, dir, nil), newLocker(t, dir, nil)
		acquire(t, holder, "k", long)
		wake := make(chan struct{}, 1)
		watchHeld(t, l, wake)()
		require.NoError(t, os.Remove(holder.keyPath("k")))
		if !unmarked(l, "k") {
			continue
		}
		lease := acquire(t, holder, "k", long)
		defer watchHeld(t, l, wake)()
		release(t, lease)
		woken(t, wake)
		acquire(t, l, "k", long)
		return
	}
	t.Fatal("the watch of a file that is gone stays")
}

// unmarked waits until l no longer watches key's file, and reports false if it has
// forgotten all about the key instead.
func unmarked(l *Locker, key string) bool {
	for {
		l.hub.mu.Lock()
		k := l.hub.keys[key]
		over := k == nil || k.file == 0
		l.hub.mu.Unlock()
		if over {
			return k != nil
		}
		runtime.Gosched()
	}
}

// settled waits until what a watch's beginning has set off is over.
func settled(l *Locker, key string) {
	for {
		l.hub.mu.Lock()
		over := l.hub.keys[key].closing == 0
		l.hub.mu.Unlock()
		if over {
			return
		}
		runtime.Gosched()
	}
}

func TestAFileThatTheNameNoLongerLeadsToIsNotWatchedForEver(t *testing.T) {
	for name, move := range map[string]func(t *testing.T, dir, other string){
		"the directory was renamed": func(t *testing.T, dir, other string) {
			require.NoError(t, os.Rename(dir, dir+".away"))
			require.NoError(t, os.Rename(other, dir))
		},
		"a file system was mounted over it": func(t *testing.T, dir, other string) {
			if err := syscall.Mount(other, dir, "", syscall.MS_BIND, ""); err != nil {
				t.Skipf("skipped: mounting takes root: %v", err)
			}
			t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir, other := filepath.Join(base, "locks"), filepath.Join(base, "other")
			first, second := newLocker(t, dir, nil), newLocker(t, other, nil)
			acquire(t, first, "k", long)
			lease := acquire(t, second, "k", long)
			l := newLocker(t, dir, nil)
			wake := make(chan struct{}, 1)
			defer watchHeld(t, l, wake)()
			settled(l, "k")
			move(t, dir, other)
			second.dir = dir // where its record is now
			refused(t, l, "k")
			release(t, lease)
			woken(t, wake)
			acquire(t, l, "k", long)
		})
	}
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
