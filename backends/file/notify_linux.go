package file

import (
	"encoding/binary"
	"os"
	"syscall"
)

// The notifications that there are.
const (
	onChanged = syscall.IN_MODIFY | newsGone
	newsGone  = syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF | syscall.IN_ATTRIB | syscall.IN_IGNORED
	onClosed  = syscall.IN_CLOSE_WRITE // by a process that wrote to it: also when a process dies
	newsLost  = syscall.IN_Q_OVERFLOW
)

// notifier receives the kernel's notifications about files: an inotify instance. Its methods but for
// close are for the hub, which does not use it any more when it closes it.
type notifier struct {
	file  *os.File
	other *os.File // the pipe's other end, if there is no inotify
	fd    int
}

func openNotifier() (*notifier, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil { // the user has no more instances
		return openPolling()
	}
	return &notifier{file: os.NewFile(uintptr(fd), "inotify"), fd: fd}, nil
}

func (n *notifier) mark(path string, what uint32) (int32, error) {
	if n.other != nil {
		return 0, syscall.ENOSYS
	}
	mark, err := syscall.InotifyAddWatch(n.fd, path, what&^syscall.IN_IGNORED|syscall.IN_MASK_ADD)
	return int32(mark), err
}

func (n *notifier) unmark(mark int32) { _, _ = syscall.InotifyRmWatch(n.fd, uint32(mark)) }

func (n *notifier) events(buf []byte, each func(mark int32, what uint32)) {
	if n.other != nil {
		return
	}
	// Not by a pointer to a syscall.InotifyEvent: that has four bytes of padding after the
	// 16 that the kernel writes, and would reach beyond a full buffer.
	for len(buf) >= syscall.SizeofInotifyEvent {
		mark, what := binary.NativeEndian.Uint32(buf), binary.NativeEndian.Uint32(buf[4:])
		name := binary.NativeEndian.Uint32(buf[12:])
		each(int32(mark), what)
		buf = buf[min(uint64(len(buf)), syscall.SizeofInotifyEvent+uint64(name)):]
	}
}
