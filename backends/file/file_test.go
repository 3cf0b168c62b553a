//go:build linux || darwin || freebsd

package file

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

const long = time.Minute // a ttl that no test waits for

func newLocker(t testing.TB, dir string, opts *Options) *Locker {
	t.Helper()
	l, err := New(dir, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func acquire(t testing.TB, l lock.Locker, key string, ttl time.Duration) lock.Lease {
	t.Helper()
	lease, err := l.TryAcquire(context.Background(), key, ttl)
	require.NoError(t, err)
	return lease
}

func refused(t testing.TB, l lock.Locker, key string) *lock.HeldError {
	t.Helper()
	lease, err := l.TryAcquire(context.Background(), key, long)
	require.Nil(t, lease)
	held, ok := errors.AsType[*lock.HeldError](err)
	require.True(t, ok, "%v", err)
	return held
}

func release(t testing.TB, lease lock.Lease) {
	t.Helper()
	require.NoError(t, lease.Release(context.Background()))
}

// die lets go of what the kernel lets go of when l's process dies.
func die(t testing.TB, l *Locker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	require.NoError(t, syscall.Close(l.liveFD))
	l.liveFD = -1
}

func TestBadOptionsAndDirectoriesAreNamed(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	open := filepath.Join(dir, "open")
	require.NoError(t, os.Mkdir(open, 0o700))
	require.NoError(t, os.Chmod(open, 0o777))
	for _, tc := range []struct {
		dir   string
		opts  *Options
		kind  error
		names string
	}{
		{"", nil, lock.ErrInvalid, "the directory is empty"},
		{dir, &Options{LockTimeout: -1}, lock.ErrInvalid, "Options.LockTimeout is -1ns, want 0 or more"},
		{dir, &Options{Owner: "a\nb"}, lock.ErrInvalid, `Options.Owner is "a\nb"`},
		{dir, &Options{Owner: strings.Repeat("x", 129)}, lock.ErrInvalid, "(129 bytes), want 1 to 128 bytes"},
		{open, nil, lock.ErrInvalid, open + ": lock: invalid: everybody can write"},
		{plain, nil, lock.ErrUnavailable, plain},
		{"/proc", nil, lock.ErrInvalid, "/proc: lock: invalid: its file system is unknown"},
	} {
		if tc.dir == "/proc" {
			if _, err := os.Stat("/proc/locks"); err != nil {
				continue
			}
		}
		l, err := New(tc.dir, tc.opts)
		require.ErrorIs(t, err, tc.kind)
		require.ErrorContains(t, err, tc.names)
		require.Nil(t, l)
	}
}

func TestNobodyElseMayUseADirectoryThatNewMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	l := newLocker(t, dir, nil)
	acquire(t, l, "k", long)
	for path, want := range map[string]os.FileMode{
		dir: 0o700, l.keyPath("k"): 0o600, l.livePath(0): 0o600, filepath.Dir(dir): 0o700,
	} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, want, info.Mode().Perm(), path)
	}
}

func TestFilesTakeTheDirectorysPermissions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shared")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chmod(dir, 0o770)) // whatever the umask
	l := newLocker(t, dir, nil)
	acquire(t, l, "k", long)
	for _, path := range []string{l.keyPath("k"), l.livePath(0)} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o660), info.Mode().Perm(), path)
	}
}

func TestRefusalsNameTheHolderAndTheTimeLeft(t *testing.T) {
	dir := t.TempDir()
	a := newLocker(t, dir, &Options{Owner: "me & <you>"})
	acquire(t, a, "k", long)
	held := refused(t, newLocker(t, dir, nil), "k")
	require.Equal(t, "me & <you>", held.Holder)
	require.Equal(t, "k", held.Key)
	require.Greater(t, held.RetryAfter, time.Duration(0))
	require.LessOrEqual(t, held.RetryAfter, long+grace)
}

func TestTheDefaultOwnerIsHostAndPid(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Regexp(t, `^`+host+`:\d+$`, l.opts.Owner)
}

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
	// And whoever takes a sign of life meanwhile takes the next one.
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

func TestARebootEndsAllHoldsAndTokensRise(t *testing.T) {
	dir := t.TempDir()
	a := newLocker(t, dir, nil)
	lease := acquire(t, a, "k", long)
	after := newLocker(t, dir, nil)
	after.boot = "the next one"
	next := acquire(t, after, "k", long)
	require.Greater(t, next.Token(), lease.Token())
	f, err := after.open("k")
	require.NoError(t, err)
	defer f.close()
	r, err := f.read()
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Reserved, r.Token)
	require.ErrorIs(t, lease.Extend(t.Context(), long), lock.ErrLost)
}

// Only what was reserved is on the disk itself. Here the record falls back to
// what it was right after the last reservation.
func TestACrashOfTheMachineNeverRepeatsAToken(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, nil)
	var disk []byte
	var reserved, last uint64
	for range 2*reserve + 10 {
		lease := acquire(t, l, "k", long)
		require.Greater(t, lease.Token(), last)
		last = lease.Token()
		release(t, lease)
		f, err := l.open("k")
		require.NoError(t, err)
		r, err := f.read()
		f.close()
		require.NoError(t, err)
		require.LessOrEqual(t, last, r.Reserved)
		if r.Reserved != reserved {
			reserved = r.Reserved
			disk, err = os.ReadFile(l.keyPath("k"))
			require.NoError(t, err)
		}
	}
	for slot := range 2 { // a torn slot more
		torn := append([]byte(nil), disk...)
		clear(torn[slot*slotSize+100 : slot*slotSize+512])
		require.NoError(t, os.WriteFile(l.keyPath("k"), torn, 0o600))
		after := newLocker(t, dir, nil)
		after.boot = "the next one"
		require.Greater(t, acquire(t, after, "k", long).Token(), last)
	}
}

func TestAReservationSurvivesInEitherSlot(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "k", long))
	f, err := l.open("k")
	require.NoError(t, err)
	defer f.close()
	r, err := f.read()
	require.NoError(t, err)
	r.Token = r.Reserved
	require.NoError(t, reserveTokens(f.fd, &r))
	whole, err := os.ReadFile(f.path)
	require.NoError(t, err)
	for slot := range int64(2) {
		require.NoError(t, pwrite(f.fd, whole, 0))
		require.NoError(t, pwrite(f.fd, make([]byte, slotSize), slot*slotSize))
		left, err := readRecord(f.fd, "the next boot")
		require.NoError(t, err)
		require.Equal(t, r.Reserved, left.Reserved)
	}
}

func TestALostCounterStartsAboveWhatItWas(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, nil)
	lease := acquire(t, l, "k", long)
	release(t, lease)
	require.NoError(t, os.Remove(l.keyPath("k")))
	require.Greater(t, acquire(t, l, "k", long).Token(), lease.Token())
}

func TestADeletedRecordIsALostLease(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	lease := acquire(t, l, "k", long)
	require.NoError(t, os.Remove(l.keyPath("k")))
	err := lease.Extend(t.Context(), long)
	require.ErrorIs(t, err, lock.ErrLost)
	require.ErrorContains(t, err, l.keyPath("k"))
	require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
}

func TestADamagedRecordIsRefusedByName(t *testing.T) {
	for name, damage := range map[string]func(whole []byte) []byte{
		"empty":      func([]byte) []byte { return nil },
		"truncated":  func(b []byte) []byte { return b[:slotSize+100] },
		"zeros":      func(b []byte) []byte { return make([]byte, len(b)) },
		"first slot": func(b []byte) []byte { b[50] ^= 1; return b },
		"other slot": func(b []byte) []byte { b[slotSize+50] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLocker(t, t.TempDir(), &Options{LockTimeout: long})
			lease := acquire(t, l, "k", long)
			acquire(t, l, "good", long)
			whole, err := os.ReadFile(l.keyPath("k"))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(l.keyPath("k"), damage(append([]byte(nil), whole...)), 0o600))

			_, acquireErr := l.TryAcquire(t.Context(), "k", long)
			_, inspectErr := l.Inspect(t.Context(), "k")
			var listErr error
			var listed []string
			for info, err := range l.List(t.Context(), "") {
				if listErr = err; err == nil {
					listed = append(listed, info.Key)
				}
			}
			require.Equal(t, []string{"good"}, listed)
			for _, err := range []error{
				acquireErr, inspectErr, listErr,
				l.ForceRelease(t.Context(), "k", 0), lease.Extend(t.Context(), long), lease.Release(t.Context()),
			} {
				require.ErrorIs(t, err, lock.ErrUnavailable)
				require.NotErrorIs(t, err, lock.ErrLost)
				require.ErrorContains(t, err, l.keyPath("k"))
				require.ErrorContains(t, err, "delete the file")
			}
			// It is not written to; made whole, all is well.
			require.NoError(t, os.WriteFile(l.keyPath("k"), whole, 0o600))
			release(t, lease)
		})
	}
}

func TestARecordOfAnotherKeyIsRefused(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "a", long))
	require.NoError(t, os.Rename(l.keyPath("a"), l.keyPath("b")))
	_, err := l.TryAcquire(t.Context(), "b", long)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, `of another key, "a"`)
}

func TestALaterFormatIsRefused(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "k", long))
	f, err := l.open("k")
	require.NoError(t, err)
	defer f.close()
	r, err := f.read()
	require.NoError(t, err)
	r.Version++
	require.NoError(t, writeRecord(f.fd, &r))
	_, err = l.TryAcquire(t.Context(), "k", long)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "version 2, want 1")
}

func TestTheLongestRecordFits(t *testing.T) {
	l := newLocker(t, t.TempDir(), &Options{Owner: strings.Repeat(`"`, maxOwner)})
	l.boot = strings.Repeat("b", 64)
	key := strings.Repeat("\x01", lock.MaxKeyLen)
	acquire(t, l, key, lock.MaxTTL)
	require.Equal(t, key, refused(t, l, key).Key)
}

func TestClosedLockersKeepTheirLeases(t *testing.T) {
	dir := t.TempDir()
	a, b := newLocker(t, dir, nil), newLocker(t, dir, nil)
	lease := acquire(t, a, "k", long)
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	_, err := a.TryAcquire(t.Context(), "other", long)
	require.ErrorIs(t, err, lock.ErrClosed)
	refused(t, b, "k")
	require.NoError(t, lease.Extend(t.Context(), long))
	release(t, lease)
	require.Equal(t, -1, a.liveFD, "the sign of life goes with the last lease")
	acquire(t, b, "k", long)
}

func TestForceReleaseEndsThatTermOnly(t *testing.T) {
	dir := t.TempDir()
	a, b := newLocker(t, dir, nil), newLocker(t, dir, nil)
	lease := acquire(t, a, "k", long)
	require.ErrorIs(t, b.ForceRelease(t.Context(), "k", lease.Token()+1), lock.ErrHeld)
	require.NoError(t, b.ForceRelease(t.Context(), "nobody's", 0))
	require.NoError(t, b.ForceRelease(t.Context(), "k", lease.Token()))
	require.NoError(t, b.ForceRelease(t.Context(), "k", lease.Token()))
	require.ErrorIs(t, lease.Extend(t.Context(), long), lock.ErrLost)
	next := acquire(t, b, "k", long)
	require.Greater(t, next.Token(), lease.Token())
	require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
	refused(t, a, "k")
	require.NoError(t, b.ForceRelease(t.Context(), "k", 0))
}

func TestLeftoversOfDeadMakersAreSwept(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, newPrefix+"old"), filepath.Join(dir, newPrefix+"fresh")
	for _, path := range []string{old, fresh} {
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	past := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(old, past, past))
	newLocker(t, dir, nil)
	require.NoFileExists(t, old)
	require.FileExists(t, fresh)
}

// Two records a key and one sign of life: nothing else stays.
func TestNothingPilesUp(t *testing.T) {
	dir := t.TempDir()
	for range 20 {
		l := newLocker(t, dir, nil)
		for _, key := range []string{"a", "b"} {
			release(t, acquire(t, l, key, long))
		}
		require.NoError(t, l.Close())
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 3)
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

func TestAHealthyDirectoryVotes(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	health, err := l.Health(t.Context())
	require.NoError(t, err)
	require.True(t, health.HasQuorum())
	require.Equal(t, l.dir, health.Nodes[0].Name)
	require.NoError(t, os.RemoveAll(l.dir))
	health, err = l.Health(t.Context())
	require.NoError(t, err)
	require.False(t, health.HasQuorum())
	require.ErrorContains(t, health.Nodes[0].Err, l.dir)
}
