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

// turn is how long a free key is kept for each Locker in its record's line. One
// that runs takes its turn within a millisecond even on a busy machine; one that is
// stopped holds the others up by this much, once, because it is out of the line
// then. One that has died holds up nobody: a release passes over it.
const turn = 50 * time.Millisecond

// place names a Locker that waits: the number of its sign of life, and what its
// ID begins with.
type place string

const placeIDLen = 12

// place is this Locker's; "" if it never made an attempt, or is closed.
func (l *Locker) place() place {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.liveFD < 0 {
		return ""
	}
	return placeOf(l.life)
}

func placeOf(of life) place { return place(strconv.Itoa(of.Slot) + "." + of.ID[:placeIDLen]) }

// gone reports whether nobody waits in that place any more. An error in it costs
// time, never exclusion.
func (l *Locker) gone(p place) bool {
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
	var present [placeIDLen]byte
	n, err := pread(fd, present[:], 0)
	return err == nil && string(present[:n]) != id
}

// ahead counts those who stand before me in the line; all do if I am not in it.
func (r *record) ahead(me place) int {
	if i := slices.Index(r.Line, me); i >= 0 {
		return i
	}
	return len(r.Line)
}

// freeSince is the moment, on the machine's clock, from which the turns of a key
// that is not held are counted.
func (r *record) freeSince() time.Duration {
	if r.Life == lifeless {
		return time.Duration(r.Freed)
	}
	return time.Duration(r.Expiry)
}

// turnIn is how long me has to let others go first; 0: it may have the free key.
func (l *Locker) turnIn(r *record, me place) time.Duration {
	n, since, now := r.ahead(me), r.freeSince(), l.clock.Now()
	if n == 0 || r.Boot != l.boot || since > now { // a turn that begins some day would never end
		return 0
	}
	return max(0, since+time.Duration(n)*l.turn-now)
}

// refusal is nil if me may have the key now: nobody holds it, and no others are to
// go first. It notes in r that a holder has died, and drops those who wait no more.
func (l *Locker) refusal(r *record, me place) error {
	if held := l.held(*r); held != nil {
		return held
	}
	if r.Life != lifeless {
		r.Freed = int64(min(time.Duration(r.Expiry), l.clock.Now()))
		r.clear()
	}
	if l.turnIn(r, me) == 0 {
		return nil
	}
	r.Line = slices.DeleteFunc(r.Line, l.gone)
	if wait := l.turnIn(r, me); wait > 0 {
		return &lock.HeldError{Key: r.Key, RetryAfter: wait}
	}
	return nil
}

// refuse puts me in line if it waits (an attempt with no position has me ""), and writes what else was noted in r. If that
// fails, it only takes longer. f is locked.
func (f *keyFile) refuse(r *record, me place, noted bool) {
	joins := me != "" && f.l.hub.wants(f.key, r, me)
	if joins {
		r.Line = append(r.Line, me)
	}
	if (joins || noted) && f.write(r) == nil && slices.Contains(r.Line, me) { // there may have been no room
		f.l.hub.stands(f.key, true)
	}
}

// leave takes this Locker out of key's line. It gives up soon: its turn would
// pass without it, too.
func (l *Locker) leave(key string) {
	me := l.place()
	if me == "" {
		return // and gone, for those who ask
	}
	ctx, cancel := context.WithTimeout(context.Background(), turn)
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
	if i := slices.Index(r.Line, me); err == nil && i >= 0 {
		r.Line = slices.Delete(r.Line, i, i+1)
		_ = f.write(&r)
	}
}

// free ends r's hold, and gives the first in line its turn.
func (f *keyFile) free(r *record) error {
	for len(r.Line) > 0 && f.l.gone(r.Line[0]) {
		r.Line = r.Line[1:]
	}
	r.clear()
	r.Freed = 0
	if len(r.Line) > 0 {
		r.Freed = int64(f.l.clock.Now())
	}
	return f.write(r)
}
