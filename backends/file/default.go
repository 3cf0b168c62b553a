//go:build linux || darwin || freebsd

package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/tonsurance/lockkeeper/lock"
)

// DefaultDir is the directory of locks for a program whose user named none. It makes
// it if it is not there, for this user only. It serves one user on one machine: name a
// directory where locks are to hold between users, or from one login to the next.
//
// It is the first of these:
//
//   - $XDG_RUNTIME_DIR/lockkeeper, if the directory above is this user's and nobody else
//     can write to it. On Linux /run/user/<uid> is tried where that variable is not set
//     (cron, sudo). The system removes it some time after the user's last logout.
//   - lockkeeper-<uid> in the directory for temporary files ([os.TempDir]).
//
// An error matching [lock.ErrRefused] names what can't be used: a directory that another
// user made, a symbolic link, or a place where others could put another directory in its
// stead. The owner of a directory can break every lock in it. The error matches
// [lock.ErrInvalid] where the system has no support (Windows).
func DefaultDir() (string, error) {
	uid := os.Geteuid()
	runtimeDir := os.Getenv("XDG_RUNTIME_DIR")
	if runtimeDir == "" && runtime.GOOS == "linux" {
		runtimeDir = "/run/user/" + strconv.Itoa(uid)
	}
	// Another user's, from an environment that was taken along (sudo -E), is passed
	// over, so that root's default is the same with it and without.
	parent, err := safePlace(runtimeDir, uid)
	name := "lockkeeper"
	if err != nil || !ownedBy(parent, uid) {
		name = fmt.Sprintf("lockkeeper-%d", uid)
		parent, err = filepath.Abs(os.TempDir())
		if err == nil {
			parent, err = safePlace(parent, uid)
		}
		if err != nil {
			return "", fmt.Errorf("file: the default directory %s: %w", filepath.Join(os.TempDir(), name), err)
		}
	}
	dir := filepath.Join(parent, name)
	if err := ownDir(dir, uid); err != nil {
		return "", fmt.Errorf("file: the default directory %s: %w", dir, err)
	}
	return dir, nil
}

func ownedBy(dir string, uid int) bool {
	var stat syscall.Stat_t
	return syscall.Lstat(dir, &stat) == nil && int(stat.Uid) == uid
}

// ownDir makes dir, or finds it as uid's own. It is in a safe place, so that nobody else
// can replace it afterwards.
func ownDir(dir string, uid int) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %w", kindOf(err), err)
	}
	var stat syscall.Stat_t
	if err := syscall.Lstat(dir, &stat); err != nil {
		return fmt.Errorf("%w: %w", kindOf(err), err)
	}
	switch {
	case stat.Mode&syscall.S_IFMT == syscall.S_IFLNK:
		return fmt.Errorf("%w: it is a symbolic link, want a directory: remove it, or name another directory", lock.ErrRefused)
	case stat.Mode&syscall.S_IFMT != syscall.S_IFDIR:
		return fmt.Errorf("%w: it is no directory: remove it, or name another directory", lock.ErrRefused)
	case int(stat.Uid) != uid:
		return fmt.Errorf("%w: it belongs to user %d, who could break every lock in it, and this is user %d: remove it, or name another directory",
			lock.ErrRefused, stat.Uid, uid)
	}
	return nil
}

// maxLinks is how many symbolic links a path may lead through, as in the kernel.
const maxLinks = 40

// safePlace follows path, which is absolute, and wants that nobody but uid and root can
// put anything else in the place of what it leads to: each directory and each symbolic
// link on the way is theirs, and where others may write, the sticky bit keeps them from
// renaming.
func safePlace(path string, uid int) (real string, err error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%w: %q is no absolute path", lock.ErrRefused, path)
	}
	real = "/"
	rest := strings.Split(filepath.Clean(path), "/")[1:]
	for links := 0; ; {
		var stat syscall.Stat_t
		if err := syscall.Lstat(real, &stat); err != nil {
			return "", fmt.Errorf("%w: %s: %w", kindOf(err), real, err)
		}
		if owner := int(stat.Uid); owner != 0 && owner != uid {
			return "", fmt.Errorf("%w: %s belongs to user %d, who could replace what is in it, and this is user %d: name another directory",
				lock.ErrRefused, real, owner, uid)
		}
		switch stat.Mode & syscall.S_IFMT {
		case syscall.S_IFLNK:
			if links++; links > maxLinks {
				return "", fmt.Errorf("%w: %s: %w", lock.ErrRefused, real, syscall.ELOOP)
			}
			to, err := os.Readlink(real)
			if err != nil {
				return "", fmt.Errorf("%w: %w", kindOf(err), err)
			}
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir(real), to)
			}
			real, rest = "/", append(strings.Split(filepath.Clean(to), "/")[1:], rest...)
			continue
		case syscall.S_IFDIR:
			group := stat.Mode&0o020 != 0 && stat.Gid != 0 && int(stat.Gid) != os.Getegid()
			if stat.Mode&syscall.S_ISVTX == 0 && (stat.Mode&0o002 != 0 || group) {
				return "", fmt.Errorf("%w: others can replace what is in %s (%v): chmod +t mends that, or name another directory",
					lock.ErrRefused, real, permissions(&stat))
			}
		default:
			return "", fmt.Errorf("%w: %s: %w", lock.ErrRefused, real, syscall.ENOTDIR)
		}
		for len(rest) > 0 && rest[0] == "" {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return real, nil
		}
		real, rest = filepath.Join(real, rest[0]), rest[1:]
	}
}
