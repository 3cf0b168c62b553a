package machineclock

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const clockBoottime = 7 // from linux/time.h

// Clock is the machine's own: all processes read the same, nobody can set it,
// and it starts again with each boot. It goes on while the machine is suspended,
// as the leases' own deadlines do (internal/suspend).
type Clock struct {
	offset time.Duration // of this process's time namespace
}

// New makes sure that the clock can be read.
func New() (Clock, error) {
	var c Clock
	// In a time namespace (a container may have one) the clock is shifted.
	offsets, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, err
	}
	for line := range strings.Lines(string(offsets)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "boottime" {
			continue
		}
		sec, err1 := strconv.ParseInt(f[1], 10, 64)
		nsec, err2 := strconv.ParseInt(f[2], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return c, fmt.Errorf("/proc/self/timens_offsets: %w", err)
		}
		c.offset = time.Duration(sec)*time.Second + time.Duration(nsec)
	}
	if c.offset != 0 {
		// The offsets are those of the namespace that children get.
		mine, _ := os.Readlink("/proc/self/ns/time")
		childrens, _ := os.Readlink("/proc/self/ns/time_for_children")
		if mine != childrens {
			return c, fmt.Errorf("this process is in time namespace %s, its children will be in %s: start it anew", mine, childrens)
		}
	}
	_, err = read()
	return c, err
}

// Now is the time since boot.
func (c Clock) Now() time.Duration {
	t, _ := read() // New has seen it work
	return t - c.offset
}

func read() (time.Duration, error) {
	var ts syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("CLOCK_BOOTTIME: %w", errno)
	}
	return time.Duration(ts.Nano()), nil
}

// BootID is another one after each boot, and the same in all containers.
func BootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
