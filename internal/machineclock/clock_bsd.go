//go:build darwin || freebsd

package machineclock

import (
	"time"

	"golang.org/x/sys/unix" // clock_gettime is not in package syscall here
)

// Clock is the machine's own: all processes read the same, nobody can set it,
// and it starts again with each boot. It is the clock that Go's monotonic
// readings come from: it stands still while the machine sleeps, as the leases'
// own deadlines do here, so that record and holder agree.
type Clock struct{}

// New makes sure that the clock can be read.
func New() (Clock, error) {
	var ts unix.Timespec
	return Clock{}, unix.ClockGettime(clockID, &ts)
}

// Now is the time since boot.
func (Clock) Now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(clockID, &ts) // New has seen it work
	return time.Duration(ts.Nano())
}
