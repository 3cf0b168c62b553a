package redistest

import (
	"os"
	"syscall"
)

// reserve holds a port on 127.0.0.1 until release, or until this process ends: a socket is bound to
// it that never listens, so that connections are refused there.
//
// At first it does not share its address, so that this fails if anybody has the port, reserved or
// not. From then on it does, which lets a server bind and listen there, too: all servers set
// SO_REUSEADDR, for a restart just after their end.
func reserve(port int) (release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return func() { syscall.Close(fd) }, nil
}
