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
	keyPrefix  = "key."  // + SHA-256 of the key: a record. Never deleted.
	livePrefix = "live." // + number: a Locker's sign of life. Never deleted.
	newPrefix  = "new."  // + random: a record before it has its name
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
}

var errNoFile = errors.New("no record")

// open opens key's file. The error matches errNoFile if there is none.
func (l *Locker) open(key string) (*keyFile, error) {
	f := &keyFile{l: l, key: key, path: l.keyPath(key)}
	var err error
	if f.fd, err = openFile(f.path, 0, 0); err != nil {
		// A directory that is gone (unmounted, say) tells nothing of the key.
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

// create makes key's file with a free record, whole and on the disk from its
// first moment. Somebody else may do the same at the same time: one wins.
func (l *Locker) create(key string) error {
	f := &keyFile{l: l, key: key, path: l.keyPath(key)}
	// A counter that is not there may have been deleted. Above the microseconds
	// of the wall clock it starts higher than it ever was, unless the clock was
	// set back: no more than one token a microsecond is ever handed out.
	first := uint64(max(0, time.Now().UnixMicro()))
	r := record{Version: version, Key: key, Token: first, Reserved: first + reserve, Boot: l.boot}
	buf := make([]byte, 0, fileSize)
	for _, r.seq = range []uint64{2, 1} { // each slot has the numbers of its parity
		var err error
		if buf, err = appendSlot(buf, &r); err != nil {
			return f.failed(err)
		}
	}

	temp := filepath.Join(l.dir, newPrefix+rand.Text())
	fd, err := openFile(temp, syscall.O_CREAT|syscall.O_EXCL, l.mode)
	if err != nil {
		return f.failed(err)
	}
	defer func() {
		syscall.Close(fd)
		syscall.Unlink(temp)
	}()
	if err := errors.Join(syscall.Fchmod(fd, l.mode), pwrite(fd, buf, 0), fsync(fd)); err != nil {
		return f.failed(err)
	}
	err = syscall.Link(temp, f.path)
	if err == syscall.EEXIST || err == syscall.ENOENT { // lost the race, or was swept
		return nil
	}
	if err != nil {
		return f.failed(err)
	}
	return syncDir(l.dir)
}

func isDir(path string) bool {
	var stat syscall.Stat_t
	return syscall.Stat(path, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFDIR
}

func syncDir(dir string) error {
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", lock.ErrUnavailable, dir, err)
	}
	defer syscall.Close(fd)
	if err := fsync(fd); err != nil {
		return fmt.Errorf("%w: %s: %w", lock.ErrUnavailable, dir, err)
	}
	return nil
}

// lock takes the file's kernel lock, which is held for a few system calls only.
// It is asked for again and again rather than waited for: a process that is
// stopped while it has the lock keeps it, and nothing ends a flock that blocks.
// With the lock held, the file is still the one of that name.
func (f *keyFile) lock(ctx context.Context) error {
	deadline := time.Now().Add(f.l.opts.LockTimeout)
	pause := 20 * time.Microsecond
	for {
		err := flock(f.fd, syscall.LOCK_EX)
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

// verify finds out whether somebody deleted the file, or put another in its
// place. A Locker never does.
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
	if r.Key != f.key {
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

func (f *keyFile) failed(err error) error {
	return fmt.Errorf("%w: %s: %w", lock.ErrUnavailable, f.path, err)
}

func openFile(path string, flags int, mode uint32) (int, error) {
	return open(path, syscall.O_RDWR|flags, mode)
}

// openRead is for those who only look: closing what was open for writing is news
// to all who watch the file.
func openRead(path string) (int, error) { return open(path, syscall.O_RDONLY, 0) }

func open(path string, flags int, mode uint32) (int, error) {
	for {
		// Close-on-exec: a lock belongs to the open file, and a child would keep it.
		fd, err := syscall.Open(path, syscall.O_CLOEXEC|syscall.O_NOFOLLOW|flags, mode)
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
