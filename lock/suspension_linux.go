package lock

import (
	"syscall"
	"time"
	"unsafe"
)

// From linux/time.h.
const (
	clockMonotonic = 1
	clockBoottime  = 7
)

// origin is one moment on both clocks: at is not before boot. It is read when the program
// starts, outside of any synctest bubble, whose time is no clock of the machine's.
var origin = readOrigin()

type clocks struct {
	at    time.Time     // on Go's clock, CLOCK_MONOTONIC
	boot  time.Duration // on CLOCK_BOOTTIME
	total time.Duration // suspendedTotal
	ok    bool
}

// readOrigin reads the two clocks as close together as a few tries get: the time between the
// readings makes suspendedAtMost too large by as much.
func readOrigin() (o clocks) {
	least := time.Duration(-1)
	for range 5 {
		before := time.Now()
		boot, ok := readClock(clockBoottime)
		at := time.Now()
		if took := at.Sub(before); least < 0 || took < least {
			least = took
			o = clocks{at: at, boot: boot, ok: ok}
		}
		if least < 100*time.Microsecond {
			break
		}
	}
	total, ok := suspendedTotal()
	o.total, o.ok = total, o.ok && ok
	return o
}

// suspendedAtMost is suspendedTotal, plus the time that passed between the readings of the
// two clocks, now and at the origin. It costs one system call: Go reads its clock without one.
func suspendedAtMost() (time.Duration, bool) {
	monotonic := time.Since(origin.at)
	boot, ok := readClock(clockBoottime)
	return origin.total + boot - origin.boot - monotonic, ok && origin.ok
}

// suspendedTotal is how long this machine has been suspended since it booted:
// CLOCK_BOOTTIME counts suspension, CLOCK_MONOTONIC (Go's) does not, and both
// start at boot. A thread held up between the two readings sees too much; the
// least of several tries is the nearest.
func suspendedTotal() (time.Duration, bool) {
	least := time.Duration(-1)
	for range 5 {
		before, ok1 := readClock(clockMonotonic)
		boot, ok2 := readClock(clockBoottime)
		after, ok3 := readClock(clockMonotonic)
		if !ok1 || !ok2 || !ok3 {
			return 0, false
		}
		if seen := boot - before; least < 0 || seen < least {
			least = seen
		}
		if after-before < time.Millisecond {
			break
		}
	}
	return least, true
}

func readClock(clock uintptr) (time.Duration, bool) {
	var ts syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano()), errno == 0
}
