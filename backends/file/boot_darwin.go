package file

import "golang.org/x/sys/unix"

const clockID = 8 // CLOCK_UPTIME_RAW, from time.h

// bootID is another one after each boot.
func bootID() (string, error) { return unix.Sysctl("kern.bootsessionuuid") }

// flush: fsync alone leaves the data in the drive's own cache here.
func flush(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0)
	return err
}
