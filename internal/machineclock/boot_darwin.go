package machineclock

import "golang.org/x/sys/unix"

const clockID = 8 // CLOCK_UPTIME_RAW, from time.h

// BootID is another one after each boot.
func BootID() (string, error) { return unix.Sysctl("kern.bootsessionuuid") }
