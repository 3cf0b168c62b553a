// Package filesystem names the file system of a directory, and says whether its kernel locks
// are of this machine alone.
package filesystem

import (
	"fmt"
	"syscall"
)

// locals are the file systems known to keep flock within this machine's kernel,
// by their number in statfs (linux/magic.h and the file systems' own headers).
var locals = map[uint32]string{
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

// remotes are named so that the refusal says what it is about.
var remotes = map[uint32]string{
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

// Of names dir's file system, and says whether its kernel locks and the machine's clock mean
// the same to everybody who can open it.
func Of(dir string) (name string, local bool, stat syscall.Statfs_t, err error) {
	if err := syscall.Statfs(dir, &stat); err != nil {
		return "", false, stat, err
	}
	magic := uint32(stat.Type)
	if name, ok := locals[magic]; ok {
		return name, true, stat, nil
	}
	if name, ok := remotes[magic]; ok {
		return name, false, stat, nil
	}
	return fmt.Sprintf("unknown (%#x)", magic), false, stat, nil
}

// Name is the name alone.
func Name(dir string) (string, error) {
	name, _, _, err := Of(dir)
	return name, err
}
