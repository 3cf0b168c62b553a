//go:build darwin || freebsd

package file

import (
	"slices"
	"syscall"
)

// local are the file systems known to keep flock within this machine's kernel.
var local = []string{"apfs", "hfs", "ufs", "zfs", "tmpfs"}

// fileSystem names dir's file system, and says whether its kernel locks and the
// machine's clock mean the same to everybody who can open it.
func fileSystem(dir string) (name string, trusted bool, stat syscall.Statfs_t, err error) {
	if err := syscall.Statfs(dir, &stat); err != nil {
		return "", false, stat, err
	}
	for _, c := range stat.Fstypename {
		if c == 0 {
			break
		}
		name += string(rune(c))
	}
	return name, slices.Contains(local, name), stat, nil
}

// overwriteInPlace does nothing: apfs and zfs always write elsewhere.
func (*Locker) overwriteInPlace(int) {}

// lockedBy says who has fd's lock, where the kernel shows it.
func lockedBy(int) string { return "" }
