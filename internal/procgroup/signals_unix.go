//go:build unix

package procgroup

import (
	"os"
	"os/signal"
	"syscall"
)

// passedOn mean the command. Others mean this process itself: SIGPIPE, SIGCHLD, those
// for its own mistakes and limits, and SIGURG, which Go uses.
var passedOn = append([]os.Signal{
	syscall.SIGABRT, syscall.SIGALRM, syscall.SIGIO, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGVTALRM, syscall.SIGWINCH,
}, passedOnHere...)

// passOn passes signals on to the command until it has ended.
func (g *Group) passOn() {
	defer g.jobs.end()
	for {
		select {
		case s := <-g.jobs.others:
			g.Signal(s.(syscall.Signal))
		case <-g.jobs.suspend:
			g.jobs.asked.Store(true)
			g.Signal(syscall.SIGTSTP)
		case <-g.jobs.resume:
			g.jobs.asked.Store(false)
			g.Signal(syscall.SIGCONT)
		case <-g.done:
			g.tty.close()
			return
		}
	}
}

// notify is signal.Notify, but for what this process was started to ignore: the command is
// to ignore it, too.
func notify(c chan<- os.Signal, signals ...os.Signal) {
	for _, s := range signals {
		if !IgnoredFromTheStart(s.(syscall.Signal)) {
			signal.Notify(c, s)
		}
	}
}

// IgnoredFromTheStart reports whether this process was started to ignore s. Go reports it
// of some signals only: of the others, such as SIGTERM, it is not known, and false.
func IgnoredFromTheStart(s syscall.Signal) bool {
	if s == syscall.SIGQUIT {
		s = syscall.SIGINT // a shell without job control ignores both in what it starts with &
	}
	return ignoredByMask(s) || s == syscall.SIGHUP && signal.Ignored(s) || s == syscall.SIGINT && signal.Ignored(s)
}
