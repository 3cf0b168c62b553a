//go:build unix

package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// guardArg makes the program a guard: a process of its own that kills the command's
// group when lockkeeper has died. A death signal reaches the command alone, and not
// what it has started.
const guardArg = "__guard"

// guardian is lockkeeper's end of the guard.
type guardian struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

func startGuard() (*guardian, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, guardArg)
	cmd.Env = []string{}
	// Out of reach of what the terminal sends, and of what is sent to the command.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &guardian{cmd, pipe}, nil
}

// watch tells which group to kill; nil: none.
func (g *guardian) watch(c *group) {
	pid := 0
	if c != nil {
		pid = c.pid
	}
	_, _ = fmt.Fprintln(g.pipe, pid)
}

func (g *guardian) close() {
	_ = g.pipe.Close()
	_ = g.cmd.Wait()
}

// guard is the guard's main: it ends when lockkeeper's end of the pipe is closed.
func guard(in io.Reader) int {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	pid := 0
	for lines := bufio.NewScanner(in); lines.Scan(); {
		pid, _ = strconv.Atoi(strings.TrimSpace(lines.Text()))
	}
	if pid > 1 {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	return exitOK
}
