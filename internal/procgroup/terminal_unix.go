//go:build unix

package procgroup

import (
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is the controlling one of this process's session. A nil one is none.
type terminal struct {
	f     *os.File
	own   int // this process's group
	mu    sync.Mutex
	modes *term.State // before the command had it first; mu
}

func openTerminal() *terminal {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	return &terminal{f: f, own: unix.Getpgrp()}
}

// owner is the foreground group: it alone may read, and gets what Ctrl-C sends. 0 is unknown.
func (t *terminal) owner() int {
	if t == nil {
		return 0
	}
	pgrp, err := unix.IoctlGetInt(int(t.f.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return pgrp
}

// free reports whether a command may have the terminal before it asks for it: none but
// callers that wait for this process are in its group. In a pipeline another may need it
// (less), and of several commands that make runs each. One that was started to ignore
// SIGTTIN can't ask. watched: each Ctrl-C counts, also the one before there is a witness:
// this process gets it as long as the command has not asked.
func (t *terminal) free(watched bool) bool {
	if t == nil || t.owner() != t.own {
		return false
	}
	return IgnoredFromTheStart(syscall.SIGTTIN) || !watched && !isPipe(os.Stdin) && !isPipe(os.Stdout) && aloneInGroup()
}

func isPipe(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

// save keeps the terminal's modes as they were before the command had it.
func (t *terminal) save() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.modes == nil {
		t.modes, _ = term.GetState(int(t.f.Fd()))
	}
}

// give makes group the foreground one. SIGTTOU must be ignored: the system sends it
// to one that does so from the background.
func (t *terminal) give(group int) {
	t.save()
	_ = unix.IoctlSetPointerInt(int(t.f.Fd()), unix.TIOCSPGRP, group)
}

// takeBack gives the terminal to this process's group if group has it: a shell may have
// taken it since. One that was killed may have left it without echo, for instance.
func (t *terminal) takeBack(group int, killed bool) {
	if t.owner() != group {
		return
	}
	t.give(t.own)
	t.mu.Lock()
	defer t.mu.Unlock()
	if killed && t.modes != nil {
		_ = term.Restore(int(t.f.Fd()), t.modes)
	}
}

func (t *terminal) close() {
	if t != nil {
		_ = t.f.Close()
	}
}

// jobControl is what this process does in place of the shell: the command's group is
// none of the shell's jobs.
type jobControl struct {
	nested    bool
	suspend   chan os.Signal
	resume    chan os.Signal // for passOn
	resumed   chan os.Signal // for pause
	unread    chan os.Signal // of what is caught only lest it stop this process
	asked     atomic.Bool    // the command was sent SIGTSTP, and not SIGCONT since
	waiting   atomic.Bool    // the command is stopped because it wants the terminal
	others    chan os.Signal // to be passed on
	inherited bool           // SIGTTOU was ignored from the start
}

func (j *jobControl) begin(nested bool) {
	j.nested = nested
	j.suspend, j.resume, j.resumed = make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan os.Signal, 1)
	j.unread, j.others = make(chan os.Signal, 1), make(chan os.Signal, 64)
	j.inherited = IgnoredFromTheStart(syscall.SIGTTOU)
	notify(j.others, passedOn...) // before there is a command: one that comes now is for it
	notify(j.suspend, syscall.SIGTSTP)
	notify(j.resume, syscall.SIGCONT)
	notify(j.resumed, syscall.SIGCONT)
	// Another program of a pipeline may ask for the terminal while the command has it: that
	// stops this process's whole group, and with this process the renewal.
	if !nested {
		notify(j.unread, syscall.SIGTTIN)
	}
	StayRunning()
}

func (j *jobControl) end() {
	for _, c := range []chan os.Signal{j.suspend, j.resume, j.resumed, j.unread, j.others} {
		signal.Stop(c)
	}
}

// StayRunning keeps what this process says from stopping it (stty tostop), and the taking
// back of the terminal.
func StayRunning() {
	_ = IgnoredFromTheStart(syscall.SIGTTOU) // before it can't be known any more
	signal.Ignore(syscall.SIGTTOU)
}

// NotifySuspend sends SIGTSTP to c. While there is a group, that does what it asks for;
// else the caller is to call [Suspend].
func NotifySuspend(c chan<- os.Signal) { notify(c, syscall.SIGTSTP) }

// Suspend stops this process, if a shell can let it go on, and returns when it goes on.
func Suspend() {
	if !underJobControl() {
		return
	}
	resumed := make(chan os.Signal, 1)
	signal.Notify(resumed, syscall.SIGCONT)
	defer signal.Stop(resumed)
	if syscall.Kill(os.Getpid(), syscall.SIGSTOP) == nil {
		// Another thread may be the one that takes the signal: until then this one would run on.
		// What ends the stop, or comes before it, is SIGCONT.
		<-resumed
	}
}

// uninherited runs start such that a process that it starts does not ignore SIGTTOU: for
// a signal that is caught, a new process has the system's default again.
func (j *jobControl) uninherited(start func() error) error {
	if !j.inherited {
		signal.Notify(j.unread, syscall.SIGTTOU)
		defer signal.Ignore(syscall.SIGTTOU)
	}
	return start()
}

// terminalLook is how often a command that waits for the terminal gets a chance.
const terminalLook = 100 * time.Millisecond

// stopped does what the user of a shell expects when the command was stopped by s.
func (g *Group) stopped(s syscall.Signal) {
	switch {
	case g.tty == nil:
		// No shell waits for this process to be stopped, too. SIGCONT to it is passed on.
	case s == syscall.SIGTTIN || s == syscall.SIGTTOU:
		g.wantsTerminal()
	case g.jobs.asked.Load() || g.tty.owner() == g.pid, s == syscall.SIGTSTP && !catches(g.pid, syscall.SIGTTOU, syscall.SIGTTIN):
		g.pause()
	case (s == syscall.SIGSTOP || s == syscall.SIGTSTP) && catches(g.pid, syscall.SIGTTOU, syscall.SIGTTIN):
		g.wantsTerminal() // top, for instance, tidies up and stops itself
	}
}

// wantsTerminal gives the command the terminal as soon as this process's group has it.
func (g *Group) wantsTerminal() {
	if g.handOver() {
		return
	}
	if g.jobs.nested { // what ends up stopped is another lockkeeper's command: that one gives it the terminal
		_ = syscall.Kill(0, syscall.SIGTTIN)
	} else {
		g.events.Background()
	}
	if g.jobs.waiting.Swap(true) {
		return // it is asked already
	}
	go func() {
		for g.jobs.waiting.Load() && !closedWithin(g.done, terminalLook) {
			if g.handOver() {
				g.jobs.waiting.Store(false)
			}
		}
	}()
}

// handOver lets the command go on with the terminal, if this process's group has it.
func (g *Group) handOver() bool {
	switch g.tty.owner() {
	case g.tty.own:
		if g.events.WatchInterrupts {
			g.ctrlC.begin(g.pid)
		}
		g.tty.give(g.pid)
	case g.pid:
	default:
		return false
	}
	g.Signal(syscall.SIGCONT)
	return true
}

// pause stops this process as well, so that the shell has the terminal: the command was
// suspended, by Ctrl-Z for instance. Both go on together.
func (g *Group) pause() {
	if !underJobControl() { // nobody would let this process go on: as if nothing had been typed
		g.Signal(syscall.SIGCONT)
		return
	}
	defer g.events.Suspend()()
	had := g.tty.owner() == g.pid
	g.tty.takeBack(g.pid, false)
	if had {
		g.suspendCallers()
	}
	select {
	case <-g.jobs.resumed: // an old one
	default:
	}
	if syscall.Kill(os.Getpid(), syscall.SIGSTOP) == nil {
		<-g.jobs.resumed
	}
	g.jobs.asked.Store(false)
	if !had || !g.handOver() {
		g.Signal(syscall.SIGCONT)
	}
}

// suspendCallers: Ctrl-Z reached the command alone, and a script around this process is to
// stop, too. What this process gets of it is not for the command.
func (g *Group) suspendCallers() {
	if IgnoredFromTheStart(syscall.SIGTSTP) {
		return
	}
	signal.Stop(g.jobs.suspend)
	own := make(chan os.Signal, 1)
	signal.Notify(own, syscall.SIGTSTP)
	if syscall.Kill(0, syscall.SIGTSTP) == nil {
		<-own
	}
	notify(g.jobs.suspend, syscall.SIGTSTP)
	signal.Stop(own)
}

// underJobControl reports whether a shell of this session can let this process go on.
// The group of the session's first process has none.
func underJobControl() bool {
	session, err := unix.Getsid(0)
	return err == nil && session != unix.Getpgrp() && syscall.Kill(session, 0) == nil
}

// Interrupted reports whether SIGINT has ended the command, and alone whether Ctrl-C has
// reached nobody else. Call it after Done.
func (g *Group) Interrupted() (ended, alone bool) {
	return g.sig == syscall.SIGINT, g.hadTerminal
}

// Quit reports whether SIGQUIT has ended the command while it had the terminal: Ctrl-\ has
// reached nobody else. Call it after Done.
func (g *Group) Quit() bool { return g.sig == syscall.SIGQUIT && g.hadTerminal }

// CtrlC reports whether SIGINT came while the command had the terminal, also if it has
// ended in good order since. Call it after Done.
func (g *Group) CtrlC() bool { return g.ctrlCSeen || g.hadTerminal && g.sig == syscall.SIGINT }

// HasTerminal reports whether this process's session has a terminal.
func HasTerminal() bool {
	t := openTerminal()
	t.close()
	return t != nil
}

// Interrupt ends this process by SIGINT; group: and all of its process group. It returns
// if this process was started to ignore it.
func Interrupt(group bool) {
	if IgnoredFromTheStart(syscall.SIGINT) {
		return
	}
	signal.Reset(syscall.SIGINT)
	pid := os.Getpid()
	if group {
		pid = 0
	}
	if syscall.Kill(pid, syscall.SIGINT) == nil {
		time.Sleep(time.Second) // whichever thread it comes to
	}
}

// QuitCallers sends SIGQUIT to what else is in this process's group, as Ctrl-\ does, and
// leaves it to this process to end.
func QuitCallers() {
	if IgnoredFromTheStart(syscall.SIGQUIT) {
		return
	}
	own := make(chan os.Signal, 1)
	signal.Notify(own, syscall.SIGQUIT) // for good: without it Go ends the process with a dump
	if syscall.Kill(0, syscall.SIGQUIT) == nil {
		<-own
	}
}
