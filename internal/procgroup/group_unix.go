//go:build unix

package procgroup

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

// Group is a command and what it has started: a process group of its own, and on
// Linux what has left that group without leaving the session.
type Group struct {
	pid   int
	guard *Guard
	done  chan struct{} // closed when the command itself has ended
	code  int           // its exit status; read it after done
	sig   syscall.Signal
	ended bool // the group was seen empty: its number may be another's by now
}

// Start starts cmd, whose files must be *os.File. If this process dies by
// whatever means, the system kills the command where it knows of such a thing; what
// the command has started is the guard's.
func Start(cmd *exec.Cmd, guard *Guard) (*Group, error) {
	g := &Group{guard: guard, done: make(chan struct{})}
	adoptOrphans()
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
	go g.reap()
	return g, nil
}

// reap keeps adopted processes that have ended from piling up while the command runs.
func (g *Group) reap() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	defer signal.Stop(children)
	for {
		select {
		case <-children:
			reapOrphans(g.pid, g.guard.pid())
		case <-g.done:
			return
		}
	}
}

// wait reaps the command. One that was suspended goes on: its lease does not.
func (g *Group) wait() {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(g.pid, &ws, unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			g.code = failed
			return
		case ws.Stopped() && ws.StopSignal() == unix.SIGTSTP:
			g.Signal(syscall.SIGCONT)
		case ws.Exited():
			g.code = ws.ExitStatus()
			return
		case ws.Signaled():
			g.sig = ws.Signal()
			g.code = killedBy + int(ws.Signal())
			return
		}
	}
}

// Signal sends s to the process group.
func (g *Group) Signal(s syscall.Signal) {
	if !g.ended {
		_ = syscall.Kill(-g.pid, s)
	}
}

// everywhere sends to what has left the group, too.
func (g *Group) everywhere(s syscall.Signal) {
	g.Signal(s)
	for _, p := range offspring(os.Getpid(), g.guard.pid()) {
		if p.group != g.pid {
			p.signal(s)
		}
	}
}

// Terminate sends SIGTERM to all that is left, also to what is stopped.
func (g *Group) Terminate() {
	g.everywhere(syscall.SIGTERM)
	g.everywhere(syscall.SIGCONT) // one that is stopped would not hear of it
}

// Kill sends SIGKILL to all that is left.
func (g *Group) Kill() { g.everywhere(syscall.SIGKILL) }

// empty reports whether nothing is left. The command must have ended.
func (g *Group) empty() bool {
	// As the first process of a container this one inherits what is left.
	for !g.ended {
		if pid, err := unix.Wait4(-g.pid, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
			break
		}
	}
	guard := g.guard.pid()
	reapOrphans(guard)
	// As long as a process of the group lives, the system gives its number to no other.
	g.ended = g.ended || errors.Is(syscall.Kill(-g.pid, 0), syscall.ESRCH)
	return g.ended && len(offspring(os.Getpid(), guard)) == 0
}

// Gone waits until nothing is left of the group, until limit ends.
func (g *Group) Gone(limit time.Duration) bool {
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
