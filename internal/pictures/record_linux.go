package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// enough is longer than any step of the recording takes, on a busy machine too.
const enough = 2 * time.Minute

// record runs the keeper in two terminals, each with a shell of its own, kills the leader with
// kill -9 from a third, and returns what the terminals showed, and when.
func record() (_ []event, err error) {
	dir, err := os.MkdirTemp("", "recording-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "keeper"), "github.com/tonsurance/lockkeeper/examples/keeper")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	r := &recorder{start: time.Now()}
	var terminals [3]*terminal
	for i := range terminals {
		t, err := r.terminal(i+1, dir)
		if err != nil {
			return nil, err
		}
		defer t.end()
		terminals[i] = t
	}
	first, second, third := terminals[0], terminals[1], terminals[2]
	for _, t := range terminals {
		if _, err := t.sees(`\$ `); err != nil {
			return nil, err
		}
	}
	r.restart()
	first.enters("./keeper")
	_, err = first.sees(`update 2 done`)
	if err != nil {
		return nil, err
	}
	second.enters("./keeper")
	holder, err := second.sees(`standing by: [^:\s]+:(\d+) leads`)
	if err != nil {
		return nil, err
	}
	if _, err := first.sees(`update 4 done`); err != nil {
		return nil, err
	}
	third.enters("kill -9 " + holder[1])
	if _, err := first.sees(`Killed\r\n\$ `); err != nil {
		return nil, err
	}
	if _, err := third.sees(`\$ `); err != nil {
		return nil, err
	}
	if _, err := second.sees(`update 3 done\r\n`); err != nil {
		return nil, err
	}
	return r.done(), nil
}

// recorder gathers what all terminals show, in order.
type recorder struct {
	mu     sync.Mutex // protects what follows, and all of the terminals
	start  time.Time
	events []event
	open   [4]string // the last line of each terminal, which has not ended
	last   [4]time.Duration
	// entered is when the last command was entered, of each terminal.
	entered [4]time.Duration
}

// restart counts from now; what stood there before, the first prompts, stays open.
func (r *recorder) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.start, r.events = time.Now(), nil
}

// shown takes what a terminal shows.
func (r *recorder) shown(number int, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := time.Since(r.start)
	r.open[number] += strings.ReplaceAll(text, "\r", "")
	r.last[number] = at
	for {
		line, rest, ended := strings.Cut(r.open[number], "\n")
		if !ended {
			return
		}
		e := event{at, number, line}
		if strings.HasPrefix(line, "$ ") {
			e.at = r.entered[number]
		}
		r.events, r.open[number] = append(r.events, e), rest
	}
}

// done is everything, with the prompts at which terminals stand.
func (r *recorder) done() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := slices.Clone(r.events)
	for number, line := range r.open {
		if strings.TrimSpace(line) == "$" {
			events = append(events, event{r.last[number], number, "$"})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return int(a.at - b.at) })
	return events
}

// terminal is a pseudo terminal with a shell.
type terminal struct {
	r      *recorder
	number int
	master *os.File
	shell  *exec.Cmd
	read   sync.WaitGroup
	all    strings.Builder // protected by r.mu
	seen   int             // of all
}

func (r *recorder) terminal(number int, dir string) (*terminal, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	t := &terminal{r: r, number: number, master: master}
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, master.Close())
	}
	var slave string
	var failed error
	err = raw.Control(func(fd uintptr) { // Fd would make it blocking, and Close wait for a Read
		n, err := unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		slave = fmt.Sprintf("/dev/pts/%d", n)
		failed = errors.Join(err, unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0),
			unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: 100, Row: 24}))
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, errors.Join(err, master.Close())
	}
	in, err := os.OpenFile(slave, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, errors.Join(err, master.Close())
	}
	defer in.Close()
	t.shell = exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	t.shell.Dir, t.shell.Stdin, t.shell.Stdout, t.shell.Stderr = dir, in, in, in
	// Nothing of this machine's settings, and a directory of its own for the locks.
	t.shell.Env = []string{"PATH=" + os.Getenv("PATH"), "PS1=$ ", "TERM=dumb", "HOME=" + dir, "TMPDIR=" + dir, "LC_ALL=C"}
	t.shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := t.shell.Start(); err != nil {
		return nil, errors.Join(err, master.Close())
	}
	t.read.Go(func() {
		for b := make([]byte, 4096); ; {
			n, err := master.Read(b)
			r.shown(number, string(b[:n]))
			r.mu.Lock()
			t.all.Write(b[:n])
			r.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	return t, nil
}

// enters types a command as a person does, with a moment before it. Its time is that of the
// last key: what it does may be shown before it is.
func (t *terminal) enters(command string) {
	time.Sleep(700 * time.Millisecond)
	_, _ = t.master.WriteString(command)
	t.r.mu.Lock()
	t.r.entered[t.number] = time.Since(t.r.start)
	t.r.mu.Unlock()
	_, _ = t.master.WriteString("\n")
}

// sees waits for what a pattern matches behind what was seen last.
func (t *terminal) sees(pattern string) ([]string, error) {
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(enough); ; time.Sleep(5 * time.Millisecond) {
		t.r.mu.Lock()
		all := t.all.String()
		t.r.mu.Unlock()
		if at := re.FindStringSubmatchIndex(all[t.seen:]); at != nil {
			found := re.FindStringSubmatch(all[t.seen:])
			t.seen += at[1]
			return found, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("a terminal never showed %s but:\n%s", pattern, all)
		}
	}
}

// end ends the shell and what runs in it in the foreground. By a signal of its own: that of the
// terminal which closes is ignored below nohup.
func (t *terminal) end() {
	if raw, err := t.master.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if group, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP); err == nil && group > 0 {
				_ = unix.Kill(-group, unix.SIGKILL)
			}
		})
	}
	_ = t.master.Close()
	_ = t.shell.Process.Kill()
	_ = t.shell.Wait()
	t.read.Wait()
}
