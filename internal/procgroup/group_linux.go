package procgroup

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// setDeathSignal: the command dies with the thread that has started it.
func setDeathSignal(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// machineClock goes on while the machine is suspended.
func machineClock() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return ts.Nano()
}

// setProcessName is for ps and killall. A person who looks at the arguments sees the name
// that the process was started by.
func setProcessName(name string) { _ = os.WriteFile("/proc/self/comm", []byte(name), 0) }

// openLockFiles are this process's signs of life for a file store in dir.
func openLockFiles(dir string) []int {
	if dir == "" {
		return nil
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	const fds = "/proc/self/fd"
	entries, err := os.ReadDir(fds)
	if err != nil {
		return nil
	}
	var open []int
	for _, e := range entries {
		path, _ := os.Readlink(fds + "/" + e.Name())
		if fd, err := strconv.Atoi(e.Name()); err == nil && filepath.Dir(path) == dir && strings.HasPrefix(filepath.Base(path), "live.") {
			open = append(open, fd)
		}
	}
	return open
}

// adoptOrphans makes this process, and not init, the parent of one below it whose own
// parent has ended: so offspring still finds it.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// ownProgram is this very program, also when its file was deleted or replaced since.
func ownProgram() (string, error) {
	const self = "/proc/self/exe" // of the new process: it is this program until it is started
	if _, err := os.Stat(self); err != nil {
		return "", fmt.Errorf("this program finds itself by %s, which needs /proc to be mounted: %w", self, err)
	}
	return self, nil
}

// kin is a process that lives. Its number may be another's later, its start distinguishes them.
type kin struct {
	pid, group int
	start      uint64
}

func findKin(pid int) (kin, bool) {
	s, ok := statOf(pid)
	return kin{pid, s.group, s.start}, ok
}

func (p kin) signal(s syscall.Signal) {
	if now, ok := statOf(p.pid); ok && now.start == p.start {
		_ = syscall.Kill(p.pid, s)
	}
}

// offspring are the processes below parent that are in its session, except one and
// what is below that: also those that have made a group of their own, as timeout(1)
// and shells with job control do. One that makes a session has asked to be left alone.
// A kernel that does not report its processes' children gives none.
func offspring(parent kin, except int) []kin {
	root, ok := statOf(parent.pid)
	if !ok || root.start != parent.start {
		return nil
	}
	var all []kin
	seen := map[int]bool{parent.pid: true, except: true}
	for next := []int{parent.pid}; len(next) > 0; next = next[1:] {
		for _, pid := range childrenOf(next[0]) {
			if seen[pid] {
				continue
			}
			seen[pid] = true
			if s, ok := statOf(pid); ok && s.session == root.session && s.state != "Z" {
				all = append(all, kin{pid, s.group, s.start})
				next = append(next, pid)
			}
		}
	}
	return all
}

func childrenOf(pid int) []int {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var all []int
	for _, t := range threads {
		list, _ := os.ReadFile(dir + "/" + t.Name() + "/children")
		for _, field := range bytes.Fields(list) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// marked are the processes of this session that are younger than this one and have
// this entry in their environment.
func marked(entry string) []kin {
	self, ok := statOf(os.Getpid())
	if !ok {
		return nil
	}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []kin
	for _, dir := range dirs {
		pid, err := strconv.Atoi(dir.Name())
		if err != nil {
			continue
		}
		s, ok := statOf(pid)
		if !ok || s.session != self.session || s.start < self.start || s.state == "Z" {
			continue
		}
		env, _ := os.ReadFile("/proc/" + dir.Name() + "/environ")
		for e := range bytes.SplitSeq(env, []byte{0}) {
			if string(e) == entry {
				all = append(all, kin{pid, s.group, s.start})
				break
			}
		}
	}
	return all
}

// stat is a part of /proc/PID/stat.
type stat struct {
	state                  string
	start                  uint64 // in ticks since the machine's boot
	parent, group, session int
}

func statOf(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	// The name before the last parenthesis may be anything.
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 20 {
		return stat{}, false
	}
	parent, _ := strconv.Atoi(f[1])
	group, _ := strconv.Atoi(f[2])
	session, _ := strconv.Atoi(f[3])
	start, _ := strconv.ParseUint(f[19], 10, 64)
	return stat{f[0], start, parent, group, session}, true
}

// reapOrphans forgets the adopted processes that have ended. The others have owners
// who wait for them.
func reapOrphans(except ...int) {
	for _, pid := range childrenOf(os.Getpid()) {
		if s, ok := statOf(pid); ok && s.state == "Z" && !slices.Contains(except, pid) {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

// aloneInGroup reports whether nobody but this process and its callers is in its group.
func aloneInGroup() bool {
	own := syscall.Getpgrp()
	callers := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !callers[pid]; {
		callers[pid] = true
		s, ok := statOf(pid)
		if !ok {
			break
		}
		pid = s.parent
	}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(dir.Name())
		if err != nil || callers[pid] {
			continue
		}
		if s, ok := statOf(pid); ok && s.group == own && s.state != "Z" {
			return false
		}
	}
	return true
}
