//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package procgroup

import (
	"os"
	"syscall"
)

var passedOnHere = []os.Signal{syscall.SIGINFO}
