//go:build linux || darwin || freebsd

package file

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// places sets the environment that DefaultDir goes by. runtimeDir is this user's.
func places(t *testing.T) (runtimeDir, tempDir string) {
	t.Helper()
	base, err := filepath.EvalSymlinks(publicDir(t))
	require.NoError(t, err)
	runtimeDir, tempDir = filepath.Join(base, "run"), filepath.Join(base, "tmp")
	require.NoError(t, os.Mkdir(runtimeDir, 0o700))
	require.NoError(t, os.Mkdir(tempDir, 0o700))
	require.NoError(t, os.Chmod(tempDir, 0o777|os.ModeSticky))
	t.Setenv("XDG_RUNTIME_DIR", runtimeDir)
	t.Setenv("TMPDIR", tempDir)
	return runtimeDir, tempDir
}

// without makes DefaultDir use the directory for temporary files.
func without(t *testing.T, tempDir string) (dir string) {
	t.Setenv("XDG_RUNTIME_DIR", "none")
	return filepath.Join(tempDir, fmt.Sprintf("lockkeeper-%d", os.Getuid()))
}

func TestTheDefaultDirectoryIsTheUsersOwn(t *testing.T) {
	runtimeDir, tempDir := places(t)
	dir, err := DefaultDir()
	require.NoError(t, err)
	require.Equal(t, filepath.Join(runtimeDir, "lockkeeper"), dir)
	own := without(t, tempDir)
	for range 2 { // made, and found again
		dir, err = DefaultDir()
		require.NoError(t, err)
		require.Equal(t, own, dir)
	}
	_, _, mode := stat(t, dir)
	require.Equal(t, os.FileMode(0o700), mode)
	release(t, acquire(t, newLocker(t, dir, nil), "k", long))

	for name, set := range map[string]string{"relative": "run", "not there": runtimeDir + "/none", "no directory": "/dev/null"} {
		t.Setenv("XDG_RUNTIME_DIR", set)
		dir, err = DefaultDir()
		require.NoError(t, err, name)
		require.Equal(t, own, dir, name)
	}
	link := filepath.Join(filepath.Dir(tempDir), "link")
	require.NoError(t, os.Symlink("tmp", link))
	t.Setenv("TMPDIR", link)
	dir, err = DefaultDir()
	require.NoError(t, err)
	require.Equal(t, own, dir, "two names for one place are one directory")
}

func TestADefaultDirectoryThatOthersCouldBreakIsRefused(t *testing.T) {
	chown := func(t *testing.T, path string, uid int) {
		needRoot(t)
		require.NoError(t, os.Lchown(path, uid, uid))
	}
	for name, c := range map[string]struct {
		prepare func(t *testing.T, tempDir, dir string)
		says    string
	}{
		"a stranger made it": {func(t *testing.T, tempDir, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o777))
			chown(t, dir, stranger)
		}, "belongs to user 61003, who could break every lock in it"},
		"a link": {func(t *testing.T, tempDir, dir string) {
			require.NoError(t, os.Symlink(t.TempDir(), dir))
		}, "it is a symbolic link"},
		"a link that leads nowhere": {func(t *testing.T, tempDir, dir string) {
			require.NoError(t, os.Symlink("nowhere", dir))
		}, "it is a symbolic link"},
		"a file": {func(t *testing.T, tempDir, dir string) {
			require.NoError(t, os.WriteFile(dir, nil, 0o600))
		}, "it is no directory"},
		"everybody can rename it": {func(t *testing.T, tempDir, dir string) {
			require.NoError(t, os.Chmod(tempDir, 0o777))
		}, "others can replace what is in"},
		"another group can rename it": {func(t *testing.T, tempDir, dir string) {
			chown(t, tempDir, lockers)
			require.NoError(t, os.Lchown(tempDir, 0, lockers))
			require.NoError(t, os.Chmod(tempDir, 0o770))
		}, "others can replace what is in"},
		"it is in a stranger's directory": {func(t *testing.T, tempDir, dir string) {
			chown(t, tempDir, stranger)
		}, "belongs to user 61003, who could replace what is in it"},
		"a stranger's link leads to it": {func(t *testing.T, tempDir, dir string) {
			link := filepath.Join(tempDir, "link")
			require.NoError(t, os.Symlink(t.TempDir(), link))
			chown(t, link, stranger)
			t.Setenv("TMPDIR", link)
		}, "link belongs to user 61003"},
		"a link to itself": {func(t *testing.T, tempDir, dir string) {
			link := filepath.Join(tempDir, "link")
			require.NoError(t, os.Symlink("link", link))
			t.Setenv("TMPDIR", link)
		}, "too many levels of symbolic links"},
		"there is none": {func(t *testing.T, tempDir, dir string) {
			require.NoError(t, os.Remove(tempDir))
		}, "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, tempDir := places(t)
			dir := without(t, tempDir)
			c.prepare(t, tempDir, dir)
			_, err := DefaultDir()
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, filepath.Base(dir))
			if name != "there is none" { // it may be made yet
				require.ErrorIs(t, err, lock.ErrRefused)
			}
		})
	}
}

// The directory of the user who called sudo is no place for root's locks; and the user's own
// default is not lost by what somebody else has set.
func TestAnotherUsersRuntimeDirectoryIsPassedOver(t *testing.T) {
	needRoot(t)
	runtimeDir, tempDir := places(t)
	require.NoError(t, os.Chown(runtimeDir, alice, alice))
	dir, err := DefaultDir()
	require.NoError(t, err)
	require.Equal(t, filepath.Join(tempDir, "lockkeeper-0"), dir)
	require.Equal(t, filepath.Join(runtimeDir, "lockkeeper")+" <nil>\n", as(t, alice, nil, "default", "-"))
	require.Equal(t, filepath.Join(tempDir, "lockkeeper-61002")+" <nil>\n", as(t, bob, nil, "default", "-"))
}
