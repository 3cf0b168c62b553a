package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// procStat is a part of /proc/PID/stat.
type procStat struct {
	state          string
	group, session int
	tty            int // the foreground group of its terminal
}

func statOf(pid int) (procStat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, false
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	group, _ := strconv.Atoi(f[2])
	session, _ := strconv.Atoi(f[3])
	tty, _ := strconv.Atoi(f[5])
	return procStat{f[0], group, session, tty}, true
}

func childrenOf(pid int) (all []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(field)
			all = append(all, child)
		}
	}
	return all
}

func itoa(n int) string { return strconv.Itoa(n) }

// sessionOf are the processes of a session that live.
func sessionOf(sid int) (all []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if s, ok := statOf(pid); ok && s.session == sid && s.state != "Z" {
			all = append(all, pid)
		}
	}
	return all
}

// find is a process of the session with this name, 0 if there is none.
func (s *session) find(name string) int {
	for _, pid := range sessionOf(s.Process.Pid) {
		if comm, _ := os.ReadFile("/proc/" + itoa(pid) + "/comm"); string(comm) == name+"\n" {
			return pid
		}
	}
	return 0
}
