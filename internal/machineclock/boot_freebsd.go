package machineclock

import (
	"encoding/hex"

	"golang.org/x/sys/unix"
)

const clockID = unix.CLOCK_MONOTONIC

// BootID is another one after each boot. (kern.boottime would not do: it moves
// when somebody sets the wall clock.)
func BootID() (string, error) {
	id, err := unix.SysctlRaw("kern.boot_id")
	return hex.EncodeToString(id), err
}
