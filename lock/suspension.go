package lock

import "time"

// Suspension starts a measurement: the function that it returns reports for how long
// the machine has been suspended since then. Go's monotonic clock, and with it every
// timer, stands still meanwhile (a laptop's lid, a virtual machine that is saved);
// the clocks of other machines do not. It is safe for concurrent use, and cheap: two
// readings of a clock. It is always 0 where the system has no clock that counts
// suspension: it is known for Linux.
//
// A backend whose store is not suspended with this machine starts one before its
// request, and gives it to [NewLease] as Grant.Suspended.
func Suspension() func() time.Duration {
	base, ok := suspendedTotal()
	if !ok {
		return func() time.Duration { return 0 }
	}
	return func() time.Duration {
		// This cheap reading may be too large, and is never too small: where it shows no
		// suspension there was none, which is nearly always.
		if seen, _ := suspendedAtMost(); seen-base < suspensionNoise {
			return 0
		}
		now, _ := suspendedTotal()
		if now-base < suspensionNoise {
			return 0
		}
		return now - base
	}
}

// suspensionNoise is more than two readings of two clocks can be apart by themselves.
const suspensionNoise = 2 * time.Millisecond
