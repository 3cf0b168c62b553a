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

// suspendedAtMost is suspendedTotal or more: by what passed between the two readings.
func suspendedAtMost() (time.Duration, bool) {
	monotonic, ok1 := readClock(clockMonotonic)
	boot, ok2 := readClock(clockBoottime)
	return boot - monotonic, ok1 && ok2
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
