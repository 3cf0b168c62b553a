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
		{dir, &Options{LockTimeout: -1}, lock.ErrInvalid, "Options.LockTimeout is -1ns, want 0 for the default, or at least 1ms"},
		{dir, &Options{LockTimeout: 5}, lock.ErrInvalid, "Options.LockTimeout is 5ns, want 0 for the default, or at least 1ms"},
		{dir, &Options{Owner: "a\nb"}, lock.ErrInvalid, `Options.Owner is "a\nb"`},
		{dir, &Options{Owner: strings.Repeat("x", 129)}, lock.ErrInvalid, "(129 bytes), want 1 to 128 bytes"},
		{open, nil, lock.ErrInvalid, open + ": lock: invalid: everybody can write"},
		{plain, nil, lock.ErrRefused, plain},
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

// What asking again does not mend is no outage.
func TestPermanentMistakesAreRefusals(t *testing.T) {
	dir := t.TempDir()
	plain, loop := filepath.Join(dir, "plain"), filepath.Join(dir, "loop")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	require.NoError(t, os.Symlink(loop, loop))
	for _, bad := range []string{plain, filepath.Join(plain, "under"), loop, filepath.Join(loop, "under"), filepath.Join(dir, strings.Repeat("x", 300))} {
		for _, lazy := range []bool{false, true} {
			_, err := New(bad, &Options{Lazy: lazy})
			require.ErrorIs(t, err, lock.ErrRefused, bad)
			require.NotErrorIs(t, err, lock.ErrUnavailable)
		}
	}
	l := newLocker(t, filepath.Join(dir, "locks"), nil)
	require.NoError(t, os.Symlink(plain, l.keyPath("link")))
	require.NoError(t, os.Mkdir(l.keyPath("dir"), 0o700))
	for _, key := range []string{"link", "dir"} {
		_, err := l.TryAcquire(t.Context(), key, long)
		require.ErrorIs(t, err, lock.ErrRefused)
		require.ErrorContains(t, err, l.keyPath(key))
	}
	require.NoError(t, os.RemoveAll(l.dir))
	_, err := l.TryAcquire(t.Context(), "k", long)
	require.ErrorIs(t, err, lock.ErrUnavailable, "a directory may be mounted again")
	require.NotErrorIs(t, err, lock.ErrRefused)
}

func TestALazyLockerMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	_, err := New(dir, &Options{Lazy: true})
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.NoDirExists(t, dir)
	acquire(t, newLocker(t, dir, nil), "k", long)
	before := files(t, dir)
	l := newLocker(t, dir, &Options{Lazy: true})
	info, err := l.Inspect(t.Context(), "k")
	require.NoError(t, err)
	require.NotZero(t, info.Token)
	_, err = l.Inspect(t.Context(), "other")
	require.NoError(t, err)
	_, err = l.Health(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, files(t, dir))
	acquire(t, l, "other", long) // it can do all the rest, too
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

// One file a key, one sign of life and the floor: nothing else stays.
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
	require.Len(t, entries, 4)
}

func TestHealthWarnsOfRecordsThatCanNotBeRead(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	for _, key := range []string{"a", "b", "c"} {
		release(t, acquire(t, l, key, long))
	}
	warnings := func() string {
		health, err := l.Health(t.Context())
		require.NoError(t, err)
		require.True(t, health.HasQuorum(), "other keys can be locked")
		return strings.Join(health.Nodes[0].Warnings, "\n")
	}
	require.NotContains(t, warnings(), "can't be read")
	require.NoError(t, os.WriteFile(l.keyPath("b"), []byte("x"), 0o600))
	require.Contains(t, warnings(), "1 of 3 records can't be read, and nobody can lock their keys; the first: "+l.keyPath("b"))
	require.NoError(t, os.Remove(l.keyPath("b")))
	require.NotContains(t, warnings(), "can't be read")
}

func TestInspectAndListTellForHowLongAKeyIsHeld(t *testing.T) {
	dir := t.TempDir()
	l, other := newLocker(t, dir, nil), newLocker(t, dir, nil)
	began := l.clock.Now()
	lease := acquire(t, l, "k", long)
	first, err := other.Inspect(t.Context(), "k")
	require.NoError(t, err)
	require.NoError(t, lease.Extend(t.Context(), long))
	for info, err := range other.List(t.Context(), "") {
		require.NoError(t, err)
		require.GreaterOrEqual(t, info.Held, first.Held, "a renewal does not begin it anew")
		require.LessOrEqual(t, info.Held, l.clock.Now()-began)
	}
	release(t, lease)
	info, err := other.Inspect(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, lock.Info{Key: "k"}, info)
	// A record of an earlier version does not have it.
	r := record{Key: "k", Token: 1, Boot: l.boot, Holder: "x", Expiry: int64(l.clock.Now() + long), Life: life{Slot: 99}}
	require.Zero(t, l.info(r).Held)
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

func TestNothingIsLookedAtOrBrokenForACtxThatHasEnded(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(lock.ErrHeld)
	_, err = l.Inspect(ctx, "k")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, lock.ErrHeld)
	require.ErrorIs(t, l.ForceRelease(ctx, "k", 0), context.Canceled)
	require.NoError(t, lease.Extend(t.Context(), time.Minute), "it is still held")
	require.NoError(t, lease.Release(t.Context()))
}
