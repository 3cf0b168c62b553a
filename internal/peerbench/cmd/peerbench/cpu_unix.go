//go:build unix

package main

import (
	"syscall"
	"time"
)

// processCPU is the processor time that this process has used.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // can't happen with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
