//go:build linux || darwin || freebsd

package file

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// turnTimeout is how long a free key is reserved for each Locker in its record's queue. One
// that runs acquires it within a millisecond even on a busy machine; one that is
// stopped holds the others up by this much, once, because it is out of the queue
// then. One that has died holds up nobody: a release passes over it.
const turnTimeout = 50 * time.Millisecond

// position names a Locker that waits: the number of its sign of life, and what its
// ID begins with.
type position string

const positionIDLen = 12

// position is this Locker's; "" if it never made an attempt, or is closed.
func (l *Locker) position() position {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.liveFD < 0 {
		return ""
	}
	return positionOf(l.life)
}

func positionOf(of life) position {
	return position(strconv.Itoa(of.Slot) + "." + of.ID[:positionIDLen])
}

// gone reports whether nobody waits at that position any more. An error in it costs
// time, never exclusion.
func (l *Locker) gone(p position) bool {
	number, id, _ := strings.Cut(string(p), ".")
	slot, err := strconv.Atoi(number)
	if err != nil {
		return true
	}
	fd, err := openRead(l.livePath(slot))
	if err != nil {
		return err == syscall.ENOENT
	}
	defer syscall.Close(fd)
	if flock(fd, syscall.LOCK_SH) == nil {
		flock(fd, syscall.LOCK_UN)
		return true
	}
	var present [positionIDLen]byte
	n, err := pread(fd, present[:], 0)
	return err == nil && string(present[:n]) != id
}

// ahead counts those before me in the queue: all of them if I am not in it.
func (r *record) ahead(me position) int {
	if i := slices.Index(r.Queue, me); i >= 0 {
		return i
	}
	return len(r.Queue)
}

// freeSince is the moment, on the machine's clock, from which the turn timeouts of a key
// that is not held are counted.
func (r *record) freeSince() time.Duration {
	if r.Life == lifeless {
		return time.Duration(r.Freed)
	}
	return time.Duration(r.Expiry)
}

// waitsFor is how long me has to let others go first; 0: it may have the free key.
func (l *Locker) waitsFor(r *record, me position) time.Duration {
	n, since, now := r.ahead(me), r.freeSince(), l.clock.Now()
	if n == 0 || r.Boot != l.boot || since > now { // a time in the future would never be over
		return 0
	}
	return max(0, since+time.Duration(n)*l.turnTimeout-now)
}

// refusal is nil if me may have the key now: nobody holds it, and no others are to
// go first. It notes in r that a holder has died, and drops those who wait no more.
func (l *Locker) refusal(r *record, me position) error {
	if held := l.held(*r); held != nil {
		return held
	}
	if r.Life != lifeless {
		r.Freed = int64(min(time.Duration(r.Expiry), l.clock.Now()))
		r.clear()
	}
	if l.waitsFor(r, me) == 0 {
		return nil
	}
	r.Queue = slices.DeleteFunc(r.Queue, l.gone)
	if wait := l.waitsFor(r, me); wait > 0 {
		return &lock.HeldError{Key: r.Key, RetryAfter: wait}
	}
	return nil
}

// refuse puts me into the queue if it waits (an attempt without a position has me ""), and
// writes what else was noted in r. If that fails, it only takes longer. f is locked.
func (f *keyFile) refuse(r *record, me position, noted bool) {
	joins := me != "" && f.l.hub.wants(f.key, r, me)
	if joins {
		r.Queue = append(r.Queue, me)
	}
	if (joins || noted) && f.write(r) == nil && slices.Contains(r.Queue, me) { // there may have been no room
		f.l.hub.stands(f.key, true)
	}
}

// leave takes this Locker out of key's queue. It gives up soon: its turn timeout would
// pass without it, too.
func (l *Locker) leave(key string) {
	me := l.position()
	if me == "" {
		return // and gone, for those who ask
	}
	ctx, cancel := context.WithTimeout(context.Background(), turnTimeout)
	defer cancel()
	f, err := l.open(key)
	if err != nil {
		return
	}
	defer f.close()
	if f.lock(ctx) != nil {
		return
	}
	r, err := f.read()
	if i := slices.Index(r.Queue, me); err == nil && i >= 0 {
		r.Queue = slices.Delete(r.Queue, i, i+1)
		_ = f.write(&r)
	}
}

// free ends r's hold, and reserves the key for the first in the queue.
func (f *keyFile) free(r *record) error {
	for len(r.Queue) > 0 && f.l.gone(r.Queue[0]) {
		r.Queue = r.Queue[1:]
	}
	r.clear()
	r.Freed = 0
	if len(r.Queue) > 0 {
		r.Freed = int64(f.l.clock.Now())
	}
	return f.write(r)
}
