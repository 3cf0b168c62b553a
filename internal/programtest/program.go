package programtest

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Program is a process that runs, or has run. Its methods are for the goroutine of the test.
type Program struct {
	*exec.Cmd
	Out  Output // of standard output and standard error, but for what cmd had a writer for
	done chan struct{}
	read int // of Out, by Next
}

// Start starts cmd. The process is killed at the end of the test, however that ends.
func Start(t testing.TB, cmd *exec.Cmd) *Program {
	t.Helper()
	p := &Program{Cmd: cmd, done: make(chan struct{})}
	if p.Stdout == nil {
		p.Stdout = &p.Out
	}
	if p.Stderr == nil {
		p.Stderr = &p.Out
	}
	p.WaitDelay = 10 * time.Second // what was left behind may hold the pipe
	EndWithParent(cmd)
	if err := p.Cmd.Start(); err != nil {
		t.Fatalf("programtest: starting %s: %v", cmd.Path, err)
	}
	go func() { // ends with the process
		defer close(p.done)
		_ = p.Wait()
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill() // does nothing to one that has ended
		<-p.done
	})
	return p
}

// Done is closed when the process has ended, and all that it wrote is in Out.
func (p *Program) Done() <-chan struct{} { return p.done }

// Exits waits until the process has ended, and returns its status.
func (p *Program) Exits(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(Limit):
		t.Fatalf("it did not end in %v: %s", Limit, &p.Out)
	}
	return p.ProcessState.ExitCode()
}

// Sees waits until text is anywhere in the output. A process that ends without it fails the test.
func (p *Program) Sees(t testing.TB, text string) {
	t.Helper()
	p.Out.await(t, p.done, strconv.Quote(text), func(all string) bool { return strings.Contains(all, text) })
}

// Finds waits until pattern, a regular expression, matches anywhere in the output, and returns
// the first match with its groups. A process that ends without it fails the test.
func (p *Program) Finds(t testing.TB, pattern string) []string {
	t.Helper()
	return p.Out.finds(t, p.done, pattern)
}

// Next waits for a whole line that pattern, a regular expression, matches, and returns the match
// with its groups. The next call begins behind that line.
func (p *Program) Next(t testing.TB, pattern string) (found []string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	p.Out.await(t, p.done, "a line with "+pattern, func(all string) bool {
		for line := range strings.Lines(all[p.read : strings.LastIndexByte(all, '\n')+1]) {
			p.read += len(line)
			if found = re.FindStringSubmatch(strings.TrimSuffix(line, "\n")); found != nil {
				return true
			}
		}
		return false
	})
	return found
}

// Signal sends the process a signal.
func (p *Program) Signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatalf("programtest: sending %v: %v", s, err)
	}
}
