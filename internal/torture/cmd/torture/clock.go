//go:build unix

package main

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// The machine's monotonic clock in ns: every process reads the same, so that times of
// two processes can be compared.

// base is where this process's Go times are counted from, and baseMono the same moment
// on the machine's clock. The two readings are taken as close together as can be, and
// once: a process that is stopped between two readings would give a wrong time.
var base, baseMono = func() (time.Time, int64) {
	var at time.Time
	var mono int64
	for width, i := int64(math.MaxInt64), 0; i < 1000; i++ {
		var ts unix.Timespec
		before := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic(err) // can't happen with these arguments
		}
		if w := int64(time.Since(before)); w < width {
			width, at, mono = w, before, ts.Nano()-w/2
		}
	}
	return at, mono
}()

// monoOf turns a time of this process into one that others can compare.
func monoOf(t time.Time) int64 { return baseMono + int64(t.Sub(base)) }

func mono() int64 { return monoOf(time.Now()) }
