package file

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const noCOW = 0x00800000 // FS_NOCOW_FL of linux/fs.h; chattr +C

// overwriteInPlace asks for a new file, which is empty, that changes overwrite it, so
// that they need no space: btrfs writes elsewhere otherwise. Records have checksums of
// their own. It is tried, no more: Health says what may fail where it is not so.
func (l *Locker) overwriteInPlace(fd int) {
	if l.fs != "btrfs" {
		return
	}
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|noCOW))
	}
}

// lockedBy says who has fd's lock, where the kernel shows it.
func lockedBy(fd int) string {
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return ""
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	inode := strconv.FormatUint(stat.Ino, 10)
	for line := range bytes.Lines(locks) {
		// 1: FLOCK  ADVISORY  WRITE 8537 fe:00:40370249 0 EOF
		f := strings.Fields(string(line))
		if len(f) < 6 || f[1] != "FLOCK" || f[3] != "WRITE" || !strings.HasSuffix(f[5], ":"+inode) {
			continue
		}
		return fmt.Sprintf(" (pid %s: stopped?)", f[4])
	}
	return ""
}

func flush(fd int) error { return syscall.Fsync(fd) }
