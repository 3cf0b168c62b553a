//go:build linux || darwin || freebsd

package file

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Users and a group that nobody has.
const (
	alice, bob, stranger = 61001, 61002, 61003
	lockers              = 61000
)

// needRoot: only root can be several users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: to be several users takes root")
	}
}

// publicDir is a directory that all users can reach.
func publicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lockkeeper-users")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// dirOf makes a directory of locks.
func dirOf(t testing.TB, uid, gid int, mode os.FileMode) string {
	t.Helper()
	dir := filepath.Join(publicDir(t), "locks")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chown(dir, uid, gid))
	require.NoError(t, os.Chmod(dir, mode))
	return dir
}

// as runs this test binary as another user, whose own group has his number, and
// returns what it prints.
func as(t *testing.T, uid int, groups []uint32, args ...string) string {
	t.Helper()
	needRoot(t)
	binary := filepath.Join(publicDir(t), "test")
	require.NoError(t, copyFile(binary, os.Args[0]))
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(args, "\n"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), Groups: groups}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// userChild is what another user does. It reports whether mode is one of these.
func userChild(mode, dir string, args []string) bool {
	ctx := context.Background()
	switch mode {
	case "lock": // takes each key for a moment
		l, err := New(dir, nil)
		if err != nil {
			fmt.Println("new:", err)
			break
		}
		for _, key := range args {
			lease, err := l.TryAcquire(ctx, key, long)
			if err == nil {
				err = lease.Release(ctx)
			}
			fmt.Printf("%s: %v\n", key, err)
		}
	case "look":
		l, err := New(dir, &Options{Lazy: true})
		if err != nil {
			fmt.Println("new:", err)
			break
		}
		info, err := l.Inspect(ctx, "k")
		fmt.Println("inspect:", info.Holder, err)
		for info, err := range l.List(ctx, "") {
			fmt.Println("list:", info.Key, err)
		}
		health, _ := l.Health(ctx)
		fmt.Println("health:", health.Nodes[0].Err)
	case "flock": // keeps whatever it can
		got := 0
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, path := range files {
			if fd, err := syscall.Open(path, syscall.O_RDONLY, 0); err == nil && flock(fd, syscall.LOCK_EX) == nil {
				got++
			}
		}
		fmt.Println("locked", got)
	case "default":
		fmt.Println(DefaultDir())
	default:
		return false
	}
	return true
}

func stat(t testing.TB, path string) (uid, gid int, mode os.FileMode) {
	t.Helper()
	var s syscall.Stat_t
	require.NoError(t, syscall.Lstat(path, &s))
	return int(s.Uid), int(s.Gid), permissions(&s).Perm()
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

func TestWhoMayNotWriteCanOpenNothing(t *testing.T) {
	needRoot(t)
	for _, c := range []struct{ dir, file os.FileMode }{
		{0o755, 0o600}, {0o750, 0o600}, {0o711, 0o600}, {0o775, 0o660}, {0o770, 0o660},
	} {
		dir := dirOf(t, alice, lockers, c.dir)
		require.Equal(t, "k: <nil>\n", as(t, alice, []uint32{lockers}, "lock", dir, "k"), c.dir)
		for _, path := range files(t, dir) {
			uid, gid, mode := stat(t, path)
			require.Equal(t, c.file, mode, "%v: %s", c.dir, path)
			require.Equal(t, alice, uid)
			if c.file == 0o660 {
				require.Equal(t, lockers, gid, "the maker's own group has others in it")
			}
		}
		require.Equal(t, "locked 0\n", as(t, stranger, []uint32{alice}, "flock", dir), c.dir)
	}
}

// Its owner is not in the group, and can't give it files.
func TestAFileThatCanNotBeGivenToTheGroupIsForNoGroup(t *testing.T) {
	needRoot(t)
	dir := dirOf(t, alice, lockers, 0o775)
	require.Equal(t, "k: <nil>\n", as(t, alice, nil, "lock", dir, "k"))
	require.Equal(t, "locked 0\n", as(t, stranger, []uint32{alice}, "flock", dir))
	said := as(t, bob, []uint32{lockers}, "lock", dir, "k", "bobs")
	require.Contains(t, said, "k: file: acquire \"k\": lock: refused by the store")
	require.Contains(t, said, "the file is user 61001's and group 61001's, -rw-------, and user 61002 asked")
	require.Contains(t, said, "bobs: <nil>\n")
}

func TestFilesOfAnEarlierVersionAreClosedToStrangers(t *testing.T) {
	needRoot(t)
	dir := dirOf(t, alice, alice, 0o755)
	as(t, alice, nil, "lock", dir, "k")
	for _, path := range files(t, dir) {
		require.NoError(t, os.Chmod(path, 0o644))
	}
	require.Equal(t, "k: <nil>\n", as(t, alice, nil, "lock", dir, "k"))
	require.Equal(t, "locked 0\n", as(t, stranger, nil, "flock", dir))
}

// A directory may be opened to a group, or closed to it, while it is in use.
func TestFilesFollowTheDirectorysMode(t *testing.T) {
	needRoot(t)
	dir := dirOf(t, alice, lockers, 0o700|os.ModeSetgid)
	l := newLocker(t, dir, nil)
	for _, c := range []struct{ dir, file os.FileMode }{{0o700, 0o600}, {0o770, 0o660}, {0o750, 0o600}} {
		require.NoError(t, os.Chmod(dir, c.dir|os.ModeSetgid))
		release(t, acquire(t, l, c.dir.String(), long)) // by one from before
		require.Equal(t, "k: <nil>\n", as(t, alice, nil, "lock", dir, "k"))
		for _, key := range []string{c.dir.String(), "k"} {
			_, gid, mode := stat(t, l.keyPath(key))
			require.Equal(t, c.file, mode, "%v: %s", c.dir, key)
			require.Equal(t, lockers, gid)
		}
	}
}

func TestAGroupSharesItsDirectory(t *testing.T) {
	needRoot(t)
	for _, mode := range []os.FileMode{0o770 | os.ModeSetgid, 0o770, 0o775} {
		dir := dirOf(t, 0, lockers, mode)
		for _, uid := range []int{alice, bob, alice} {
			require.Equal(t, "k: <nil>\n", as(t, uid, []uint32{lockers}, "lock", dir, "k"), "%v", mode)
		}
		release(t, acquire(t, newLocker(t, dir, nil), "roots", long))
		require.Equal(t, "roots: <nil>\n", as(t, bob, []uint32{lockers}, "lock", dir, "roots"))
	}
}

func TestWhatRootMakesBelongsToTheDirectorysOwner(t *testing.T) {
	needRoot(t)
	home := dirOf(t, alice, bob, 0o755)
	dir := filepath.Join(home, "a", "b")
	root := newLocker(t, dir, nil)
	lease := acquire(t, root, "k", long)
	release(t, acquire(t, root, "j", long))
	require.Contains(t, as(t, alice, nil, "lock", dir, "k"), "is held by")
	require.Equal(t, "j: <nil>\nother: <nil>\n", as(t, alice, nil, "lock", dir, "j", "other"))
	release(t, lease)
	require.Equal(t, "k: <nil>\n", as(t, alice, nil, "lock", dir, "k"))
	for _, path := range append(files(t, dir), dir, filepath.Dir(dir)) {
		uid, gid, _ := stat(t, path)
		require.Equal(t, alice, uid, path)
		require.Contains(t, []int{alice, bob}, gid, path)
	}
}

// Root's files of an earlier version cost their keys, and say what to do. What else
// there is goes on, and root's next command mends them.
func TestAFileThatCanNotBeOpenedEndsNothingElse(t *testing.T) {
	needRoot(t)
	dir := dirOf(t, alice, alice, 0o700)
	root := newLocker(t, dir, nil)
	release(t, acquire(t, root, "k", long))
	for _, path := range files(t, dir) {
		require.NoError(t, os.Chown(path, 0, 0))
	}
	said := as(t, alice, nil, "lock", dir, "other", "k")
	require.Contains(t, said, "other: <nil>\n")
	require.Contains(t, said, `acquire "k": lock: refused by the store: `+root.keyPath("k")+": permission denied")
	require.Contains(t, said, "the file is user 0's and group 0's, -rw-------, and user 61001 asked")

	release(t, acquire(t, newLocker(t, dir, nil), "k", long))
	require.Equal(t, "k: <nil>\n", as(t, alice, nil, "lock", dir, "k"))
}

func TestRootWritesToNoFileThatWasPutInPlace(t *testing.T) {
	needRoot(t)
	dir := dirOf(t, alice, alice, 0o700)
	victim := filepath.Join(filepath.Dir(dir), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	require.NoError(t, os.Link(victim, filepath.Join(dir, livePrefix+"0")))
	require.NoError(t, os.Symlink(victim, filepath.Join(dir, livePrefix+"1")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, livePrefix+"2"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, livePrefix+"3"), 0o700))
	l := newLocker(t, dir, nil)
	require.NoError(t, os.Link(victim, l.keyPath("linked")))
	require.NoError(t, syscall.Mkfifo(l.keyPath("pipe"), 0o600))
	release(t, acquire(t, l, "k", long))
	require.Equal(t, 4, l.life.Slot)
	for _, key := range []string{"linked", "pipe"} {
		_, err := l.TryAcquire(t.Context(), key, long)
		require.Error(t, err)
		require.ErrorContains(t, err, l.keyPath(key))
		_, err = l.Inspect(t.Context(), key)
		require.Error(t, err)
	}
	content, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "precious", string(content))
	uid, _, mode := stat(t, victim)
	require.Equal(t, 0, uid)
	require.Equal(t, os.FileMode(0o600), mode)
}

func TestWhoMayNotLookIsToldWhatIsMissing(t *testing.T) {
	needRoot(t)
	for _, mode := range []os.FileMode{0o755, 0o700} {
		dir := dirOf(t, alice, lockers, mode)
		acquire(t, newLocker(t, dir, nil), "k", long)
		as(t, alice, nil, "lock", dir, "a", "b")
		said := as(t, stranger, nil, "look", dir)
		lines := strings.Split(strings.TrimSpace(said), "\n")
		require.Len(t, lines, 3, "inspect, list and health say it once each:\n%s", said)
		info, err := os.Stat(dir)
		require.NoError(t, err)
		for _, line := range lines {
			require.Contains(t, line, "lock: refused by the store")
			require.Contains(t, line, "permission denied (user 61003 may not write to this directory, which is user 61001's and group 61000's, "+info.Mode().String())
		}
		said = as(t, stranger, nil, "lock", dir, "k")
		require.Contains(t, said, "refused by the store")
		require.Contains(t, said, "user 61003 may not write to this directory")
		require.Contains(t, as(t, alice, nil, "look", dir), "list: k <nil>\n")
	}
}

// The right that is missing may be one to a directory above.
func TestWhoMayNotReachTheDirectoryIsToldWhatIsMissingWhere(t *testing.T) {
	needRoot(t)
	home := dirOf(t, alice, alice, 0o700)
	dir := filepath.Join(home, "deep", "locks")
	said := func(verb, dir string) string {
		t.Helper()
		out := as(t, stranger, nil, verb, dir, "k")
		require.Contains(t, out, "refused by the store")
		return out
	}
	owner := "which is user 61001's and group 61001's, "
	for _, verb := range []string{"lock", "look"} {
		require.Contains(t, said(verb, dir), "(user 61003 may not search the directory "+home+", "+owner+"drwx------: let that user search it, or name a directory elsewhere)")
	}
	require.NoError(t, os.Chmod(home, 0o755))
	require.Contains(t, said("lock", dir), "(user 61003 may not make a directory in "+home+", "+owner+"drwxr-xr-x: make "+filepath.Join(home, "deep")+" as a user who may, and give it to user 61003")

	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.Chown(dir, alice, stranger))
	for mode, want := range map[os.FileMode]string{0o720: "search", 0o750: "write to"} {
		require.NoError(t, os.Chmod(dir, mode))
		require.Contains(t, said("lock", dir), "(user 61003 may not "+want+" this directory, which is user 61001's and group 61003's, ")
	}
	require.NoError(t, os.Chmod(dir, 0o730))
	require.Contains(t, said("look", dir), "(user 61003 may not read this directory, which is user 61001's and group 61003's, drwx-wx---; only those who may can use its locks, or look at them: run as one of them")
}
