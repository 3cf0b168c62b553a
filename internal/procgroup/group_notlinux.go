//go:build unix && !linux

package procgroup

import (
	"fmt"
	"os"
	"sync"
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

// programFile is the file that this program was started from.
var programFile = sync.OnceValues(func() (os.FileInfo, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return os.Stat(path)
})

// ownProgram is the path of this program, unless another stands there by now: a guard of
// another version may not understand this one.
func ownProgram() (string, error) {
	first, err := programFile()
	if err != nil {
		return "", err
	}
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	now, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !os.SameFile(first, now) {
		return "", fmt.Errorf("%s was replaced since this process was started", path)
	}
	return path, nil
}

// What is outside of the command's group is not known here.

type kin struct{ group int }

func findKin(int) (kin, bool) { return kin{}, false }

func marked(string) []kin { return nil }

func (kin) signal(syscall.Signal) {}

func adoptOrphans() {}

func offspring(kin, int) []kin { return nil }

func reapOrphans(...int) {}

func ignoredByMask(syscall.Signal) bool { return false }

func catches(int, ...syscall.Signal) bool { return false }

// aloneInGroup: or the first of a pipeline, whose output is one.
func aloneInGroup() bool { return syscall.Getpgrp() == os.Getpid() }
