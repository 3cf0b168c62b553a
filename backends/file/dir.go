//go:build linux || darwin || freebsd

package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tonsurance/lockkeeper/internal/filesystem"
	"github.com/tonsurance/lockkeeper/internal/machineclock"
	"github.com/tonsurance/lockkeeper/lock"
)

// kindOf is what an error of the file system means to those who wait for a lock. What
// a change of permissions, mounts or names has to mend is no outage.
func kindOf(err error) error {
	for _, final := range []syscall.Errno{
		syscall.EACCES, syscall.EPERM, syscall.EROFS,
		syscall.ENOTDIR, syscall.ELOOP, syscall.EISDIR, syscall.ENAMETOOLONG,
	} {
		if errors.Is(err, final) {
			return lock.ErrRefused
		}
	}
	return lock.ErrUnavailable
}

// owners are whose the files in the directory are to be, and who may use them.
type owners struct {
	uid, gid int    // the directory's
	mode     uint32 // of files
}

// ownersOf a directory: its files are open to those who may write to it, for reading
// too. A user who can open a file can keep a kernel lock on it, and so delay its users or
// look like a holder that died.
func ownersOf(dir *syscall.Stat_t) owners {
	o := owners{uid: int(dir.Uid), gid: int(dir.Gid), mode: 0o600}
	if dir.Mode&0o020 != 0 {
		o.mode |= 0o060
	}
	return o
}

// prepare makes the directory, unless l is only for looking, and checks that it can
// be used.
func (l *Locker) prepare() error {
	if !l.opts.Lazy {
		if err := makeDir(l.dir); err != nil {
			return fmt.Errorf("%w: %w%s", kindOf(err), err, l.rights(""))
		}
	}
	var stat syscall.Stat_t
	if err := syscall.Stat(l.dir, &stat); err != nil {
		return fmt.Errorf("%w: %w%s", kindOf(err), err, l.rights(""))
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return fmt.Errorf("%w: %w", lock.ErrRefused, syscall.ENOTDIR)
	}
	if stat.Mode&0o002 != 0 {
		return fmt.Errorf("%w: everybody can write to this directory (%v), want one for its users only, such as a new one inside it",
			lock.ErrInvalid, permissions(&stat))
	}
	l.owners = ownersOf(&stat)
	var err error
	if l.fs, l.ok, _, err = filesystem.Of(l.dir); err != nil {
		return fmt.Errorf("%w: statfs: %w", kindOf(err), err)
	}
	if !l.ok && !l.opts.TrustFileSystem {
		return fmt.Errorf("%w: its file system is %s, want a local one, where kernel locks can be relied on (Options.TrustFileSystem accepts it)",
			lock.ErrInvalid, l.fs)
	}
	if l.clock, err = machineclock.New(); err != nil {
		return fmt.Errorf("%w: no clock common to all processes: %w", lock.ErrInvalid, err)
	}
	if l.boot, err = machineclock.BootID(); err != nil || l.boot == "" {
		return fmt.Errorf("%w: the system can't distinguish one boot from the next: %w", lock.ErrInvalid, err)
	}
	if l.opts.Lazy {
		return nil
	}
	if err := unix.Faccessat(unix.AT_FDCWD, l.dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%w: %w%s", kindOf(err), err, l.rights(""))
	}
	l.tidyNow()
	return nil
}

// makeDir makes dir and what is missing above it, for its user only. What root makes
// belongs to the owner of the directory that it is made in, who could not use it
// otherwise, and can do there what he likes anyway.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if up := filepath.Dir(dir); up != dir {
			if err := makeDir(up); err != nil {
				return err
			}
			err = os.Mkdir(dir, 0o700)
		}
	}
	switch {
	case err == nil && os.Geteuid() == 0:
		return giveDir(dir)
	case errors.Is(err, fs.ErrExist) || isDir(dir):
		return nil // what it is, and what may be done there, is found out later
	}
	return err
}

func giveDir(dir string) error {
	var up syscall.Stat_t
	if err := syscall.Stat(filepath.Dir(dir), &up); err != nil {
		return err
	}
	if up.Uid == 0 || up.Mode&0o002 != 0 {
		return nil
	}
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return ignoreUnsupported(syscall.Fchown(fd, int(up.Uid), int(up.Gid)))
}

// ignoreUnsupported: not every file system knows owners, and not every root may give
// files away (in a user namespace). What it makes can be used by itself then.
func ignoreUnsupported(err error) error {
	switch err {
	case syscall.EPERM, syscall.EINVAL, syscall.ENOSYS, syscall.ENOTSUP:
		return nil
	}
	return err
}

// give makes an open file what all files in the directory are: usable by those who may
// write to the directory now, no matter who made it, and by nobody else.
func (l *Locker) give(fd int) error {
	o := l.owners
	var dir syscall.Stat_t
	if syscall.Stat(l.dir, &dir) == nil { // its mode may have been changed since New
		o = ownersOf(&dir)
	}
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return err
	}
	uid, gid := int(stat.Uid), int(stat.Gid)
	if os.Geteuid() == 0 {
		uid, gid = o.uid, o.gid
	}
	if o.mode&0o060 != 0 {
		gid = o.gid
	}
	// Only what differs: each change is reported to those who watch the file.
	if uid != int(stat.Uid) || gid != int(stat.Gid) {
		if err := ignoreUnsupported(syscall.Fchown(fd, uid, gid)); err != nil {
			return err
		}
		if err := syscall.Fstat(fd, &stat); err != nil {
			return err
		}
	}
	if int(stat.Gid) != o.gid {
		o.mode &^= 0o060 // another group's members may not write to the directory
	}
	if uint32(stat.Mode)&0o777 == o.mode {
		return nil
	}
	return syscall.Fchmod(fd, o.mode)
}

// astray reports whether a file is not what give makes of it: one of an earlier version,
// made by root then, or from before the directory's mode was changed.
func (l *Locker) astray(stat *syscall.Stat_t) bool {
	mode, ours := uint32(stat.Mode)&0o777, int(stat.Gid) == l.owners.gid
	switch os.Geteuid() {
	case 0:
		if int(stat.Uid) != l.owners.uid || !ours {
			return true
		}
	case int(stat.Uid):
	default:
		return false // it can't be changed
	}
	// Without its group it may be 0600 because that is all that give could do.
	return mode&^l.owners.mode != 0 || ours && mode != l.owners.mode || !ours && mode&0o060 != 0
}

// private reports whether an open file is a plain one under one name: nothing else is
// written to, or given away, where somebody has put it in the directory.
func private(stat *syscall.Stat_t) bool {
	return stat.Mode&syscall.S_IFMT == syscall.S_IFREG && stat.Nlink == 1
}

func permissions(stat *syscall.Stat_t) fs.FileMode {
	mode := fs.FileMode(stat.Mode & 0o777)
	if stat.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		mode |= fs.ModeDir
	}
	if stat.Mode&syscall.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if stat.Mode&syscall.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

func isDir(path string) bool {
	var stat syscall.Stat_t
	return syscall.Stat(path, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFDIR
}

func syncDir(dir string) error {
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err == nil {
		err = fsync(fd)
		syscall.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", kindOf(err), dir, err)
	}
	return nil
}

// writable tries whether files can be made.
func (l *Locker) writable() error {
	f, err := os.CreateTemp(l.dir, newPrefix)
	if err != nil {
		return fmt.Errorf("%w: %w%s", kindOf(err), err, l.rights(""))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
