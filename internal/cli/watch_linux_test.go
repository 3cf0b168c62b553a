package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openTerminal gives both ends of a terminal of this size.
func openTerminal(t *testing.T, width, height uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	resize(t, master, width, height)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	return master, slave
}

func resize(t *testing.T, master *os.File, width, height uint16) {
	t.Helper()
	require.NoError(t, unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}))
}

// inTerminal runs lockkeeper in a terminal of its own. What it prints is in out.
func inTerminal(t *testing.T, url string, env []string, args ...string) (p *process, master *os.File) {
	t.Helper()
	master, slave := openTerminal(t, 100, 24)
	defer slave.Close()
	p = &process{Cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LOCKKEEPER_URL=" + url}, env...)
	p.Stdin, p.Stdout, p.Stderr = slave, slave, slave
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, p.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for b := make([]byte, 4096); ; {
			n, err := master.Read(b) // an error when the last slave is closed
			_, _ = p.out.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() {
		_ = p.Wait()
		<-read // all of it
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
	})
	return p, master
}

func TestWatchGivesTheTerminalBackHoweverItEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(p *process, master *os.File) error
		want int
	}{
		"Ctrl-C":  {func(_ *process, m *os.File) error { _, err := m.WriteString("\x03"); return err }, 0},
		"SIGTERM": {func(p *process, _ *os.File) error { return p.Process.Signal(syscall.SIGTERM) }, exitSignal + 15},
		"SIGHUP":  {func(p *process, _ *os.File) error { return p.Process.Signal(syscall.SIGHUP) }, exitSignal + 1},
		"SIGQUIT": {func(p *process, _ *os.File) error { return p.Process.Signal(syscall.SIGQUIT) }, exitSignal + 3},
	} {
		t.Run(name, func(t *testing.T) {
			p, master := inTerminal(t, fileURL(t), []string{"TERM=xterm"}, "watch")
			p.sees(t, "no lock is held")
			require.True(t, strings.HasPrefix(p.out.String(), screenOn))
			require.NoError(t, c.end(p, master))
			require.Equal(t, c.want, p.exits(t), &p.out)
			require.Contains(t, p.out.String(), screenOff)
			_, after, _ := strings.Cut(p.out.String(), screenOff)
			require.NotContains(t, after, "\x1b")
		})
	}
}

func TestWatchGivesTheTerminalBackWhileItIsSuspended(t *testing.T) {
	p, _ := inTerminal(t, fileURL(t), []string{"TERM=xterm"}, "watch")
	p.sees(t, "no lock is held")
	require.NoError(t, p.Process.Signal(syscall.SIGTSTP))
	p.sees(t, screenOff)
	require.Eventually(t, func() bool {
		s, ok := statOf(p.Process.Pid)
		return ok && s.state == "T"
	}, testTimeout, 5*time.Millisecond)
	require.NoError(t, p.Process.Signal(syscall.SIGCONT))
	p.sees(t, screenOff+screenOn)
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	require.Zero(t, p.exits(t), &p.out)
}

func TestWatchFollowsTheSizeOfTheTerminal(t *testing.T) {
	p, master := inTerminal(t, fileURL(t), []string{"TERM=xterm", "COLUMNS=100"}, "watch", "--interval=1h")
	p.sees(t, "lockkeeper: 0 locks held")
	resize(t, master, 12, 5)
	p.sees(t, "lockkeeper…")
}

func TestWatchColoursAndScreenAreForTerminalsThatHaveThem(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	url := fileURL(t)
	start(t, url, nil, args([]string{"run", "k"}, family(file))...)
	pids(t, file, 2)

	p, _ := inTerminal(t, url, []string{"TERM=xterm"}, "watch")
	p.sees(t, "\x1b["+good+"m█")
	p, _ = inTerminal(t, url, []string{"TERM=xterm", "NO_COLOR=1"}, "watch")
	p.sees(t, "  █")
	require.NotContains(t, p.out.String(), "m█")
	p, _ = inTerminal(t, url, []string{"TERM=dumb"}, "watch")
	p.sees(t, "holds         k  by ")
	require.NotContains(t, p.out.String(), "\x1b")
}
