//go:build linux || darwin || freebsd

package file

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// rights says after an error who may not do what, where, and what mends it: with a directory
// above, with the directory itself, or with the file at path, if there is one. "" where no
// right is missing.
func (l *Locker) rights(path string) string {
	me := os.Geteuid()
	chain := fromRoot(l.dir)
	for i, next := range chain[min(1, len(chain)):] {
		up := chain[i]
		if lacks(up, unix.X_OK) {
			return fmt.Sprintf(" (user %d may not search the directory %s, which is %s: let that user search it, or name a directory elsewhere)",
				me, up, whose(up))
		}
		if exists(next) {
			continue
		}
		if !lacks(up, unix.W_OK) {
			return ""
		}
		return fmt.Sprintf(" (user %d may not make a directory in %s, which is %s: make %s as a user who may, and give it to user %[1]d or, for several users, a common group and mode 2770; or name a directory elsewhere)",
			me, up, whose(up), next)
	}
	for _, right := range []struct {
		mode uint32
		what string
	}{{unix.W_OK, "write to"}, {unix.X_OK, "search"}, {unix.R_OK, "read"}} {
		if lacks(l.dir, right.mode) {
			return fmt.Sprintf(" (user %d may not %s this directory, which is %s; only those who may can use its locks, or look at them: run as one of them, or, for several users, give it a common group and mode 2770)",
				me, right.what, whose(l.dir))
		}
	}
	if path == "" || !exists(path) || !lacks(path, unix.R_OK|unix.W_OK) {
		return ""
	}
	return fmt.Sprintf(" (the file is %s, and user %d asked; the directory is %s: give it the same owner and group)",
		whose(path), me, whose(l.dir))
}

// fromRoot is each directory on the way to dir, from the root on, and dir itself.
func fromRoot(dir string) (all []string) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	for {
		all = append(all, dir)
		up := filepath.Dir(dir)
		if up == dir {
			slices.Reverse(all)
			return all
		}
		dir = up
	}
}

// lacks reports whether this user has not all rights in mode to what is at path.
func lacks(path string, mode uint32) bool {
	return unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS) == unix.EACCES
}

func exists(path string) bool {
	var stat syscall.Stat_t
	return syscall.Lstat(path, &stat) == nil
}

func whose(path string) string {
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		return "of an owner that is not known"
	}
	return fmt.Sprintf("user %d's and group %d's, %v", stat.Uid, stat.Gid, permissions(&stat))
}
