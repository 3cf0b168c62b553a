package cli

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
)

func TestRunEverySignalThatMeansTheCommandIsPassedOn(t *testing.T) {
	all := []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM,
		syscall.SIGTERM, syscall.SIGVTALRM, syscall.SIGWINCH, syscall.SIGIO, syscall.SIGPWR, 37, 64,
	}
	for _, s := range all {
		ready := filepath.Join(t.TempDir(), "pids")
		p := start(t, fileURL(t), nil, "run", "k", "-q", "--", "sh", "-c",
			fmt.Sprintf(`trap "exit 41" %d; echo $$ >%s; while :; do sleep 0.01; done`, s, ready))
		pids(t, ready, 1)
		require.NoError(t, p.Process.Signal(s))
		require.Equal(t, 41, p.Exits(t), "%v: %s", s, &p.Out)
		require.NotContains(t, p.Out.String(), "goroutine", s)
	}
}

func TestRunAStoppedCommandEndsByASignalToLockkeeper(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		ready := filepath.Join(t.TempDir(), "pids")
		p := start(t, fileURL(t), nil, "run", "k", "--", "sh", "-c", `echo $$ >`+ready+`; while :; do sleep 0.01; done`)
		command := pids(t, ready, 1)[0]
		require.NoError(t, syscall.Kill(command, syscall.SIGSTOP))
		stoppedIs(t, command, true)
		require.NoError(t, p.Process.Signal(s))
		require.Equal(t, exitSignal+int(s), p.Exits(t), &p.Out)
	}
}

func stoppedIs(t *testing.T, pid int, want bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		s, ok := statOf(pid)
		return ok && (s.state == "T") == want
	}, testTimeout, time.Millisecond)
}

// Without a shell to give the terminal back to there is no reason to stop, and the lock is kept.
func TestRunTheCommandIsSuspendedAndGoesOnThroughLockkeeper(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "pids")
	// One process: a shell whose vforked child is stopped before its exec is not stopped itself, but waits.
	p := startCommand(t, exec.Command("setsid", "-w", programtest.Lockkeeper(t), "run", "k", "--ttl=8s", "--", "sh", "-c", `echo $PPID $$ >`+ready+`; exec sleep 600`), fileURL(t), nil)
	all := pids(t, ready, 1)
	require.NoError(t, syscall.Kill(all[0], syscall.SIGTSTP))
	stoppedIs(t, all[1], true)
	time.Sleep(10 * time.Second) // longer than the ttl: it is renewed
	stoppedIs(t, all[1], true)
	require.NoError(t, syscall.Kill(all[0], syscall.SIGCONT))
	stoppedIs(t, all[1], false)
	require.NoError(t, syscall.Kill(all[0], syscall.SIGTERM))
	require.Equal(t, exitSignal+15, p.Exits(t), &p.Out)
}

func TestRunSIGINTThatEndsTheCommandEndsLockkeeper(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "pids")
	p := start(t, fileURL(t), nil, "run", "k", "--", "sh", "-c", `echo $$ >`+ready+`; while :; do sleep 0.01; done`)
	pids(t, ready, 1)
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	p.Exits(t)
	ws := p.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ws.Signaled() && ws.Signal() == syscall.SIGINT, "%v: a shell goes on after an exit", p.ProcessState)

	// One that only says so has ended in good order.
	_, code := do(t, fileURL(t), nil, "run", "k", "-q", "--", "sh", "-c", "exit 130")
	require.Equal(t, 130, code)
}

func TestRunWhileStandingByQuitEndsAndOthersAreNothing(t *testing.T) {
	url := fileURL(t)
	first := start(t, url, nil, "run", "k", "--", "sleep", "1000")
	first.Sees(t, "holding k")
	p := start(t, url, nil, "run", "k", "--", "true")
	p.Sees(t, "standing by")
	for _, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGALRM, syscall.SIGVTALRM} {
		require.NoError(t, p.Process.Signal(s))
	}
	require.NoError(t, p.Process.Signal(syscall.SIGQUIT))
	require.Equal(t, exitSignal+3, p.Exits(t), &p.Out)
	require.NotContains(t, p.Out.String(), "goroutine")
}

// ignoredBy is what a command ignores, a bit for each signal.
func ignoredBy(t *testing.T, status string) uint64 {
	t.Helper()
	_, rest, _ := strings.Cut(status, "SigIgn:")
	fields := strings.Fields(rest)
	require.NotEmpty(t, fields, status)
	mask, err := strconv.ParseUint(fields[0], 16, 64)
	require.NoError(t, err)
	return mask
}

func TestRunTheCommandIgnoresWhatLockkeeperWasStartedToIgnoreAndNothingElse(t *testing.T) {
	bit := func(signals ...syscall.Signal) (mask uint64) {
		for _, s := range signals {
			mask |= 1 << (s - 1)
		}
		return mask
	}
	for trap, want := range map[string]uint64{
		":":                               0,
		`trap "" HUP`:                     bit(syscall.SIGHUP),
		`trap "" INT QUIT`:                bit(syscall.SIGINT, syscall.SIGQUIT), // sh -c 'lockkeeper &'
		`trap "" TSTP TTIN TTOU`:          bit(syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU),
		`trap "" HUP INT QUIT TTOU; true`: bit(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTTOU),
	} {
		p := startCommand(t, exec.Command("sh", "-c", trap+`; exec "$0" run k -q -- grep SigIgn /proc/self/status`, programtest.Lockkeeper(t)), fileURL(t), nil)
		require.Zero(t, p.Exits(t), &p.Out)
		// 32 and 33 are the C library's.
		require.Equal(t, want, ignoredBy(t, p.Out.String())&^bit(32, 33), "%s: %s", trap, &p.Out)
	}
}

// Neither the first command nor the next one.
func TestRunInATerminalTheCommandIgnoresNothingEither(t *testing.T) {
	// Signals above 31 are the C library's.
	s := newSession(t, fileURL(t), "sh", "-c",
		"lockkeeper run k --restart --restart-delay=1ms -- sh -c 'echo ignored=$((0x$(grep SigIgn /proc/self/status | cut -f2) & 0x7fffffff)); read a </dev/tty; exit $a'")
	for range 3 {
		s.Sees(t, "ignored=0\r\n")
		s.types(t, "0\n")
		s.Sees(t, "campaigning again")
	}
}
