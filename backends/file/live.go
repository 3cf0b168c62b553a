//go:build linux || darwin || freebsd

package file

import (
	"crypto/rand"
	"errors"
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
// many as there were Lockers at the same time. A Locker that takes one writes an ID of
// its own into it, so that a record which names an earlier taker is not mistaken.
type life struct {
	Slot  int    `json:"slot"`
	Inode uint64 `json:"inode"` // shows that the file was deleted and made again
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

// dropHold takes back one hold.
func (l *Locker) dropHold() {
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

// takeSlot takes the lowest sign of life that can be had. A file that can't be opened,
// or that is no plain one, is passed over: one mistake must not end everything else.
func (l *Locker) takeSlot() error {
	for slot := range maxSlots {
		path := l.livePath(slot)
		fd, err := openFile(path, 0, 0)
		if err == syscall.ENOENT {
			if fd, err = openFile(path, syscall.O_CREAT|syscall.O_EXCL, 0o600); err != nil && err != syscall.EEXIST {
				return l.failed(path, err) // the same for each slot that is not there
			}
		}
		if err != nil {
			continue
		}
		of, err := l.takeLife(fd, slot)
		if err == nil {
			l.liveFD, l.life = fd, of
			return nil
		}
		syscall.Close(fd)
		if err != errTaken {
			return l.failed(path, err)
		}
	}
	return fmt.Errorf("%w: %s: all %d signs of life are taken, or can't be opened", lock.ErrUnavailable, l.dir, maxSlots)
}

var errTaken = errors.New("sign of life is taken")

// takeLife makes an open file this Locker's sign of life, if it is nobody's.
func (l *Locker) takeLife(fd, slot int) (life, error) {
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return life{}, err
	}
	if !private(&stat) {
		return life{}, errTaken // by what is written to here no more than a stranger's file
	}
	err := flock(fd, syscall.LOCK_EX)
	if err == syscall.EWOULDBLOCK { // another's, or one is just looking at it
		return life{}, errTaken
	}
	if err != nil {
		return life{}, err
	}
	of := life{Slot: slot, Inode: uint64(stat.Ino), ID: rand.Text()}
	if l.astray(&stat) || stat.Size == 0 {
		if err := l.give(fd); err != nil && stat.Size == 0 { // else as it is, it was usable
			return life{}, err
		}
	}
	return of, pwrite(fd, []byte(of.ID+" "+l.opts.Owner+"\n"), 0)
}

// dead reports whether the Locker of that life has certainly ended. Where that
// can't report it, the answer is no: the hold ends by its expiry.
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
