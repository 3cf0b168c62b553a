//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// terminalSignals are those that a program with a screen has to handle.
type terminalSignals struct {
	resized, suspend, resume, quit chan os.Signal
}

func watchTerminal() terminalSignals {
	t := terminalSignals{make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan os.Signal, 1)}
	signal.Notify(t.resized, syscall.SIGWINCH)
	signal.Notify(t.suspend, syscall.SIGTSTP)
	signal.Notify(t.resume, syscall.SIGCONT)
	signal.Notify(t.quit, syscall.SIGQUIT)
	return t
}

func (t terminalSignals) stop() {
	for _, c := range []chan os.Signal{t.resized, t.suspend, t.resume, t.quit} {
		signal.Stop(c)
	}
}

// sleep stops this process as SIGTSTP would have, until it is continued.
func (t terminalSignals) sleep() {
	select {
	case <-t.resume: // an old one
	default:
	}
	if syscall.Kill(os.Getpid(), syscall.SIGSTOP) == nil {
		<-t.resume
	}
}
