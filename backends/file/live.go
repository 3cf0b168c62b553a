//go:build linux || darwin || freebsd

package file

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/tonsurance/lockkeeper/lock"
)

// life names a Locker's sign of life: a file on which it keeps a kernel lock for
// as long as it has leases to keep, and which the kernel lets go of when the
// process ends, however it ends. Records name it.
//
// The files are numbered, taken lowest first and never deleted: there are as
// many as there were Lockers at the same time. Whoever takes one writes an ID of
// its own into it, so that a record which names an earlier taker is not mistaken.
type life struct {
	Slot  int    `json:"slot"`
	Inode uint64 `json:"inode"` // tells that the file was deleted and made again
	ID    string `json:"id"`
}

const (
	maxSlots = 1 << 16
	idLen    = 26 // of rand.Text
)

func (l *Locker) livePath(slot int) string {
	return filepath.Join(l.dir, livePrefix+strconv.Itoa(slot))
}

// live returns this Locker's sign of life, taking one at first use, and counts
// one more hold on it.
func (l *Locker) live() (life, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return life{}, lock.ErrClosed
	}
	if l.liveFD < 0 {
		if err := l.takeSlot(); err != nil {
			return life{}, err
		}
	}
	l.holds++
	return l.life, nil
}

// unlive takes back one hold.
func (l *Locker) unlive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holds--
	l.dropSlot()
}

// dropSlot lets go of the slot once it is not needed any more. mu is held.
func (l *Locker) dropSlot() {
	if !l.closed || l.holds > 0 || l.liveFD < 0 {
		return
	}
	flock(l.liveFD, syscall.LOCK_UN)
	syscall.Close(l.liveFD)
	l.liveFD = -1
}

func (l *Locker) takeSlot() error {
	for slot := range maxSlots {
		path := l.livePath(slot)
		fd, err := openFile(path, syscall.O_CREAT, l.mode)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", lock.ErrUnavailable, path, err)
		}
		var stat syscall.Stat_t
		err = flock(fd, syscall.LOCK_EX)
		if err == nil {
			err = syscall.Fstat(fd, &stat)
		}
		id := rand.Text()
		if err == nil {
			syscall.Fchmod(fd, l.mode) // fails on a file of another user, whose mode is right
			err = pwrite(fd, []byte(id+" "+l.opts.Owner+"\n"), 0)
		}
		if err == nil {
			l.liveFD = fd
			l.life = life{Slot: slot, Inode: uint64(stat.Ino), ID: id}
			return nil
		}
		syscall.Close(fd)
		if err != syscall.EWOULDBLOCK { // else another's, or one is just looking at it
			return fmt.Errorf("%w: %s: %w", lock.ErrUnavailable, path, err)
		}
	}
	return fmt.Errorf("%w: %s: all %d signs of life are taken", lock.ErrUnavailable, l.dir, maxSlots)
}

// dead reports whether the Locker of that life has certainly ended. Where that
// can't be told the answer is no: the hold ends by its expiry.
func (l *Locker) dead(of life) bool {
	fd, err := openRead(l.livePath(of.Slot))
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil || uint64(stat.Ino) != of.Inode {
		return false
	}
	// Shared, so that two who ask don't take each other for a holder.
	switch err := flock(fd, syscall.LOCK_SH); err {
	case nil:
		flock(fd, syscall.LOCK_UN)
		return true
	case syscall.EWOULDBLOCK:
		var id [idLen]byte
		n, err := pread(fd, id[:], 0)
		return err == nil && n == idLen && string(id[:]) != of.ID
	default:
		return false
	}
}
