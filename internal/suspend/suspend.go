// Package suspend tells for how long the machine was suspended. Go's monotonic
// clock, and with it every timer, stands still meanwhile; the clocks of other
// machines do not.
package suspend

import "time"

// Since starts a measurement: the function it returns gives the time that the
// machine has been suspended since then. It is safe for concurrent use, and
// always 0 where the system has no clock that counts suspension.
func Since() func() time.Duration {
	base, ok := total()
	if !ok {
		return func() time.Duration { return 0 }
	}
	return func() time.Duration {
		// A look that is never too small is enough nearly always, and cheap.
		if seen, _ := look(); seen-base < noise {
			return 0
		}
		now, _ := total()
		if now-base < noise {
			return 0
		}
		return now - base
	}
}

// noise is more than two readings of two clocks can be apart by themselves.
const noise = 2 * time.Millisecond
