//go:build unix

package procgroup

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// interruptsArg makes a guard a witness instead: a process in the command's own group,
// which reports whether SIGINT came. While the command has the terminal, Ctrl-C reaches its
// group alone, and one that ends in good order for it does not report why.
const interruptsArg = "interrupts"

// witnessTime is for a SIGINT that came just before the command ended.
const witnessTime = 50 * time.Millisecond

type witness struct {
	mu    sync.Mutex
	cmd   *exec.Cmd
	live  io.Closer // it ends when this is closed
	seen  io.Reader
	ended bool
}

// begin starts the witness, once. Without one, Ctrl-C is noticed if the command dies of it.
func (w *witness) begin(group int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd != nil || w.ended {
		return
	}
	program, err := ownProgram()
	if err != nil {
		return
	}
	cmd := exec.Command(program, GuardArg, interruptsArg)
	cmd.Args[0] = GuardName
	cmd.Env = []string{}
	cmd.Dir = "/"
	live, err := cmd.StdinPipe()
	if err != nil {
		return
	}
	seen, err := cmd.StdoutPipe()
	if err != nil {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
	if cmd.Start() == nil {
		w.cmd, w.live, w.seen = cmd, live, seen
	}
}

// end ends the witness, so that it is not counted among what is left of the group, and
// reports what it has seen.
func (w *witness) end() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.cmd == nil {
		return false
	}
	_ = w.cmd.Process.Signal(syscall.SIGCONT)
	_ = w.live.Close()
	timer := time.AfterFunc(time.Second, func() { _ = w.cmd.Process.Kill() }) // stopped again, for instance
	defer timer.Stop()
	text, _ := io.ReadAll(w.seen)
	_ = w.cmd.Wait()
	ws, _ := w.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return len(text) > 0 || ws.Signaled() && ws.Signal() == syscall.SIGINT // before it could catch it
}

// pid is the witness's, 0 if there is none.
func (w *witness) pid() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd == nil {
		return 0
	}
	return w.cmd.Process.Pid
}

// witnessMain is the witness's main.
func witnessMain(in io.Reader) int {
	setProcessName(GuardName)
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, in)
		time.Sleep(witnessTime)
	}()
	select {
	case <-interrupts:
		_, _ = os.Stdout.WriteString("1")
		<-over
	case <-over:
	}
	return 0
}
