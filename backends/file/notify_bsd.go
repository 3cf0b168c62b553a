//go:build darwin || freebsd

package file

import (
	"os"
	"syscall"
)

// There are no news here: kqueue would need an open file for each key, and does
// not tell of a process's end in the same way on both systems.
const (
	newsChanged uint32 = 1 << iota
	newsGone
	newsClosed
	newsLost
)

type news struct{ file, other *os.File }

func openNews() (*news, error) { return openSilence() }

func (*news) mark(string, uint32) (int32, error) { return 0, syscall.ENOSYS }
func (*news) unmark(int32)                       {}
func (*news) events([]byte, func(int32, uint32)) {}
