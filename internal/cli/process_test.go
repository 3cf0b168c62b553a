//go:build unix

package cli

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/procgroup"
	"github.com/tonsurance/lockkeeper/internal/programtest"
)

// testTimeout is for what has to happen, on however busy a machine.
const testTimeout = programtest.Limit

func TestMain(m *testing.M) {
	// By nohup, or by a shell that has started the tests with &: run passes that on to its
	// command, and lead does not end by a signal then. What is caught, a new process does not ignore.
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if procgroup.IgnoredFromTheStart(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	os.Exit(programtest.Main(m))
}

// start runs lockkeeper with the store url and an environment of PATH and env alone.
func start(t *testing.T, url string, env []string, args ...string) *programtest.Program {
	t.Helper()
	return startCommand(t, exec.Command(programtest.Lockkeeper(t), args...), url, env)
}

func startCommand(t *testing.T, cmd *exec.Cmd, url string, env []string) *programtest.Program {
	t.Helper()
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LOCKKEEPER_URL=" + url}, env...)
	return programtest.Start(t, cmd)
}

// do runs lockkeeper to its end.
func do(t *testing.T, url string, env []string, args ...string) (string, int) {
	t.Helper()
	p := start(t, url, env, args...)
	code := p.Exits(t)
	return p.Out.String(), code
}

func fileURL(t *testing.T) string { return "file://" + t.TempDir() }

// pids waits until n lines with a pid are in the file.
func pids(t *testing.T, file string, n int) []int {
	t.Helper()
	var all []int
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(file)
		if err != nil || strings.Count(string(text), "\n") < n {
			return false
		}
		all = nil
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			require.NoError(t, err)
			all = append(all, pid)
		}
		return true
	}, testTimeout, 5*time.Millisecond)
	since := map[int]string{}
	for _, pid := range all {
		since[pid] = born(pid)
	}
	t.Cleanup(func() {
		for pid, when := range since {
			// The number of one that ended long ago may be somebody else's.
			if when != "" && born(pid) == when {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	return all
}

// born distinguishes a process from another that has its number later; "": there is none.
func born(pid int) string {
	out, _ := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output()
	return strings.TrimSpace(string(out))
}

// alive: it runs; one that nobody has reaped yet does not.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

func requireDead(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		require.False(t, alive(pid), "process %d lives", pid)
	}
}
