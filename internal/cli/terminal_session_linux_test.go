package cli

import (
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

// session is a program with a terminal of its own.
type session struct {
	*programtest.Program
	master *os.File
	read   int // of Out
}

// newSession starts a program with lockkeeper in its PATH, and ends all of its session
// at the end.
func newSession(t *testing.T, url string, argv ...string) *session {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skip(err)
	}
	blocking, slave := openTerminal(t, 200, 24)
	defer slave.Close()
	fd, err := unix.FcntlInt(blocking.Fd(), unix.F_DUPFD_CLOEXEC, 0) // one whose Close ends a Read
	require.NoError(t, err)
	require.NoError(t, unix.SetNonblock(fd, true))
	master := os.NewFile(uintptr(fd), "terminal")
	require.NoError(t, blocking.Close())
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + filepath.Dir(programtest.Lockkeeper(t)) + ":" + os.Getenv("PATH"), "LOCKKEEPER_URL=" + url, "PS1=$ ", "TERM=dumb", "HOME=" + t.TempDir()}
	p := startInTerminal(t, cmd, slave)
	go func() { _, _ = io.Copy(&p.Out, master) }() // ends with master
	t.Cleanup(func() {
		defer master.Close()
		for _, pid := range sessionOf(p.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = p.Process.Kill()
		<-p.Done()
		if t.Failed() {
			t.Log(p.Out.String())
		}
	})
	return &session{Program: p, master: master}
}

// bash is an interactive one, at its first prompt.
func bash(t *testing.T) *session {
	t.Helper()
	s := newSession(t, fileURL(t), "bash", "--norc", "--noprofile", "--noediting", "-i")
	s.Sees(t, "$ ")
	return s
}

func (s *session) types(t *testing.T, text string) {
	t.Helper()
	_, err := s.master.WriteString(text)
	require.NoError(t, err)
}

// Sees waits for text behind what was seen last.
func (s *session) Sees(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		all := s.Out.String()
		i := strings.Index(all[s.read:], text)
		if i < 0 {
			return false
		}
		s.read += i + len(text)
		return true
	}, testTimeout, 5*time.Millisecond, "never saw %q: %s", text, &s.Out)
}

// status types a command that shows the last one's. What is typed shows as well: so it must
// not look like the answer.
func (s *session) status(t *testing.T, want string) {
	t.Helper()
	s.types(t, "echo stat''us=$?\n")
	s.Sees(t, "status="+want+"\r\n")
}

// echoes shows that a command has the terminal: cat repeats what the terminal shows.
func (s *session) echoes(t *testing.T, text string) {
	t.Helper()
	s.types(t, text+"\n")
	s.Sees(t, text+"\r\n"+text+"\r\n")
}

// foreground waits until a process of this name has the terminal.
func (s *session) foreground(t *testing.T, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, pid := range sessionOf(s.Process.Pid) {
			comm, _ := os.ReadFile("/proc/" + itoa(pid) + "/comm")
			if st, ok := statOf(pid); ok && st.tty == st.group && string(comm) == name+"\n" {
				return true
			}
		}
		return false
	}, testTimeout, 5*time.Millisecond, "%s never had the terminal: %s", name, &s.Out)
}

// asleep waits until the process of this name that has the terminal waits for what is typed:
// it has used no processor between two looks.
func (s *session) asleep(t *testing.T, name string) {
	t.Helper()
	last := ""
	require.Eventually(t, func() bool {
		for _, pid := range sessionOf(s.Process.Pid) {
			comm, _ := os.ReadFile("/proc/" + itoa(pid) + "/comm")
			st, ok := statOf(pid)
			if !ok || st.tty != st.group || string(comm) != name+"\n" {
				continue
			}
			switches, _ := os.ReadFile("/proc/" + itoa(pid) + "/schedstat")
			same := last == string(switches)
			last = string(switches)
			return same && st.state == "S"
		}
		return false
	}, testTimeout, 20*time.Millisecond, "%s never slept: %s", name, &s.Out)
}

// startsBelow waits until a process of this name runs.
func (s *session) startsBelow(t *testing.T, name string) {
	t.Helper()
	require.Eventually(t, func() bool { return s.find(name) != 0 }, testTimeout, 5*time.Millisecond, "%s was never started: %s", name, &s.Out)
}
