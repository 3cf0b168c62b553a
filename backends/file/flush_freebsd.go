package file

import "syscall"

func flush(fd int) error { return syscall.Fsync(fd) }
