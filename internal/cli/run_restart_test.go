//go:build unix

package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoffGrowsWhileTheCommandFailsAtOnce(t *testing.T) {
	failed := &status{code: 3}
	lost := &status{code: exitLost}
	b := backoff{base: time.Second}
	require.Equal(t, time.Second, b.after(time.Millisecond, failed))
	require.Equal(t, 2*time.Second, b.after(time.Millisecond, failed))
	require.Equal(t, 4*time.Second, b.after(0, errors.New("not found")))
	for range 100 {
		require.LessOrEqual(t, b.after(0, failed), maxPause)
	}
	require.Equal(t, maxPause, b.after(0, failed))
	require.Equal(t, time.Second, b.after(time.Millisecond, nil), "it ended well")
	require.Equal(t, time.Second, b.after(time.Millisecond, failed))
	require.Equal(t, time.Second, b.after(time.Millisecond, lost), "that was not the command's fault")
	b.after(0, failed)
	b.after(0, failed)
	require.Equal(t, time.Second, b.after(steadyRun, failed), "it ran for long")

	b = backoff{}
	require.Zero(t, b.after(0, failed))
	require.Positive(t, b.after(0, failed))
	b = backoff{base: 5 * time.Minute}
	b.after(0, failed)
	require.Equal(t, 5*time.Minute, b.after(0, failed), "never less than --restart-delay")
}

func TestRunRestartSaysHowTheCommandEnded(t *testing.T) {
	for command, want := range map[string]string{"exit 0": "ended with status 0", "exit 3": "ended with status 3", "kill -9 $$": "was ended by signal 9 (killed)"} {
		p := start(t, fileURL(t), nil, "run", "k", "--restart", "--", "sh", "-c", command)
		p.Sees(t, "lockkeeper: the command "+want+" after ")
		p.Sees(t, ": campaigning again in 1s\n")
	}
}

// Most commands die of the SIGTERM that a loss brings them: it was no request to leave.
func TestRunRestartCampaignsAgainAfterALossHoweverTheCommandEndsThen(t *testing.T) {
	for name, command := range map[string]string{
		"dies of SIGTERM": "exec sleep 1000",
		"ends in order":   `trap "exit 0" TERM; while :; do sleep 0.01; done`,
		"is killed":       `trap "" TERM; while :; do sleep 0.01; done`,
	} {
		t.Run(name, func(t *testing.T) {
			url := fileURL(t)
			p := start(t, url, nil, "run", "k", "--restart", "--restart-delay=1ms", "--ttl=6s", "--", "sh", "-c", "echo began; "+command)
			p.Sees(t, "began\n")
			out, code := do(t, url, nil, "release", "k", "--force", "--yes")
			require.Zero(t, code, out)
			p.Sees(t, "campaigning again in 1ms\n")
			require.Eventually(t, func() bool { return strings.Count(p.Out.String(), "began\n") == 2 }, testTimeout, 5*time.Millisecond, "%v", &p.Out)
		})
	}
}

// And one that gets it from anyone else is one to leave for, as before.
func TestRunRestartLeavesWhenTheCommandWasEndedBySIGTERM(t *testing.T) {
	p := start(t, fileURL(t), nil, "run", "k", "--restart", "--restart-delay=1ms", "--", "sh", "-c", "kill -TERM $$")
	require.Equal(t, exitSignal+15, p.Exits(t), &p.Out)
	require.NotContains(t, p.Out.String(), "campaigning again")
}

// Nor while it is away before its first term: another may be leading for days.
func TestRunRestartGoesOnWhileTheCommandIsReplaced(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	write := func(file, text string, mode os.FileMode) {
		require.NoError(t, os.WriteFile(file+".new", []byte(text), mode))
		require.NoError(t, os.Rename(file+".new", file))
	}
	write(script, "#!/bin/sh\necho one\nrm $0\n", 0o700)
	url := fileURL(t)
	first := start(t, url, nil, "run", "k", "--", "sleep", "1000")
	first.Sees(t, "holding k")
	p := start(t, url, nil, "run", "k", "--restart", "--restart-delay=1ms", "--", script)
	p.Sees(t, "standing by")
	require.NoError(t, os.Remove(script))
	require.NoError(t, first.Process.Signal(syscall.SIGTERM))
	p.Sees(t, "no such file or directory: campaigning again")
	_, code := do(t, url, nil, "run", "k", "--wait=1m", "-q", "--", "true")
	require.Zero(t, code, "who has no command to run keeps the lock")
	write(script, "\x00\x01", 0o700)
	p.Sees(t, "exec format error; a script without #!")
	// It goes before it says so: it must not take the next one away.
	write(script, "#!/bin/sh\nrm $0\necho one\n", 0o700)
	p.Sees(t, "one\n")
	write(script, "#!/bin/sh\necho two\nsleep 1000\n", 0o700)
	p.Sees(t, "two\n")
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Equal(t, exitSignal+15, p.Exits(t), &p.Out)

	_, code = do(t, url, nil, "run", "k", "--restart", "--", filepath.Join(dir, "mistyped"))
	require.Equal(t, exitNotFound, code, "a name that was never there is a mistake")
}

func TestRunSIGHUPIsAReloadToOneThatRestartsStandingByAndLeading(t *testing.T) {
	url, ready := fileURL(t), filepath.Join(t.TempDir(), "pids")
	first := start(t, url, nil, "run", "k", "--restart", "--restart-delay=1ms", "--", "sh", "-c", `trap "echo reloaded" HUP; echo $$ >`+ready+`; while :; do sleep 0.01; done`)
	pids(t, ready, 1)
	require.NoError(t, first.Process.Signal(syscall.SIGHUP))
	first.Sees(t, "reloaded\n")

	second := start(t, url, nil, "run", "k", "--restart", "--restart-delay=1ms", "--", "sh", "-c", `echo second; sleep 1000`)
	second.Sees(t, "standing by")
	require.NoError(t, second.Process.Signal(syscall.SIGHUP))
	require.NoError(t, first.Process.Signal(syscall.SIGTERM))
	second.Sees(t, "second\n")
	require.NoError(t, second.Process.Signal(syscall.SIGHUP)) // its command knows no reload
	second.Sees(t, "was ended by signal 1 (hangup)")
	require.Eventually(t, func() bool { return strings.Count(second.Out.String(), "second\n") == 2 }, testTimeout, 5*time.Millisecond)

	once := start(t, url, nil, "run", "k", "--", "true") // one that runs once is ended
	once.Sees(t, "standing by")
	require.NoError(t, once.Process.Signal(syscall.SIGHUP))
	require.Equal(t, exitSignal+1, once.Exits(t), &once.Out)
}
