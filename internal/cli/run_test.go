//go:build unix

package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

// family is a command that ignores SIGTERM and so does what it has started: it
// writes both pids to the file.
func family(file string) []string {
	const script = `trap "" TERM; echo $$ >>$0; sh -c 'echo $$ >>'$0'; while :; do sleep 1; done' & wait; while :; do sleep 1; done`
	return []string{"--", "sh", "-c", script, file}
}

func args(flags []string, command []string) []string { return append(flags, command...) }

func TestRunTheStatusIsTheCommands(t *testing.T) {
	url := fileURL(t)
	for command, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -9 $$": 128 + 9} {
		out, code := do(t, url, nil, "run", "k", "-q", "--", "sh", "-c", command)
		require.Equal(t, want, code, command)
		require.Empty(t, out)
	}
	_, code := do(t, url, nil, "run", "k", "--", "no-such-command")
	require.Equal(t, exitNotFound, code)
	_, code = do(t, url, nil, "run", "k", "--", "/dev/null")
	require.Equal(t, exitNoExec, code)
}

func TestRunTheCommandKnowsKeyAndTokenAndNoCredential(t *testing.T) {
	url := fileURL(t)
	env := []string{"REDIS_NODES=redis://:hunter2@h:1", "REDISCLI_AUTH=hunter2", "REDIS_USER=hunter2",
		"OTHER=kept", "LOCKKEEPER_TOKEN=9"}
	out, code := do(t, url+"?owner=hunter2", env, "run", "k", "-q", "--", "env")
	require.Zero(t, code)
	require.Contains(t, out, "LOCKKEEPER_KEY=k\n")
	require.Regexp(t, `(?m)^LOCKKEEPER_TOKEN=\d{2,}$`, out)
	require.Equal(t, 1, strings.Count(out, "LOCKKEEPER_TOKEN="), out)
	require.Contains(t, out, "OTHER=kept\n")
	require.NotContains(t, out, "hunter2")

	out, _ = do(t, url, env, "run", "k", "-q", "--keep-credentials", "--", "env")
	require.Contains(t, out, "REDISCLI_AUTH=hunter2\n")
}

func TestRunTokensRise(t *testing.T) {
	url, last := fileURL(t), 0
	for range 3 {
		out, _ := do(t, url, nil, "run", "k", "-q", "--", "sh", "-c", "echo $LOCKKEEPER_TOKEN")
		token, err := strconv.Atoi(strings.TrimSpace(out))
		require.NoError(t, err)
		require.Greater(t, token, last)
		last = token
	}
}

func TestRunWhileAnotherHolds(t *testing.T) {
	url, file := fileURL(t), filepath.Join(t.TempDir(), "pids")
	first := start(t, url, nil, args([]string{"run", "k"}, family(file))...)
	pids(t, file, 2)
	out, code := do(t, url, nil, "run", "k", "--once", "--", "echo", "ran")
	require.Equal(t, exitHeld, code, out)
	require.NotContains(t, out, "ran\n")
	_, code = do(t, url, nil, "run", "k", "--wait", "10ms", "--", "echo", "ran")
	require.Equal(t, exitHeld, code)

	second := start(t, url, nil, "run", "k", "--", "echo", "ran")
	second.Sees(t, "held by ")
	require.NoError(t, second.Process.Signal(syscall.SIGTERM))
	require.Equal(t, exitSignal+15, second.Exits(t))

	third := start(t, url, nil, "run", "k", "--", "echo", "ran")
	third.Sees(t, "standing by")
	require.NoError(t, first.Process.Kill())
	third.Sees(t, "ran\n")
	require.Zero(t, third.Exits(t))
}

func TestRunSlotsLetNIn(t *testing.T) {
	url := fileURL(t)
	for i := range 2 {
		file := filepath.Join(t.TempDir(), strconv.Itoa(i))
		start(t, url, nil, args([]string{"run", "k", "--slots=2", "--once"}, family(file))...)
		pids(t, file, 2)
	}
	_, code := do(t, url, nil, "run", "k", "--slots=2", "--once", "--", "true")
	require.Equal(t, exitHeld, code)
	out, code := do(t, url, nil, "run", "k", "--slots=3", "--once", "-q", "--", "sh", "-c", "echo $LOCKKEEPER_KEY")
	require.Zero(t, code)
	require.Equal(t, "k;slot=3\n", out)
}

// A deployment that brings a limit in has both kinds for a while.
func TestRunWithoutSlotsCountsAsOneOfThem(t *testing.T) {
	url := fileURL(t)
	for i, flags := range [][]string{{"run", "k", "--once"}, {"run", "k", "--slots=2", "--once"}} {
		file := filepath.Join(t.TempDir(), strconv.Itoa(i))
		start(t, url, nil, args(flags, family(file))...)
		pids(t, file, 2)
	}
	for _, flags := range [][]string{{"run", "k", "--once", "--", "true"}, {"run", "k", "--slots=2", "--once", "--", "true"}} {
		out, code := do(t, url, nil, flags...)
		require.Equal(t, exitHeld, code, "a third: %s", out)
	}
}

func TestRunSignalsArePassedOn(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		ready := filepath.Join(t.TempDir(), "pids")
		p := start(t, fileURL(t), nil, "run", "k", "--", "sh", "-c",
			`trap "exit 41" INT TERM HUP; echo $$ >`+ready+`; while :; do sleep 0.01; done`)
		pids(t, ready, 1)
		require.NoError(t, p.Process.Signal(s))
		require.Equal(t, 41, p.Exits(t), "%v: %s", s, &p.Out)
	}
}

// nohup has its meaning for the command, too.
func TestRunWhatLockkeeperWasStartedToIgnoreTheCommandIgnores(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "pids")
	p := startCommand(t, exec.Command("sh", "-c", `trap "" HUP; exec "$0" "$@"`, programtest.Lockkeeper(t),
		"run", "k", "--", "sh", "-c", `trap "exit 41" TERM; echo $$ >`+ready+`; while :; do sleep 0.01; done`), fileURL(t), nil)
	pids(t, ready, 1)
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 41, p.Exits(t), &p.Out)
}

func TestRunNobodyHasToReadWhatLockkeeperSays(t *testing.T) {
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	defer writer.Close()
	cmd := exec.Command(programtest.Lockkeeper(t), "run", "k", "--", "sh", "-c", "exit 3")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LOCKKEEPER_URL=" + fileURL(t)}
	cmd.Stderr = writer
	_ = cmd.Run()
	require.Equal(t, 3, cmd.ProcessState.ExitCode(), cmd.ProcessState)
}

func TestRunAKilledLockkeeperTakesTheWholeGroupAlong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, fileURL(t), nil, args([]string{"run", "k"}, family(file))...)
	all := pids(t, file, 2)
	require.NoError(t, p.Process.Kill())
	require.Eventually(t, func() bool { return !alive(all[0]) && !alive(all[1]) }, testTimeout, 5*time.Millisecond)
}

func TestRunALostLeaseEndsTheWholeGroup(t *testing.T) {
	url, file := fileURL(t), filepath.Join(t.TempDir(), "pids")
	p := start(t, url, nil, args([]string{"run", "k", "--ttl=6s"}, family(file))...)
	all := pids(t, file, 2)
	out, code := do(t, url, nil, "release", "k", "--force", "--yes")
	require.Zero(t, code, out)
	require.Contains(t, out, "broke the hold of k")
	require.Equal(t, exitLost, p.Exits(t), &p.Out)
	requireDead(t, all)
}

func TestRunWhatTheCommandLeftIsEndedBeforeTheLockIsFreed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, fileURL(t), nil, "run", "k", "--ttl=6s", "--", "sh", "-c",
		`sh -c 'trap "" TERM; echo $$ >`+file+`; while :; do sleep 1; done' & while [ ! -s `+file+` ]; do sleep 0.01; done; exit 5`)
	all := pids(t, file, 1)
	require.Equal(t, 5, p.Exits(t), &p.Out)
	requireDead(t, all)
	require.Contains(t, p.Out.String(), "left processes")
}

func TestRunRestartCampaignsAgainUntilASignal(t *testing.T) {
	url, file := fileURL(t), filepath.Join(t.TempDir(), "pids")
	p := start(t, url, nil, "run", "k", "--restart", "--restart-delay=1ms", "--", "sh", "-c", "echo $$ >>"+file+"; exit 1")
	pids(t, file, 3)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Contains(t, []int{1, exitSignal + 15}, p.Exits(t), &p.Out)

	file = filepath.Join(t.TempDir(), "others") // the first may have been run more than three times
	again := start(t, url, nil, args([]string{"run", "k", "--restart", "--ttl=6s"}, family(file))...)
	first := pids(t, file, 2)
	_, code := do(t, url, nil, "release", "k", "--force", "--yes")
	require.Zero(t, code)
	again.Sees(t, "campaigning again")
	requireDead(t, first)
	require.Regexp(t, `(?s)holding k.*holding k`, func() string {
		again.Sees(t, "campaigning again in 1s\nlockkeeper: holding k")
		return again.Out.String()
	}())
}

// One that is cut off from the nodes has stopped before the next one begins, though
// its command ignores SIGTERM.
func TestRunOneThatIsCutOffStopsBeforeTheNextBegins(t *testing.T) {
	s := redistest.StartN(t, 1, "--appendonly", "yes", "--appendfsync", "always")[0]
	proxy := redistest.NewProxy(t, s.Addr())
	log := filepath.Join(t.TempDir(), "log")
	cutOff := start(t, "redlock://"+proxy.Addr(), nil, "run", "k", "--ttl=8s", "--grace=3s", "--", "sh", "-c",
		`trap "" TERM; sh -c 'while :; do echo first >>`+log+`; sleep 0.01; done' & wait`)
	read := func() string {
		text, _ := os.ReadFile(log)
		return string(text)
	}
	require.Eventually(t, func() bool { return strings.Contains(read(), "first") }, testTimeout, 5*time.Millisecond, &cutOff.Out)
	next := start(t, "redlock://"+s.Addr(), nil, "run", "k", "--", "sh", "-c", "echo next >>"+log+"; sleep 1")
	next.Sees(t, "standing by")
	proxy.Blackhole(true)
	require.Zero(t, next.Exits(t), &next.Out)
	require.Equal(t, exitLost, cutOff.Exits(t), &cutOff.Out)
	require.True(t, strings.HasSuffix(read(), "first\nnext\n"), "the first still worked")
	require.Regexp(t, regexp.MustCompile("ending the command"), cutOff.Out.String())
}

func TestRunBadInputIsToldBeforeAnythingRuns(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"run"}, "no argument is given, want: lockkeeper run KEY"},
		{[]string{"list", "a", "b"}, "the arguments are [\"a\" \"b\"], want: lockkeeper list [PREFIX]"},
		{[]string{"completion", "tcsh"}, "want bash, zsh, fish or powershell"},
		{[]string{"version", "--output=x"}, `--output is "x"`},
		{[]string{"run", "k"}, "want one KEY"},
		{[]string{"run", "k", "true"}, "want one KEY"},
		{[]string{"run", "k", "x", "--", "true"}, "want one KEY"},
		{[]string{"run", "", "--", "true"}, "key is empty"},
		{[]string{"run", "k", "--ttl=0s", "--", "true"}, "ttl"},
		{[]string{"run", "k", "--grace=30s", "--", "true"}, "--grace is 30s"},
		{[]string{"run", "k", "--once", "--wait=1s", "--", "true"}, "--once and --wait"},
		{[]string{"run", "k", "--slots=0", "--", "true"}, "--slots is 0"},
		{[]string{"run", "k", "--nonsense", "--", "true"}, "--nonsense"},
		{[]string{"nonsense"}, "nonsense"},
		{[]string{"list", "--output=x"}, `--output is "x"`},
		{[]string{"list", "--url=http://user:hunter2@h"}, "file:"},
		{[]string{"list", "--nodes=user:hunter2@h"}, "host:port"},
		{[]string{"release", "k"}, "--force"},
		{[]string{"run", "k", "--ttl=1ns", "--", "true"}, "--ttl (REDIS_LOCK_TTL_MS) is 1ns, want 1s or more"},
		{[]string{"run", "k", "--ttl=2ms", "--", "true"}, "--ttl (REDIS_LOCK_TTL_MS) is 2ms, want 1s or more"},
		{[]string{"run", "k", "--ttl=50ms", "--", "true"}, "--ttl (REDIS_LOCK_TTL_MS) is 50ms, want 1s or more: in less, a machine that is busy may not start"},
		{[]string{"run", "k", "--ttl=999ms", "--", "true"}, "--ttl (REDIS_LOCK_TTL_MS) is 999ms, want 1s or more"},
		{[]string{"run", "k", "--ttl=5s", "--grace=1ms", "--", "true"}, "--grace is 1ms, want 100ms or more: in less, what is killed may outlive the lease"},
		{[]string{"run", "k", "--ttl=9000h", "--", "true"}, "ttl is 9000h0m0s, want 1ms to 8760h0m0s (key \"k\")\n"},
		{[]string{"run", "k", "--ttl=10s", "--grace=9.999s", "--", "true"}, "--ttl is 10s and --grace 9.999s, want 2ms or more between them"},
		{[]string{"lead", "k", "--ttl=10s", "--grace=9.999s"}, "--ttl is 10s and --grace 9.999s, want 2ms or more between them"},
		{[]string{"run", "k", "--wait=0", "--", "true"}, "--wait is 0s, want more than 0; --once does not wait"},
		{[]string{"run", "k", "--url=", "--", "true"}, "--url is empty"},
		{[]string{"clear", "", "--yes", "--nodes", ""}, "--nodes is empty"},
		{[]string{"lead", "k", "--url=/run/locks"}, "--url is a path, want a URL, such as file:///run/locks\n"},
		{[]string{"run", "k", "--url=h1:1,h2:2,h3:3", "--", "true"}, "want a URL, such as redlock://h1:1,h2:2,h3:3 for Redis\n"},
		{[]string{"run", "k", "--url=file:///$HOME/locks", "--", "true"}, `--url: the path has "$HOME" in it, which nothing has expanded`},
		{[]string{"list", "--url=sqlite:~/locks.db"}, `--url: the path has "~" in it, which nothing has expanded`},
		{[]string{"run", "k", "--url=file:locks", "--", "true"}, "--url: want an absolute path"},
		{[]string{"list", "--url=http://h"}, "--url: want a URL that starts with"},
		{[]string{"list", "--nodes=h:1?x"}, "--nodes: node 1 is"},
	} {
		out, code := do(t, "file:///nowhere/at/all", nil, c.args...)
		require.Equal(t, exitUsage, code, "%v: %s", c.args, out)
		require.Contains(t, out, c.want, c.args)
		require.NotContains(t, out, "hunter2")
		require.LessOrEqual(t, strings.Count(out, "\n"), 2, out)
	}
}

func TestRunAScriptThatTheSystemCanNotRunIsSaidToBeThat(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		script, want string
		code         int
	}{
		"bare":    {"echo hello\n", "exec format error; a script without #! is given as: sh '" + dir + "/bare'\n", exitNoExec},
		"windows": {"#!/bin/sh\r\necho hello\r\n", `its first line names "/bin/sh\r", which is not there` + "\n", exitNotFound},
		"moved":   {"#! /nosuch/python -u\n", `its first line names "/nosuch/python", which is not there` + "\n", exitNotFound},
	} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(c.script), 0o700))
		out, code := do(t, fileURL(t), nil, "run", "k", "--", file)
		require.Equal(t, c.code, code, out)
		require.True(t, strings.HasSuffix(out, c.want), out)
	}
}

func TestAMistakeInTheEnvironmentsURLIsSaidToBeThere(t *testing.T) {
	for _, args := range [][]string{{"run", "k", "--", "true"}, {"run", "k", "--holder=me", "--", "true"}, {"list"}, {"lead", "k", "--listen=127.0.0.1:0"}} {
		for url, want := range map[string]string{
			"file:locks":              "want an absolute path",
			fileURL(t) + " ":          "the URL begins or ends with a space", // another directory than it says elsewhere
			"sqlite:/tmp/x.db\r":      "a line's end",
			"redlock://h1?prefix=a\r": "a line's end",
		} {
			out, code := do(t, url, nil, args...)
			require.Equal(t, exitUsage, code, out)
			require.Contains(t, out, "lockkeeper: LOCKKEEPER_URL: ", args)
			require.Contains(t, out, want, args)
		}
	}
}

func TestAFileInTheEnvironmentThatNothingHasExpandedIsRefused(t *testing.T) {
	for _, name := range []string{passwordFile, tlsCA, tlsCert, tlsKey} {
		for _, args := range [][]string{{"list", "--nodes=h:1"}, {"list", "--url=redlock://h:1"}} {
			out, code := do(t, "", []string{name + "=$HOME/secret"}, args...)
			require.Equal(t, exitUsage, code, out)
			require.Contains(t, out, name+" has a variable ($NAME) or a leading ~ in it, which nothing has expanded, want the path written out\n")
		}
	}
}

// An outage is no reason for a line at each try.
func TestRunTellsOnceThatItCannotRenew(t *testing.T) {
	s := redistest.StartN(t, 1, "--appendonly", "yes", "--appendfsync", "always")[0]
	proxy := redistest.NewProxy(t, s.Addr())
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, "redlock://"+proxy.Addr(), nil, args([]string{"run", "k", "--ttl=6s", "--grace=500ms", "--restart"}, family(file))...)
	pids(t, file, 2)
	proxy.Close()
	p.Sees(t, "campaigning again")
	require.Equal(t, 1, strings.Count(p.Out.String(), "renewal failed, which ends the command in "), &p.Out)
	require.Contains(t, p.Out.String(), "lease lost: not renewed in time")
}

// On a store without ages a process that has just started can't know that a hold is over: a job
// that asks once is refused for ever, and one that outwaits a hold that is kept runs twice.
func TestQuietSaysNothingOfAHolderAndNamesOneThatMayBeDead(t *testing.T) {
	held := &lock.HeldError{Key: "k", Holder: "web-1:1", RetryAfter: time.Second}
	dead := &lock.HeldError{Key: "k", Holder: "web-1:1", RetryAfter: time.Second, Unconfirmed: true}
	const silent, wait, grace = "", "which may be dead: wait 1s", "its URL needs grace="
	for _, c := range []struct {
		quiet   bool
		atLeast time.Duration
		url     string
		err     error
		want    string
	}{
		{false, 0, "etcd://h", held, "k is held by web-1:1, for up to 1s"},
		{false, 0, "etcd://h", dead, wait},
		{false, time.Minute, "etcd://h", dead, grace},
		{false, time.Minute, "etcd://h", held, "k is held by web-1:1, for up to 1s"},
		{false, time.Minute, "etcd://h?grace=5m", dead, wait},
		{true, 0, "etcd://h", held, silent},
		{true, 0, "etcd://h", dead, wait},
		{true, time.Minute, "etcd://h", fmt.Errorf("acquire: %w", dead), grace},
		{true, time.Minute, "etcd://h?grace=5m", dead, silent},
		{true, time.Minute, "etcd://[::1]:1,[::1]:2?grace=5m", dead, silent},
		{false, time.Minute, "nats://h:1,[::1]:2?replicas=3&grace=5m", dead, wait},
		{true, time.Minute, "etcd://h", fmt.Errorf("acquire: %w", held), silent},
		{true, 0, "etcd://h", lock.ErrUnavailable, "the store can't decide"},
	} {
		err := (&runner{quiet: c.quiet, atLeast: c.atLeast, store: store{url: c.url}}).refused(c.err)
		require.Equal(t, codeOf(c.err), codeOf(err), "%v", c)
		var s *status
		if errors.As(err, &s) && s.err == nil {
			require.Empty(t, c.want, "%v", c)
			continue
		}
		require.NotEmpty(t, c.want, "%v", c)
		require.Contains(t, words(err), c.want, "%v", c)
	}
}
