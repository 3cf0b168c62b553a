//go:build darwin || freebsd

// Package filesystem names the file system of a directory, and says whether its kernel locks
// are of this machine alone.
package filesystem

import (
	"slices"
	"syscall"
)

// locals are the file systems known to keep flock within this machine's kernel.
var locals = []string{"apfs", "hfs", "ufs", "zfs", "tmpfs"}

// Of names dir's file system, and says whether its kernel locks and the machine's clock mean
// the same to everybody who can open it.
func Of(dir string) (name string, local bool, stat syscall.Statfs_t, err error) {
	if err := syscall.Statfs(dir, &stat); err != nil {
		return "", false, stat, err
	}
	for _, c := range stat.Fstypename {
		if c == 0 {
			break
		}
		name += string(rune(c))
	}
	return name, slices.Contains(locals, name), stat, nil
}

// Name is the name alone.
func Name(dir string) (string, error) {
	name, _, _, err := Of(dir)
	return name, err
}
