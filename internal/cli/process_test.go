//go:build unix

package cli

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testTimeout is for what has to happen, on however busy a machine.
const testTimeout = time.Minute

var binary string

// TestMain builds the program once.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "lockkeeper-test")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if signal.Ignored(syscall.SIGHUP) { // by nohup, which run heeds: not for these tests
			signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
		}
		binary = filepath.Join(dir, "lockkeeper")
		build := exec.Command("go", "build", "-o", binary, "../../cmd/lockkeeper")
		build.Env = append(os.Environ(), "GOWORK=") // the command is a module of its own
		if out, err := build.CombinedOutput(); err != nil {
			panic(string(out))
		}
		return m.Run()
	}())
}

// process is one lockkeeper.
type process struct {
	*exec.Cmd
	out  buffer // of standard output and standard error
	done chan struct{}
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs lockkeeper with the store url and an environment of PATH and env alone.
func start(t *testing.T, url string, env []string, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(binary, args...), url, env)
}

func startCommand(t *testing.T, cmd *exec.Cmd, url string, env []string) *process {
	t.Helper()
	p := &process{Cmd: cmd, done: make(chan struct{})}
	p.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LOCKKEEPER_URL=" + url}, env...)
	p.Stdout, p.Stderr = &p.out, &p.out
	p.WaitDelay = 10 * time.Second // what was left behind may hold the pipe
	require.NoError(t, p.Start())
	go func() {
		defer close(p.done)
		_ = p.Wait()
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
	})
	return p
}

func (p *process) exits(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(testTimeout):
		require.Fail(t, "it did not end", p.out.String())
	}
	return p.ProcessState.ExitCode()
}

func (p *process) sees(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(p.out.String(), text) }, testTimeout, 5*time.Millisecond, "never said %q: %s", text, &p.out)
}

// do runs lockkeeper to its end.
func do(t *testing.T, url string, env []string, args ...string) (string, int) {
	t.Helper()
	p := start(t, url, env, args...)
	code := p.exits(t)
	return p.out.String(), code
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
