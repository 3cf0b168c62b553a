//go:build darwin || freebsd

package file

import (
	"time"

	"golang.org/x/sys/unix" // clock_gettime is not in package syscall here
)

// clock is the machine's own: all processes read the same, nobody can set it,
// and it starts again with each boot. It is the clock that Go's monotonic
// readings come from: it stands still while the machine sleeps, as the leases'
// own deadlines do here, so that record and holder agree.
type clock struct{}

func newClock() (clock, error) {
	var ts unix.Timespec
	return clock{}, unix.ClockGettime(clockID, &ts)
}

// now is the time since boot.
func (clock) now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(clockID, &ts) // newClock has seen it work
	return time.Duration(ts.Nano())
}
