package procgroup

import (
	"bytes"
	"os"
	"slices"
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

var ignored = sync.OnceValue(func() uint64 { return maskOf("self", "SigIgn") })

// catches reports whether a process has a handler for one of these signals.
func catches(pid int, signals ...syscall.Signal) bool {
	mask := maskOf(strconv.Itoa(pid), "SigCgt")
	return slices.ContainsFunc(signals, func(s syscall.Signal) bool { return mask>>(s-1)&1 == 1 })
}

// maskOf is one of the sets of signals that the kernel shows of a process.
func maskOf(process, name string) uint64 {
	text, _ := os.ReadFile("/proc/" + process + "/status")
	_, rest, _ := bytes.Cut(text, []byte("\n"+name+":"))
	line, _, _ := strings.Cut(string(rest), "\n")
	mask, _ := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return mask
}
