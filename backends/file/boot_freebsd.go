package file

import (
	"encoding/hex"
	"syscall"

	"golang.org/x/sys/unix"
)

const clockID = unix.CLOCK_MONOTONIC

// bootID is another one after each boot. (kern.boottime would not do: it moves
// when somebody sets the wall clock.)
func bootID() (string, error) {
	id, err := unix.SysctlRaw("kern.boot_id")
	return hex.EncodeToString(id), err
}

func flush(fd int) error { return syscall.Fsync(fd) }
