//go:build linux || darwin || freebsd

package file

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Names in the directory.
const (
	keyPrefix  = "key."  // + SHA-256 of the key: a record. Deleted under its lock only.
	livePrefix = "live." // + number: a Locker's sign of life. Never deleted.
	newPrefix  = "new."  // + random: a record before it has its name
	floorName  = "floor" // a record of no key: no new file's tokens begin below its own
)

func (l *Locker) keyPath(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(l.dir, keyPrefix+hex.EncodeToString(sum[:]))
}

// keyFile is a key's open file.
type keyFile struct {
	l      *Locker
	key    string
	path   string
	fd     int
	locked bool
	look   bool // open for reading only
}

var errNoFile = errors.New("no record")

// open opens key's file. The error matches errNoFile if there is none.
func (l *Locker) open(key string) (*keyFile, error) { return l.openAt(l.keyPath(key), key, false) }

// openAt is open for a path. To look takes no right to write to the file: it may be on
// a file system that is mounted read-only. The key is empty if it is not known.
func (l *Locker) openAt(path, key string, look bool) (*keyFile, error) {
	f := &keyFile{l: l, key: key, path: path, look: look}
	flags := syscall.O_RDWR
	if look {
		flags = syscall.O_RDONLY
	}
	var err error
	if f.fd, err = open(path, flags, 0); err != nil {
		// A directory that is gone (unmounted, say) says nothing about the key.
		if err == syscall.ENOENT && isDir(l.dir) {
			return nil, errNoFile
		}
		return nil, f.failed(err)
	}
	return f, nil
}

// openOrCreate is open for those who want to write.
func (l *Locker) openOrCreate(key string) (*keyFile, error) {
	for {
		f, err := l.open(key)
		if err != errNoFile {
			return f, err
		}
		if err := l.create(key); err != nil {
			return nil, err
		}
	}
}

// create makes key's file with a free record.
func (l *Locker) create(key string) error {
	// A counter that is not there may have been deleted. Above the microseconds
	// of the wall clock it starts higher than it ever was, unless the clock was
	// set back: no more than one token a microsecond is ever handed out.
	first := uint64(max(0, time.Now().UnixMicro()))
	err := l.createAt(l.keyPath(key), record{Version: version, Key: key, Token: first, Reserved: first + reserve, Boot: l.boot})
	if err == nil {
		l.tidySoon()
	}
	return err
}

// createAt makes a file with a record, whole and on the disk from its first moment.
// Somebody else may do the same at the same time: one wins.
func (l *Locker) createAt(path string, r record) error {
	f := &keyFile{l: l, key: r.Key, path: path}
	buf := make([]byte, 0, fileSize)
	for _, r.seq = range []uint64{2, 1} { // each slot has the numbers of its parity
		var err error
		if buf, err = appendSlot(buf, &r); err != nil {
			return f.failed(err)
		}
	}
	temp := filepath.Join(l.dir, newPrefix+rand.Text())
	fd, err := openFile(temp, syscall.O_CREAT|syscall.O_EXCL, 0o600)
	if err != nil {
		return f.failed(err)
	}
	defer func() {
		syscall.Close(fd)
		syscall.Unlink(temp)
	}()
	l.overwriteInPlace(fd)
	if err := errors.Join(l.give(fd), pwrite(fd, buf, 0), fsync(fd)); err != nil {
		return f.failed(err)
	}
	err = syscall.Link(temp, path)
	if err == syscall.EEXIST || err == syscall.ENOENT { // lost the race, or was swept
		return nil
	}
	if err != nil {
		return f.failed(err)
	}
	return syncDir(l.dir)
}

// lock takes the file's kernel lock, which is held for a few system calls only.
// It is asked for again and again rather than waited for: a process that is
// stopped while it has the lock keeps it, and nothing ends a flock that blocks.
// With the lock held, the file is still the one of that name: a process that deletes it
// has its lock meanwhile.
func (f *keyFile) lock(ctx context.Context) error {
	deadline := time.Now().Add(f.l.opts.LockTimeout)
	pause := 20 * time.Microsecond
	for {
		err := flock(f.fd, f.how())
		if err == nil {
			f.locked = true
			return f.verify()
		}
		if err != syscall.EWOULDBLOCK {
			return f.failed(err)
		}
		if !time.Now().Before(deadline) {
			return fmt.Errorf("%w: %s: another process is changing it since %v%s",
				lock.ErrUnavailable, f.path, f.l.opts.LockTimeout, lockedBy(f.fd))
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ended(ctx)
		}
		pause = min(2*pause, 2*time.Millisecond)
	}
}

// how: those who only look don't keep each other waiting.
func (f *keyFile) how() int {
	if f.look {
		return syscall.LOCK_SH
	}
	return syscall.LOCK_EX
}

// verify finds out whether somebody deleted the file, or put another in its place.
func (f *keyFile) verify() error {
	var opened, named syscall.Stat_t
	if err := syscall.Fstat(f.fd, &opened); err != nil {
		return f.failed(err)
	}
	if err := syscall.Stat(f.path, &named); err == syscall.ENOENT && isDir(f.l.dir) {
		return errNoFile
	} else if err != nil {
		return f.failed(err)
	}
	if opened.Dev != named.Dev || opened.Ino != named.Ino {
		return errNoFile
	}
	if !f.look && f.l.astray(&opened) && private(&opened) {
		_ = f.l.give(f.fd) // if it fails, the error of those who can't open it says why
	}
	return nil
}

// close ends the lock too. It says so to the kernel: a child between its fork
// and its exec has a copy of fd for a moment, which would keep the lock.
func (f *keyFile) close() {
	if f.locked {
		flock(f.fd, syscall.LOCK_UN)
	}
	syscall.Close(f.fd)
}

func (f *keyFile) read() (record, error) {
	r, err := readRecord(f.fd, f.l.boot)
	if err != nil {
		if errors.Is(err, errDamaged) {
			err = fmt.Errorf("%w; nobody can say who holds the key: delete the file once no program uses it", err)
		}
		return r, f.failed(err)
	}
	if r.Key != f.key && f.key != "" {
		return r, f.failed(fmt.Errorf("record is of another key, %q", r.Key))
	}
	return r, nil
}

func (f *keyFile) write(r *record) error {
	if err := writeRecord(f.fd, r); err != nil {
		return f.failed(err)
	}
	return nil
}

func (f *keyFile) failed(err error) error { return f.l.failed(f.path, err) }

func (l *Locker) failed(path string, err error) error {
	kind, rights := kindOf(err), ""
	if kind == lock.ErrRefused {
		rights = l.rights(path)
	}
	return fmt.Errorf("%w: %s: %w%s", kind, path, err, rights)
}

func openFile(path string, flags int, mode uint32) (int, error) {
	return open(path, syscall.O_RDWR|flags, mode)
}

// openRead is for those who only look: closing what was open for writing notifies others
// to all who watch the file.
func openRead(path string) (int, error) { return open(path, syscall.O_RDONLY, 0) }

func open(path string, flags int, mode uint32) (int, error) {
	for {
		// Close-on-exec: a lock belongs to the open file, and a child would keep it.
		// Non-blocking: whatever else bears the name, a pipe say, keeps nobody waiting.
		fd, err := syscall.Open(path, syscall.O_CLOEXEC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|flags, mode)
		if err != syscall.EINTR {
			return fd, err
		}
	}
}

func flock(fd, how int) error {
	for {
		if err := syscall.Flock(fd, how|syscall.LOCK_NB); err != syscall.EINTR {
			return err
		}
	}
}
