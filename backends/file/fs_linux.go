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

// local are the file systems known to keep flock within this machine's kernel,
// by their number in statfs (linux/magic.h and the file systems' own headers).
var local = map[uint32]string{
	0xef53:     "ext4",
	0x58465342: "xfs",
	0x9123683e: "btrfs",
	0xca451a4e: "bcachefs",
	0x2fc12fc1: "zfs",
	0xf2f52010: "f2fs",
	0x3153464a: "jfs",
	0x52654973: "reiserfs",
	0x24051905: "ubifs",
	0x01021994: "tmpfs",
	0x858458f6: "ramfs",
	0x794c7630: "overlayfs",
}

// remote are named so that the refusal says what it is about.
var remote = map[uint32]string{
	0x6969:     "nfs",
	0x517b:     "smb",
	0xff534d42: "cifs",
	0xfe534d42: "smb2",
	0x65735546: "fuse",
	0x01021997: "9p",
	0x00c36400: "ceph",
	0x0bd00bd0: "lustre",
	0x01161970: "gfs2",
	0x7461636f: "ocfs2",
	0x47504653: "gpfs",
	0x5346414f: "afs",
	0x786f4256: "vboxsf",
}

// fileSystem names dir's file system, and says whether its kernel locks and the
// machine's clock mean the same to everybody who can open it.
func fileSystem(dir string) (name string, trusted bool, stat syscall.Statfs_t, err error) {
	if err := syscall.Statfs(dir, &stat); err != nil {
		return "", false, stat, err
	}
	magic := uint32(stat.Type)
	if name, ok := local[magic]; ok {
		return name, true, stat, nil
	}
	if name, ok := remote[magic]; ok {
		return name, false, stat, nil
	}
	return fmt.Sprintf("unknown (%#x)", magic), false, stat, nil
}

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
