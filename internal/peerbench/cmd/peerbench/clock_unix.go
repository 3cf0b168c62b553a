//go:build linux || darwin || freebsd

package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// mono is the machine's monotonic clock in ns: every process reads the same, so that
// times of two processes can be compared.
func mono() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // can't happen with these arguments
	}
	return ts.Nano()
}

// monoOf turns a time of this process into one that others can compare.
func monoOf(t time.Time) int64 { return mono() + int64(time.Until(t)) }

// untilMono is how long it is until then.
func untilMono(then int64) time.Duration { return time.Duration(then - mono()) }
