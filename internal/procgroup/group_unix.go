//go:build unix

package procgroup

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Group is a command and what it has started: a process group of its own, and on
// Linux what has left that group without leaving the session.
type Group struct {
	pid    int
	guard  *Guard
	events Events
	tty    *terminal // nil: there is none
	jobs   jobControl
	ctrlC  witness

	done        chan struct{} // closed when the command itself has ended; the fields below stand then
	code        int
	sig         syscall.Signal
	hadTerminal bool // at its end
	ctrlCSeen   bool // while it had the terminal

	mu    sync.Mutex // guards ended
	ended bool       // the group was seen empty: its number may be another's by now
}

// Start starts cmd, whose files must be *os.File, as a group that guard kills at until,
// and when this process dies; on Linux the kernel kills the command then, too. Signals
// that mean the command are passed on to it until it has ended: all that can be caught
// but SIGHUP, SIGINT, SIGQUIT and SIGTERM, which the caller must pass on if they are to be.
// There can be one group at a time.
func Start(cmd *exec.Cmd, guard *Guard, until time.Time, mark string, events Events) (*Group, error) {
	g := &Group{guard: guard, events: events, tty: openTerminal(), done: make(chan struct{})}
	adoptOrphans()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	setDeathSignal(cmd.SysProcAttr)
	g.jobs.begin(events.Nested)
	atOnce := g.tty.free(events.WatchInterrupts)
	if atOnce {
		g.tty.save()
		cmd.SysProcAttr.Foreground, cmd.SysProcAttr.Ctty = true, int(g.tty.f.Fd())
	}
	// Reported before, too: this process may be paused or killed before it can report which it is.
	guard.expect(mark, until)
	started := make(chan error)
	go func() {
		// Linux sends the death signal when the thread ends that has started the
		// process: this one is kept until the command has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := g.jobs.uninherited(cmd.Start)
		if err == nil {
			g.pid = cmd.Process.Pid
			guard.watch(g.pid)
			if atOnce && events.WatchInterrupts {
				g.ctrlC.begin(g.pid)
			}
		}
		started <- err
		if err == nil {
			g.wait()
			g.ctrlCSeen = g.ctrlC.end()
			g.hadTerminal = g.tty.owner() == g.pid
			g.tty.takeBack(g.pid, g.sig != 0)
			close(g.done)
		}
	}()
	if err := <-started; err != nil {
		guard.Forget()
		g.jobs.end()
		if atOnce {
			g.tty.give(g.tty.own)
		}
		g.tty.close()
		return nil, err
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go g.reap(children)
	go g.passOn()
	return g, nil
}

// reap keeps adopted processes that have ended from piling up while the command runs.
func (g *Group) reap(children chan os.Signal) {
	defer signal.Stop(children)
	reapOrphans(g.pid, g.guard.pid(), g.ctrlC.pid()) // that ended before this process was notified
	for {
		select {
		case <-children:
			reapOrphans(g.pid, g.guard.pid(), g.ctrlC.pid())
		case <-g.done:
			return
		}
	}
}

// wait reaps the command, and does what a shell does for one that is stopped.
func (g *Group) wait() {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(g.pid, &ws, unix.WUNTRACED|unix.WCONTINUED, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			g.code = failed
			return
		case ws.Stopped():
			g.stopped(ws.StopSignal())
		case ws.Continued():
			g.jobs.waiting.Store(false)
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

// Signal sends s to the process group. One that ends it reaches a stopped group, too.
func (g *Group) Signal(s syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return
	}
	_ = syscall.Kill(-g.pid, s)
	switch s {
	case syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM:
		_ = syscall.Kill(-g.pid, syscall.SIGCONT)
	}
}

// everywhere sends to what has left the group, too.
func (g *Group) everywhere(s syscall.Signal) {
	g.Signal(s)
	for _, p := range g.others() {
		if p.group != g.pid {
			p.signal(s)
		}
	}
}

// others are the processes below this one but the guard.
func (g *Group) others() []kin {
	self, ok := findKin(os.Getpid())
	if !ok {
		return nil
	}
	return offspring(self, g.guard.pid())
}

// Terminate sends SIGTERM to all that is left, also to what is stopped.
func (g *Group) Terminate() {
	g.everywhere(syscall.SIGTERM)
	g.everywhere(syscall.SIGCONT)
}

// Kill sends SIGKILL to all that is left.
func (g *Group) Kill() { g.everywhere(syscall.SIGKILL) }

// empty reports whether nothing is left. The command must have ended.
func (g *Group) empty() bool {
	g.mu.Lock()
	// As the first process of a container this one inherits what is left.
	for !g.ended {
		if pid, err := unix.Wait4(-g.pid, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
			break
		}
	}
	reapOrphans(g.guard.pid())
	// As long as a process of the group lives, the system gives its number to no other.
	g.ended = g.ended || errors.Is(syscall.Kill(-g.pid, 0), syscall.ESRCH)
	ended := g.ended
	g.mu.Unlock()
	return ended && len(g.others()) == 0
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
