//go:build unix

package cli

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// group is a command and what it has started: a process group of its own.
type group struct {
	pid  int
	done chan struct{} // closed when the command itself has ended
	code int           // its exit status; read it after done
	sig  syscall.Signal
}

// startGroup starts cmd, whose files must be *os.File. If this process dies by
// whatever means, the system kills the command where it knows of such a thing; what
// the command has started is the guard's.
func startGroup(cmd *exec.Cmd) (*group, error) {
	g := &group{done: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	setDeathSignal(cmd.SysProcAttr)
	tty := foreground(cmd)
	started := make(chan error)
	go func() {
		// Linux sends the death signal when the thread ends that has started the
		// process: this one is kept until the command has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			g.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			g.wait()
			tty.restore()
			close(g.done)
		}
	}()
	if err := <-started; err != nil {
		tty.restore()
		return nil, err
	}
	return g, nil
}

// wait reaps the command. One that was suspended goes on: its lease does not.
func (g *group) wait() {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(g.pid, &ws, unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			g.code = exitFailed
			return
		case ws.Stopped() && ws.StopSignal() == unix.SIGTSTP:
			g.signal(syscall.SIGCONT)
		case ws.Exited():
			g.code = ws.ExitStatus()
			return
		case ws.Signaled():
			g.sig = ws.Signal()
			g.code = exitSignal + int(ws.Signal())
			return
		}
	}
}

func (g *group) signal(s syscall.Signal) { _ = syscall.Kill(-g.pid, s) }

func (g *group) terminate() {
	g.signal(syscall.SIGTERM)
	g.signal(syscall.SIGCONT) // one that is stopped would not hear of it
}

func (g *group) kill() { g.signal(syscall.SIGKILL) }

// empty reports whether nothing is left of the group. The command must have ended:
// as long as a process of the group lives, the system gives its number to no other.
func (g *group) empty() bool {
	// As the first process of a container this one inherits what is left.
	for {
		if pid, err := unix.Wait4(-g.pid, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
			break
		}
	}
	return errors.Is(syscall.Kill(-g.pid, 0), syscall.ESRCH)
}

// gone waits until nothing is left of the group, until limit ends.
func (g *group) gone(limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	if !closedWithin(g.done, limit) {
		return false
	}
	for pause := time.Millisecond; !g.empty(); pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}

// terminal is the one that a command was given, nil if none.
type terminal struct {
	fd, owner int
}

// foreground gives the command the terminal, if this process has it: it could not
// read from it otherwise, and Ctrl-C would not reach it.
func foreground(cmd *exec.Cmd) *terminal {
	f, ok := cmd.Stdin.(*os.File)
	if !ok {
		return nil
	}
	fd := int(f.Fd())
	owner, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil || owner != unix.Getpgrp() {
		return nil
	}
	cmd.SysProcAttr.Foreground, cmd.SysProcAttr.Ctty = true, fd
	return &terminal{fd, owner}
}

// restore takes the terminal back. The system sends SIGTTOU to one that does so from
// the background, unless it is ignored: for now only, because commands inherit that.
func (t *terminal) restore() {
	if t != nil {
		signal.Ignore(syscall.SIGTTOU)
		defer signal.Reset(syscall.SIGTTOU)
		_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, t.owner)
	}
}
