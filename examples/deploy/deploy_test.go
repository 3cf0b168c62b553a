//go:build unix

// Package deploy tests the files of this folder, which are to be copied.
package deploy

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m)) }

// unit is a unit's settings, each with its values in order.
type unit map[string][]string

func readUnit(t *testing.T, name string) unit {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("systemd", name))
	require.NoError(t, err)
	u, section := unit{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		default:
			name, value, found := strings.Cut(line, "=")
			require.True(t, found, line)
			u[section+"."+name] = append(u[section+"."+name], value)
		}
	}
	return u
}

func (u unit) one(t *testing.T, name string) string {
	t.Helper()
	require.Len(t, u[name], 1, name)
	return u[name][0]
}

var services = []string{"keeper.service", "report.service", "lockkeeper-lead@.service"}

// systemd itself reads the units. What it does not know it says, and goes on.
func TestSystemdKnowsAllThatTheUnitsSay(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze, which is part of systemd")
	}
	verify := func(change func(string) string, names ...string) string {
		dir := t.TempDir()
		args := []string{"verify", "--man=no"}
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join("systemd", name))
			require.NoError(t, err)
			// The programs need not be on this machine.
			unit := regexp.MustCompile(`/usr/(local/)?bin/[a-z]+`).ReplaceAllString(string(text), "/bin/true")
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, []byte(change(unit)), 0o600))
			args = append(args, strings.Replace(path, "@.", "@prices.", 1)) // an instance of a template
		}
		out, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput()
		if err != nil {
			out = append(out, err.Error()...)
		}
		return string(out)
	}
	same := func(s string) string { return s }
	require.Empty(t, verify(same, append(slices.Clone(services), "report.timer")...))
	for _, name := range services {
		require.Contains(t, verify(func(s string) string { return strings.Replace(s, "KillMode=mixed", "KillMode=mixd", 1) }, name), "mixd", name)
	}
}

// What ends a service must end its program under the lock, and leave it no time without one.
func TestServicesEndTheirProgramsWithTheLock(t *testing.T) {
	for _, name := range services {
		u := readUnit(t, name)
		require.Equal(t, "mixed", u.one(t, "Service.KillMode"), name)
		stop, err := strconv.Atoi(u.one(t, "Service.TimeoutStopSec"))
		require.NoError(t, err, name)
		require.Greater(t, stop, 12, "%s: --certain and --grace of the default ttl", name)
		require.Equal(t, "/etc/keeper.env", u.one(t, "Service.EnvironmentFile"), "%s: a minus would start it without", name)
		require.Contains(t, u.one(t, "Service.ExecStartPre"), `test -n "$$LOCKKEEPER_URL"`, name)
		require.NotContains(t, strings.Join(u["Service.ExecStart"], ""), "://", "%s: arguments are seen by everybody", name)
	}
}

// A store must be named: without one lockkeeper locks on one machine.
func TestServicesDoNotStartWithoutAStore(t *testing.T) {
	for _, name := range services {
		words := regexp.MustCompile(`^/bin/sh -c '(.*)'$`).FindStringSubmatch(readUnit(t, name).one(t, "Service.ExecStartPre"))
		require.NotNil(t, words, name)
		for url, want := range map[string]int{"": 64, "redlock://h1": 0} {
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", strings.ReplaceAll(words[1], "$$", "$"))
			cmd.Env = []string{"LOCKKEEPER_URL=" + url}
			_ = cmd.Run()
			require.Equal(t, want, cmd.ProcessState.ExitCode(), "%s with %q", name, url)
		}
	}
}

// The machines must not start a job further apart than its lock is kept.
func TestTheTimerStartsWithinTheMinimumHoldAndMakesUpForNothing(t *testing.T) {
	u := readUnit(t, "report.timer")
	seconds := func(name string) time.Duration {
		value := u.one(t, "Timer."+name)
		if !strings.HasSuffix(value, "s") {
			value += "s"
		}
		d, err := time.ParseDuration(value)
		require.NoError(t, err, name)
		return d
	}
	args := strings.Fields(readUnit(t, "report.service").one(t, "Service.ExecStart"))
	atLeast, err := time.ParseDuration(args[slices.Index(args, "--at-least")+1])
	require.NoError(t, err)
	const clocks = 30 * time.Second
	require.Less(t, seconds("AccuracySec")+seconds("RandomizedDelaySec")+clocks, atLeast)
	require.LessOrEqual(t, atLeast, 60*time.Second, "more than redlock's restart guard")
	require.Equal(t, "no", u.one(t, "Timer.Persistent"))
	require.Contains(t, u.one(t, "Timer.OnCalendar"), "UTC")
}

// command is a command line of these files with a store of files and another program.
func command(t *testing.T, url, line string, program ...string) *exec.Cmd {
	t.Helper()
	args := strings.Fields(line)
	before := slices.Index(args, "--")
	require.Positive(t, before, line)
	require.Equal(t, "lockkeeper", filepath.Base(args[0]))
	cmd := exec.Command(programtest.Lockkeeper(t), append(args[1:before+1:before+1], program...)...)
	cmd.Env = append(os.Environ(), "LOCKKEEPER_URL="+url)
	return cmd
}

func status(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return 0
}

func success(t *testing.T, name string) []string {
	t.Helper()
	return strings.Fields(readUnit(t, name).one(t, "Service.SuccessExitStatus"))
}

// The job of a timer or of cron: one machine runs it, the next finds it held though it is over,
// and that is no failure.
func TestAJobRunsOnOneMachine(t *testing.T) {
	text, err := os.ReadFile("report.cron")
	require.NoError(t, err)
	cron := regexp.MustCompile(`(?m)^[0-9*/]+ [0-9*/]+ [0-9*/]+ [0-9*/]+ [0-9*/]+ [a-z]+ (.*)$`).FindSubmatch(text)
	require.NotNil(t, cron, "the crontab has no line with a user")
	require.NotContains(t, string(cron[1]), "%", "cron ends the command there")
	require.Regexp(t, `(?m)^LOCKKEEPER_URL=`, string(text))
	for name, line := range map[string]string{"timer": readUnit(t, "report.service").one(t, "Service.ExecStart"), "cron": string(cron[1])} {
		url := "file://" + filepath.Join(t.TempDir(), "locks")
		ran := filepath.Join(t.TempDir(), "ran")
		var statuses []int
		for range 3 {
			out, err := command(t, url, line, "/bin/sh", "-c", "echo ran >>"+ran).CombinedOutput()
			statuses = append(statuses, status(err))
			require.Empty(t, string(out), "%s mails what a job prints", name)
		}
		require.Equal(t, []int{0, 75, 75}, statuses, name)
		require.Contains(t, success(t, "report.service"), "75")
		text, err := os.ReadFile(ran)
		require.NoError(t, err)
		require.Equal(t, "ran\n", string(text), name)
	}
}

// systemctl stop ends both, the one that leads and the one that stands by, without a failure.
func TestStoppingAKeeperIsNoFailure(t *testing.T) {
	line := readUnit(t, "keeper.service").one(t, "Service.ExecStart")
	url := "file://" + filepath.Join(t.TempDir(), "locks")
	for _, state := range []string{"holding", "standing by"} {
		p := programtest.Start(t, command(t, url, line, "sleep", "600"))
		p.Sees(t, state)
		stop := func() {
			p.Signal(t, syscall.SIGTERM)
			code := p.Exits(t)
			require.Contains(t, append(success(t, "keeper.service"), "0"), strconv.Itoa(code), "%s: %s", state, &p.Out)
		}
		if state == "holding" {
			defer stop() // the next one stands by
			continue
		}
		stop()
	}
}

// examples/README.md says so to those who come from flock: during the move, both locks are
// taken, the old one outside.
func TestFlockAroundLockkeeperExcludesThoseWithEither(t *testing.T) {
	flock, err := exec.LookPath("flock")
	if err != nil {
		t.Skip("no flock(1), which is Linux's")
	}
	dir, lockkeeper := t.TempDir(), programtest.Lockkeeper(t)
	old, url := filepath.Join(dir, "job.lock"), "file://"+filepath.Join(dir, "locks")
	moved := func() int {
		cmd := exec.CommandContext(t.Context(), flock, "-n", "-E", "99", old, lockkeeper, "run", "job", "--once", "-q", "--", "true")
		cmd.Env = append(os.Environ(), "LOCKKEEPER_URL="+url)
		return status(cmd.Run())
	}
	require.Equal(t, 0, moved())
	for want, holder := range map[int][]string{
		99: {flock, "-n", old, "sh", "-c", "echo held; read end"},
		75: {lockkeeper, "run", "job", "-q", "--", "sh", "-c", "echo held; read end"},
	} {
		cmd := exec.Command(holder[0], holder[1:]...)
		cmd.Env = append(os.Environ(), "LOCKKEEPER_URL="+url)
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		p := programtest.Start(t, cmd)
		p.Sees(t, "held\n")
		require.Equal(t, want, moved())
		require.NoError(t, in.Close())
		p.Exits(t)
	}
	require.Equal(t, 0, moved())
}
