package main

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestARealRunShowsWhatTheRecordingDoes: the same commands in real terminals, now.
func TestARealRunShowsWhatTheRecordingDoes(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	// As below nohup: what hangs up ends nothing.
	signal.Ignore(syscall.SIGHUP)
	t.Cleanup(func() { signal.Reset(syscall.SIGHUP) })
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	now, err := record()
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !runsIn(tmp) }, time.Minute, 10*time.Millisecond, "no keeper is left")
	for terminal := 1; terminal <= 3; terminal++ {
		require.Equal(t, shape(recorded(t), terminal), shape(now, terminal), "terminal %d: run go run ./internal/pictures -record", terminal)
	}
}

// runsIn reports whether the program of a process is, or was, in dir.
func runsIn(dir string) bool {
	programs, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, program := range programs {
		if of, err := os.Readlink(program); err == nil && strings.HasPrefix(of, dir) {
			return true
		}
	}
	return false
}
