package procgroup

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"golang.org/x/sys/unix"
)

// long is for what has to happen, on however busy a machine.
const long = programtest.Limit

// TestMain makes the test program its own guard.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == GuardArg {
		os.Exit(GuardMain(os.Args[2:], os.Stdin))
	}
	signal.Reset(syscall.SIGHUP, syscall.SIGINT)
	os.Exit(m.Run())
}

func alive(pid int) bool {
	s, ok := statOf(pid)
	return ok && s.state != "Z"
}

func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return !alive(pid) }, long, 5*time.Millisecond)
}

// startSleeper starts a process with this environment in a session of its own.
func startSleeper(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.Env = env
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	return cmd
}

// startOrphanGuard starts a guard whose lockkeeper, parent, is not its parent any more,
// and gives it an order.
func startOrphanGuard(t *testing.T, parent int, o order) (end func()) {
	t.Helper()
	in, conn, err := socketPair()
	require.NoError(t, err)
	defer in.Close()
	_, err = conn.Write(fmt.Appendln(nil, o))
	require.NoError(t, err)
	guard := exec.Command("/proc/self/exe", GuardArg, strconv.Itoa(parent))
	guard.Stdin = in
	require.NoError(t, guard.Start())
	t.Cleanup(func() { _ = conn.Close(); _ = guard.Wait() })
	return func() { _ = conn.Close(); _ = guard.Wait() }
}

// A guard that comes to life when its lockkeeper has been killed already has another
// parent: the first process of a container, for instance, with all others below it.
func TestAGuardThatIsLateEndsNoneOfItsNewParentsChildren(t *testing.T) {
	bystander := startSleeper(t)
	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	end := startOrphanGuard(t, gone.Process.Pid, order{-1, machineClock() + int64(time.Hour), "LOCKKEEPER_TOKEN=1"})
	end()
	require.True(t, alive(bystander.Process.Pid), "a process was killed that is not the command's")
	end = startOrphanGuard(t, gone.Process.Pid, order{-1, machineClock(), "LOCKKEEPER_TOKEN=1"})
	end()
	require.True(t, alive(bystander.Process.Pid), "a process was killed that is not the command's")
}

// Between the start of the command and the guard's order to watch its group.
func TestWhatWasStartedInTheMomentBeforeLockkeeperWasKilledIsEnded(t *testing.T) {
	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	mark := "LOCKKEEPER_TOKEN=" + strconv.Itoa(os.Getpid())
	old := startSleeper(t, mark) // older than the guard: of no command of its lockkeeper's
	born, _ := statOf(old.Process.Pid)
	require.Eventually(t, func() bool { // ages are in hundredths of a second
		s, ok := statOf(startSleeper(t).Process.Pid)
		return ok && s.start > born.start
	}, long, 5*time.Millisecond)
	end := startOrphanGuard(t, gone.Process.Pid, order{-1, machineClock() + int64(time.Hour), mark})
	marked, other := startSleeper(t, mark), startSleeper(t, "LOCKKEEPER_TOKEN=7")
	end()
	requireGone(t, marked.Process.Pid)
	require.True(t, alive(other.Process.Pid))
	require.True(t, alive(old.Process.Pid))
}

// The program's file may be deleted or replaced while it runs.
func TestTheGuardIsThisVeryProgram(t *testing.T) {
	if os.Getenv("LOCKKEEPER_TEST_GUARD") != "" {
		self, err := os.Readlink("/proc/self/exe")
		require.NoError(t, err)
		require.NoError(t, os.Remove(self))
		require.NoError(t, os.WriteFile(self, []byte("#!/bin/false\n"), 0o700))
		g, err := StartGuard("", t.Logf)
		require.NoError(t, err)
		defer g.Close()
		first := g.pid()
		require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
		require.Eventually(t, func() bool {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", g.pid()))
			return g.pid() != first && string(name) == GuardName+"\n"
		}, long, time.Millisecond)
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	text, err := os.ReadFile(self)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(file, text, 0o700))
	cmd := exec.Command(file, "-test.run=^TestTheGuardIsThisVeryProgram$", "-test.v")
	cmd.Env = append(os.Environ(), "LOCKKEEPER_TEST_GUARD=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "--- PASS: TestTheGuardIsThisVeryProgram")
}

func TestAGuardThatCannotBeReplacedIsWarnedOfOnce(t *testing.T) {
	said := make(chan string, 100)
	g, err := StartGuard("", func(format string, args ...any) { said <- fmt.Sprintf(format, args...) })
	require.NoError(t, err)
	var limit unix.Rlimit // without a descriptor, nothing can be started
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	none := unix.Rlimit{Cur: 0, Max: limit.Max}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
	restored := false
	restore := func() {
		if !restored {
			restored = true
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		}
	}
	defer restore()
	first := g.pid()
	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	require.Contains(t, <-said, "no other can be started")
	time.Sleep(2500 * time.Millisecond) // of silence: two more tries
	restore()
	require.Equal(t, "a guard process runs again", <-said)
	g.Close()
	require.Empty(t, said)
}

func TestTheGuardKillsAtItsTime(t *testing.T) {
	g, err := StartGuard("", t.Logf)
	require.NoError(t, err)
	defer g.Close()
	cmd := &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", "while :; do sleep 1; done"}, Env: []string{"M=1", "PATH=" + os.Getenv("PATH")}}
	group, err := Start(cmd, g, time.Now().Add(200*time.Millisecond), "M=1", Events{})
	require.NoError(t, err)
	require.True(t, closedWithin(group.Done(), long))
	require.True(t, group.EndedBy(syscall.SIGKILL))
	require.Equal(t, 128+9, group.Code())
	require.True(t, strings.HasPrefix(group.Outcome(), "was ended by signal 9"))
	require.True(t, group.Gone(long))
}

// Without /proc, what runs as the guard could be another program.
func TestWithoutProcItIsSaidThatNoGuardCanBeStarted(t *testing.T) {
	if os.Getenv("LOCKKEEPER_TEST_NOPROC") != "" {
		require.NoError(t, unix.Unmount("/proc", unix.MNT_DETACH))
		_, err := StartGuard("", t.Logf)
		require.ErrorContains(t, err, "needs /proc to be mounted")
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to unmount /proc for one process")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^TestWithoutProcItIsSaid", "-test.v")
	cmd.Env = append(os.Environ(), "LOCKKEEPER_TEST_NOPROC=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "--- PASS: TestWithoutProcItIsSaid")
}
