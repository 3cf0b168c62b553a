//go:build unix && !linux

package procgroup

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setDeathSignal does nothing: the guard alone ends the command.
func setDeathSignal(*syscall.SysProcAttr) {}

func machineClock() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

func setProcessName(string) {}

// openLockFiles: no list of open files.
func openLockFiles(string) []int { return nil }

// What is outside of the command's group is not known here.

type kin struct{ group int }

func (kin) signal(syscall.Signal) {}

func adoptOrphans() {}

func offspring(int, int) []kin { return nil }

func reapOrphans(...int) {}
