package file

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// mount gives a small file system of its own.
func mount(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("skipped: mounting a tmpfs takes root: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	require.NoError(t, os.Chmod(dir, 0o700))
	return dir
}

func TestOnAFullDiskHeldLocksWorkAndNewKeysFail(t *testing.T) {
	dir := mount(t, "size=64k")
	l := newLocker(t, dir, nil)
	lease := acquire(t, l, "k", long)
	free := acquire(t, l, "free", long)
	release(t, free)
	filler, err := os.Create(filepath.Join(dir, "filler"))
	require.NoError(t, err)
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)

	for i := range 3 {
		key := "new" + strconv.Itoa(i)
		_, err := l.TryAcquire(t.Context(), key, long)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorContains(t, err, l.keyPath(key))
		require.NoFileExists(t, l.keyPath(key))
	}
	require.NoError(t, lease.Extend(t.Context(), long))
	for range 3 { // slots have been written to before
		release(t, lease)
		lease = acquire(t, l, "k", long)
	}
	health, err := l.Health(t.Context())
	require.NoError(t, err)
	require.Contains(t, health.Nodes[0].Warnings, "0 bytes free: locks of new keys, and of a program for which there is no file yet (live.*), will fail")

	// A new process has no sign of life yet, which takes a page.
	_, err = newLocker(t, dir, nil).TryAcquire(t.Context(), "free", long)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, os.Remove(filler.Name()))
	filler.Close()
	acquire(t, newLocker(t, dir, nil), "free", long)
}

// Old keys that fill the disk can be deleted then, which takes a file of its own.
func TestADiskThatOldKeysFillIsTidiedUp(t *testing.T) {
	for _, options := range []string{"nr_inodes=20", "size=64k"} {
		t.Run(options, func(t *testing.T) {
			dir := mount(t, options)
			l, err := New(dir, nil)
			require.NoError(t, err)
			var last uint64
			for i := 0; err == nil; i++ {
				var lease lock.Lease
				if lease, err = l.TryAcquire(t.Context(), strconv.Itoa(i), long); err == nil {
					last = lease.Token()
					release(t, lease)
				}
			}
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.NoError(t, l.Close())
			files, err := filepath.Glob(filepath.Join(dir, keyPrefix+"*"))
			require.NoError(t, err)
			for _, path := range files {
				old := time.Now().Add(-2 * pruneAfter)
				require.NoError(t, os.Chtimes(path, old, old))
			}
			lease := acquire(t, newLocker(t, dir, nil), "new", long)
			require.Greater(t, lease.Token(), last, "what was deleted is counted on from")
		})
	}
}

// image gives a file system of its own in a file, made by mkfs.
func image(t *testing.T, size int64, mkfs ...string) string {
	t.Helper()
	if _, err := exec.LookPath(mkfs[0]); err != nil || os.Geteuid() != 0 {
		t.Skipf("skipped: it takes root and %s", mkfs[0])
	}
	file, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, size))
	out, err := exec.Command(mkfs[0], append(mkfs[1:], file)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	if out, err := exec.Command("mount", "-o", "loop", file, dir).CombinedOutput(); err != nil {
		t.Skipf("skipped: this kernel does not mount it: %s", out)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	require.NoError(t, os.Chmod(dir, 0o700))
	return dir
}

// fill leaves no space for data.
func fill(t *testing.T, dir string) (filler string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	require.NoError(t, err)
	defer f.Close()
	for _, size := range []int{1 << 20, 4096} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
		_ = f.Sync()
	}
	return f.Name()
}

// On btrfs too, which writes elsewhere what is not marked.
func TestOnAFullDiskOfAnyKindHeldLocksWork(t *testing.T) {
	for name, mkfs := range map[string][]string{
		"btrfs": {"mkfs.btrfs", "-q"},
		"xfs":   {"mkfs.xfs", "-q"},
		"ext4":  {"mkfs.ext4", "-q", "-F"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLocker(t, image(t, 512<<20, mkfs...), nil)
			require.Equal(t, name, l.fs)
			lease := acquire(t, l, "k", long)
			fill(t, l.dir)
			for range 200 {
				require.NoError(t, lease.Extend(t.Context(), long))
				release(t, lease)
				lease = acquire(t, l, "k", long)
			}
			syscall.Sync()
			require.NoError(t, lease.Extend(t.Context(), long))
			release(t, lease)
		})
	}
}

func TestAReadOnlyDirectoryIsRefused(t *testing.T) {
	writable, readOnly := mount(t, "size=64k"), t.TempDir()
	require.NoError(t, syscall.Mount(writable, readOnly, "", syscall.MS_BIND, ""))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(readOnly, syscall.MNT_DETACH)) })
	require.NoError(t, syscall.Mount("", readOnly, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""))
	_, err := New(readOnly, nil)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.NotErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorIs(t, err, syscall.EROFS)

	// The same while leases are held.
	dir := filepath.Join(t.TempDir(), "locks")
	lead := func(to string) {
		t.Helper()
		_ = os.Remove(dir)
		require.NoError(t, os.Symlink(to, dir))
	}
	lead(writable)
	l := newLocker(t, dir, nil)
	lease := acquire(t, l, "k", long)
	lead(readOnly)
	before := lease.Expiry()
	require.ErrorIs(t, lease.Extend(t.Context(), long), lock.ErrRefused)
	require.Equal(t, before, lease.Expiry(), "a refusal ends no lease")
	for _, err := range []error{
		second(l.TryAcquire(t.Context(), "other", long)),
		lease.Extend(t.Context(), long), lease.Release(t.Context()),
	} {
		require.ErrorIs(t, err, lock.ErrRefused)
		require.ErrorIs(t, err, syscall.EROFS)
		require.NotErrorIs(t, err, lock.ErrLost)
	}
	health, err := l.Health(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, health.Nodes[0].Err, syscall.EROFS)
	// Who looks needs no more than that.
	eye := newLocker(t, readOnly, &Options{Lazy: true})
	info, err := eye.Inspect(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, lease.Token(), info.Token)
	for info, err := range eye.List(t.Context(), "") {
		require.NoError(t, err)
		require.Equal(t, "k", info.Key)
	}
	lead(writable)
	release(t, lease)
}

func TestADirectoryWithoutPermissionIsRefused(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("skipped: root may do all; TestAReadOnlyDirectoryIsRefused stands in")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o500))
	_, err := New(dir, nil)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorIs(t, err, os.ErrPermission)
}

func TestAMissingDirectoryTellsNothingOfTheLease(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	l := newLocker(t, dir, nil)
	lease := acquire(t, l, "k", long)
	require.NoError(t, os.Rename(dir, dir+".away"))
	for _, err := range []error{
		lease.Extend(t.Context(), long), lease.Release(t.Context()),
		second(l.TryAcquire(t.Context(), "k", long)),
	} {
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NotErrorIs(t, err, lock.ErrLost)
	}
	require.NoError(t, os.Rename(dir+".away", dir))
	refused(t, l, "k")
	release(t, lease)
}

func second[T any](_ T, err error) error { return err }

// A container may have a clock of its own. Shifted back, its holds would look
// expired to others; shifted forward, they would look endless.
func TestHoldsAreTheSameInATimeNamespace(t *testing.T) {
	if err := exec.Command("unshare", "-T", "--boottime", "100000", "true").Run(); err != nil {
		t.Skipf("skipped: no time namespace: %v", err)
	}
	dir := t.TempDir()
	p := startCommand(t, exec.Command("unshare", "-T", "--boottime", "100000", os.Args[0]), "hold", dir, "1h")
	p.token()
	held := refused(t, newLocker(t, dir, nil), "k")
	require.Greater(t, held.RetryAfter, 50*time.Minute)
	require.LessOrEqual(t, held.RetryAfter, time.Hour+grace)
	p.kill()
	acquire(t, newLocker(t, dir, nil), "k", long)
}
