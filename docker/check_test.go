package docker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

const ready = "Ready for distributed locking!"

// check runs check.sh, in an environment of PATH, HOME and env alone.
func check(t *testing.T, env []string, args ...string) (output string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", append([]string{"check.sh"}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir()}, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	require.NoError(t, ctx.Err(), "check.sh did not end: %s", &out)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), exit.ExitCode()
	}
	require.NoError(t, err)
	return out.String(), 0
}

func nodes(servers []*redistest.Server) []string {
	return []string{"REDIS_NODES=" + strings.Join(redistest.Addrs(servers), ",")}
}

func requireCheck(t *testing.T, servers []*redistest.Server, env []string, status int, contains ...string) {
	t.Helper()
	out, got := check(t, append(nodes(servers), env...))
	require.Equal(t, status, got, out)
	for _, want := range contains {
		require.Contains(t, out, want)
	}
	require.Equal(t, status == 0, strings.Contains(out, ready), out)
	require.NotContains(t, out, "check.sh:", "the shell itself complained")
}

func up(s *redistest.Server) string { return fmt.Sprintf("Checking Redis node %s... UP\n", s.Addr()) }

func down(s *redistest.Server, why string) string {
	return fmt.Sprintf("Checking Redis node %s... DOWN (%s", s.Addr(), why)
}

func TestCheckAllUp(t *testing.T) {
	s := redistest.StartN(t, 3)
	requireCheck(t, s, nil, 0, up(s[0]), up(s[1]), up(s[2]),
		"Healthy nodes: 3 / 3\n", "Status: ALL NODES HEALTHY\n")
	out, status := check(t, nil, s[0].Addr()) // arguments in place of REDIS_NODES
	require.Zero(t, status, out)
	require.Contains(t, out, "Healthy nodes: 1 / 1\n")
}

func TestCheckLeavesNothingBehind(t *testing.T) {
	s := redistest.StartN(t, 1)
	requireCheck(t, s, nil, 0)
	left := s[0].Do("PTTL", "lockkeeper:fence:{health}")
	require.NotEqual(t, "-1", left, "the probe has no expiry")
	require.Eventually(t, func() bool { return s[0].Do("DBSIZE") == "0" }, 30*time.Second, 10*time.Millisecond)
}

func TestCheckTellsQuorumFromNoQuorum(t *testing.T) {
	s := redistest.StartN(t, 3)
	s[1].Kill()
	requireCheck(t, s, nil, 1, up(s[0]), down(s[1], "Could not connect"), up(s[2]),
		"Healthy nodes: 2 / 3\n", "Quorum: yes (2 needed)\n", "DEGRADED", "1 more")
	s[0].Kill()
	requireCheck(t, s, nil, 2, "Healthy nodes: 1 / 3\n", "Quorum: NO (2 needed)\n", "NO QUORUM")
}

func TestCheckHalfOfAnEvenNumberIsNoQuorum(t *testing.T) {
	s := redistest.StartN(t, 2)
	s[1].Kill()
	requireCheck(t, s, nil, 2, "Quorum: NO (2 needed)\n")
}

func TestCheckEndsWhenANodeHangs(t *testing.T) {
	s := redistest.StartN(t, 3)
	s[2].Pause()
	requireCheck(t, s, []string{"REDIS_CHECK_TIMEOUT=1"}, 1,
		up(s[0]), up(s[1]), down(s[2], "no answer within 1s"))
}

func TestCheckSeesThatAnAnsweringNodeRefusesWrites(t *testing.T) {
	for name, test := range map[string]struct {
		options []string
		why     string
	}{
		"cluster never formed": {[]string{"--cluster-enabled", "yes"}, "answers, but refuses writes: cluster mode is on"},
		"read-only replica":    {[]string{"--replicaof", "127.0.0.1 1"}, "answers, but refuses writes: it is a read-only replica"},
		"full memory":          {[]string{"--maxmemory", "1", "--maxmemory-policy", "noeviction"}, "answers, but refuses writes: its memory is full"},
		"too few replicas":     {[]string{"--min-replicas-to-write", "1"}, "answers, but refuses writes: too few replicas"},
		"no password given":    {[]string{"--requirepass", "secret"}, "asks for a password: set REDISCLI_AUTH"},
	} {
		t.Run(name, func(t *testing.T) {
			s := append(redistest.StartN(t, 2), redistest.Start(t, test.options...))
			require.Equal(t, "PONG", s[2].Do("PING"))
			requireCheck(t, s, nil, 1, down(s[2], test.why), "Healthy nodes: 2 / 3\n")
		})
	}
}

func TestCheckPassword(t *testing.T) {
	s := redistest.StartN(t, 1, "--requirepass", "secret")
	requireCheck(t, s, []string{"REDISCLI_AUTH=secret"}, 0, up(s[0]))

	out, status := check(t, append(nodes(s), "REDISCLI_AUTH=hunter2"))
	require.Equal(t, 2, status, out)
	require.Contains(t, out, "refuses the password in REDISCLI_AUTH")
	require.NotContains(t, out, "hunter2")

	// The password stays in the environment, which other users can not read.
	seen := filepath.Join(t.TempDir(), "seen")
	fake := fakeCLI(t, fmt.Sprintf("echo \"$@\" >>%s; echo OK", seen))
	_, status = check(t, []string{"PATH=" + fake + ":" + os.Getenv("PATH"), "REDISCLI_AUTH=secret"})
	require.Zero(t, status)
	args, err := os.ReadFile(seen)
	require.NoError(t, err)
	require.Contains(t, string(args), "-h localhost -p 6381 SET")
	require.NotContains(t, string(args), "secret")
}

func TestCheckWithALocksOnlyUser(t *testing.T) {
	s := redistest.StartN(t, 1)
	s[0].Do("ACL", "SETUSER", "keeper", "on", ">secret", "-@all", "+set", "~redlock:*", "~lockkeeper:fence:*")
	s[0].Do("ACL", "SETUSER", "default", "off")
	requireCheck(t, s, []string{"REDIS_USER=keeper", "REDISCLI_AUTH=secret"}, 0, up(s[0]))
}

// fakeCLI gives a folder with a redis-cli of its own.
func fakeCLI(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "redis-cli"), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	return dir
}

func TestCheckBadInputIsNamedBeforeAnythingIsSent(t *testing.T) {
	sent := filepath.Join(t.TempDir(), "sent")
	path := "PATH=" + fakeCLI(t, "touch "+sent) + ":" + os.Getenv("PATH")
	for env, want := range map[string]string{
		"REDIS_NODES=":                       "REDIS_NODES is empty",
		"REDIS_NODES=localhost":              "node 'localhost' is not host:port",
		"REDIS_NODES=a:1,,b:2":               "node '' is not host:port",
		"REDIS_NODES=a:1,":                   "node '' is not host:port",
		"REDIS_NODES=a:1, b:2":               "without spaces",
		"REDIS_NODES=a:0":                    "port 0 is not 1 to 65535",
		"REDIS_NODES=a:65536":                "port 65536 is not 1 to 65535",
		"REDIS_NODES=a:x":                    "node 'a:x' is not host:port",
		"REDIS_NODES=-x:1":                   "node '-x:1' is not host:port",
		"REDIS_NODES=$(touch /tmp/no):1":     "without spaces",
		"REDIS_NODES=a:1,a:1":                "node 'a:1' is listed twice",
		"REDIS_NODES=redis://user:pw@host:1": "a user or password in it",
		"REDIS_NODES=user:pw@host:1, b:2":    "a user or password in it",
		"REDIS_CHECK_TIMEOUT=0":              "REDIS_CHECK_TIMEOUT is '0', want 1 to 60",
		"REDIS_CHECK_TIMEOUT=soon":           "REDIS_CHECK_TIMEOUT is 'soon', want 1 to 60",
	} {
		out, status := check(t, []string{path, env})
		require.Equal(t, 3, status, "%s: %s", env, out)
		require.Contains(t, out, want, env)
		require.NotContains(t, out, "pw", "a password was shown")
		require.NoFileExists(t, sent, env)
	}
}

func TestCheckWithoutRedisCLISaysSo(t *testing.T) {
	bin := t.TempDir()
	for _, tool := range []string{"bash", "mktemp", "sleep", "cat", "rm"} {
		path, err := exec.LookPath(tool)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(bin, tool)))
	}
	out, status := check(t, []string{"PATH=" + bin})
	require.Equal(t, 3, status, out)
	require.Contains(t, out, "redis-cli not found")

	// With it, those tools are all that is needed.
	fake := fakeCLI(t, "echo OK")
	out, status = check(t, []string{"PATH=" + fake + ":" + bin})
	require.Zero(t, status, out)
}
