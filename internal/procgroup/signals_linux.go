package procgroup

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// passedOnHere: with the real-time signals, but for those that C libraries use.
var passedOnHere = func() []os.Signal {
	all := []os.Signal{syscall.SIGPWR, syscall.SIGSTKFLT}
	for s := syscall.Signal(35); s <= 64; s++ {
		all = append(all, s)
	}
	return all
}()

// ignoredByMask asks the kernel, the first time for all signals.
func ignoredByMask(s syscall.Signal) bool { return ignored()>>(s-1)&1 == 1 }

var ignored = sync.OnceValue(func() uint64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := bytes.Cut(text, []byte("\nSigIgn:"))
	line, _, _ := strings.Cut(string(rest), "\n")
	mask, _ := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return mask
})
