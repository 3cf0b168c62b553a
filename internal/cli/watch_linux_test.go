package cli

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
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

// startInTerminal starts cmd in the terminal that slave is one end of.
func startInTerminal(t *testing.T, cmd *exec.Cmd, slave *os.File) *programtest.Program {
	t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return programtest.Start(t, cmd)
}

// onTerminal is a lockkeeper in a terminal of its own. What it prints is in Out.
type onTerminal struct {
	*programtest.Program
	read chan struct{} // closed when all of it is in Out
}

func inTerminal(t *testing.T, url string, env []string, args ...string) (p onTerminal, master *os.File) {
	t.Helper()
	master, slave := openTerminal(t, 100, 24)
	defer slave.Close()
	cmd := exec.Command(programtest.Lockkeeper(t), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LOCKKEEPER_URL=" + url}, env...)
	p = onTerminal{startInTerminal(t, cmd, slave), make(chan struct{})}
	go func() {
		defer close(p.read)
		_, _ = io.Copy(&p.Out, master) // an error when the last slave is closed
	}()
	return p, master
}

func (p onTerminal) Exits(t *testing.T) int {
	t.Helper()
	code := p.Program.Exits(t)
	<-p.read
	return code
}

func TestWatchGivesTheTerminalBackHoweverItEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(p onTerminal, master *os.File) error
		want int
	}{
		"Ctrl-C":  {func(_ onTerminal, m *os.File) error { _, err := m.WriteString("\x03"); return err }, 0},
		"SIGTERM": {func(p onTerminal, _ *os.File) error { return p.Process.Signal(syscall.SIGTERM) }, exitSignal + 15},
		"SIGHUP":  {func(p onTerminal, _ *os.File) error { return p.Process.Signal(syscall.SIGHUP) }, exitSignal + 1},
		"SIGQUIT": {func(p onTerminal, _ *os.File) error { return p.Process.Signal(syscall.SIGQUIT) }, exitSignal + 3},
	} {
		t.Run(name, func(t *testing.T) {
			p, master := inTerminal(t, fileURL(t), []string{"TERM=xterm"}, "watch")
			p.Sees(t, "no lock is held")
			require.True(t, strings.HasPrefix(p.Out.String(), screenOn))
			require.NoError(t, c.end(p, master))
			require.Equal(t, c.want, p.Exits(t), &p.Out)
			require.Contains(t, p.Out.String(), screenOff)
			_, after, _ := strings.Cut(p.Out.String(), screenOff)
			require.NotContains(t, after, "\x1b")
		})
	}
}

func TestWatchGivesTheTerminalBackWhileItIsSuspended(t *testing.T) {
	p, _ := inTerminal(t, fileURL(t), []string{"TERM=xterm"}, "watch")
	p.Sees(t, "no lock is held")
	require.NoError(t, p.Process.Signal(syscall.SIGTSTP))
	p.Sees(t, screenOff)
	require.Eventually(t, func() bool {
		s, ok := statOf(p.Process.Pid)
		return ok && s.state == "T"
	}, testTimeout, 5*time.Millisecond)
	require.NoError(t, p.Process.Signal(syscall.SIGCONT))
	p.Sees(t, screenOff+screenOn)
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	require.Zero(t, p.Exits(t), &p.Out)
}

func TestWatchFollowsTheSizeOfTheTerminal(t *testing.T) {
	p, master := inTerminal(t, fileURL(t), []string{"TERM=xterm", "COLUMNS=100"}, "watch", "--interval=1h")
	p.Sees(t, "lockkeeper: 0 locks held")
	resize(t, master, 12, 5)
	p.Sees(t, "lockkeeper…")
}

func TestWatchColoursAndScreenAreForTerminalsThatHaveThem(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	url := fileURL(t)
	start(t, url, nil, args([]string{"run", "k"}, family(file))...)
	pids(t, file, 2)

	p, _ := inTerminal(t, url, []string{"TERM=xterm"}, "watch")
	p.Sees(t, "\x1b["+good+"m█")
	p, _ = inTerminal(t, url, []string{"TERM=xterm", "NO_COLOR=1"}, "watch")
	p.Sees(t, "  █")
	require.NotContains(t, p.Out.String(), "m█")
	p, _ = inTerminal(t, url, []string{"TERM=dumb"}, "watch")
	p.Sees(t, "holds         k  by ")
	require.NotContains(t, p.Out.String(), "\x1b")
}
