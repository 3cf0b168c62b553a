//go:build darwin || freebsd

package file

import (
	"os"
	"syscall"
)

// There are no notifications here: kqueue would need an open file for each key, and does
// not report a process's end in the same way on both systems.
const (
	onChanged uint32 = 1 << iota
	newsGone
	onClosed
	newsLost
)

type notifier struct{ file, other *os.File }

func openNotifier() (*notifier, error) { return openPolling() }

func (*notifier) mark(string, uint32) (int32, error) { return 0, syscall.ENOSYS }
func (*notifier) unmark(int32)                       {}
func (*notifier) events([]byte, func(int32, uint32)) {}
