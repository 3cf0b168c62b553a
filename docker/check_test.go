package docker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

const ready = "Ready for distributed locking!"

func TestMain(m *testing.M) { os.Exit(programtest.Main(m)) }

// check runs check.sh, in an environment of PATH (with lockkeeper), HOME and env alone.
func check(t *testing.T, env []string, args ...string) (output string, status int) {
	t.Helper()
	bin := filepath.Dir(programtest.Lockkeeper(t))                  // it stands there alone
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // it may have to build
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", append([]string{"check.sh"}, args...)...)
	cmd.Env = append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir()}, env...)
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

// durable nodes vote as soon as they are started, as those of compose.yml do.
var durable = []string{"--appendonly", "yes", "--appendfsync", "always"}

func nodes(servers []*redistest.Server) []string {
	return []string{"REDIS_NODES=" + strings.Join(redistest.Addrs(servers), ",")}
}

func requireCheck(t *testing.T, servers []*redistest.Server, env []string, status int, contains ...string) {
	t.Helper()
	// That a busy node is slow is no finding.
	out, got := check(t, slices.Concat(nodes(servers), []string{"REDIS_CHECK_TIMEOUT=30"}, env))
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
	s := redistest.StartN(t, 3, durable...)
	requireCheck(t, s, nil, 0, up(s[0]), up(s[1]), up(s[2]),
		"Healthy nodes: 3 / 3\n", "Status: ALL NODES HEALTHY\n")
	out, status := check(t, nil, s[0].Addr()) // arguments in place of REDIS_NODES
	require.Zero(t, status, out)
	require.Contains(t, out, "Healthy nodes: 1 / 1\n")
}

func TestCheckLeavesNothingBehind(t *testing.T) {
	s := redistest.StartN(t, 1, durable...)
	requireCheck(t, s, nil, 0)
	for key := range strings.Lines(s[0].Do("KEYS", "*")) {
		require.NotEqual(t, "-1", s[0].Do("PTTL", strings.TrimSpace(key)), "%s has no expiry", key)
	}
	require.Eventually(t, func() bool { return s[0].Do("DBSIZE") == "0" }, programtest.Limit, 10*time.Millisecond)
}

func TestCheckTellsQuorumFromNoQuorum(t *testing.T) {
	s := redistest.StartN(t, 3, durable...)
	s[1].Kill()
	requireCheck(t, s, nil, 1, up(s[0]), down(s[1], "dial tcp "), up(s[2]),
		"Healthy nodes: 2 / 3\n", "Quorum: yes (2 needed)\n", "DEGRADED", "1 more")
	s[0].Kill()
	requireCheck(t, s, nil, 2, "Healthy nodes: 1 / 3\n", "Quorum: NO (2 needed)\n", "NO QUORUM")
}

func TestCheckHalfOfAnEvenNumberIsNoQuorum(t *testing.T) {
	s := redistest.StartN(t, 2, durable...)
	s[1].Kill()
	requireCheck(t, s, nil, 2, "Quorum: NO (2 needed)\n")
}

// A node in its guard time needs nobody to mend it.
func TestCheckANodeInItsGuardTimeWaitsAndIsNotDown(t *testing.T) {
	s := redistest.StartN(t, 2, durable...)
	programtest.Lockkeeper(t)         // takes long, and the guard lasts a minute
	s = append(s, redistest.Start(t)) // not durable: it sits the guard out
	requireCheck(t, s, nil, 1, up(s[0]), up(s[1]),
		fmt.Sprintf("Checking Redis node %s... WAITING (restarted lately and may have forgotten locks: votes in ", s[2].Addr()),
		"Healthy nodes: 2 / 3\n")
	out, _ := check(t, append(nodes(s), "REDIS_CHECK_TIMEOUT=30"))
	require.NotContains(t, out, "DOWN")
	require.NotContains(t, out, "Options.")
}

func TestCheckAnArgumentWithoutAPortIsNamedAsOne(t *testing.T) {
	for arg, want := range map[string]string{
		"localhost": "check.sh: 'localhost' has no port, want HOST:PORT, such as localhost:6379\n",
		"":          "check.sh: '' has no port, want HOST:PORT, such as localhost:6379\n",
	} {
		out, status := check(t, nil, arg)
		require.Equal(t, 3, status, out)
		require.Equal(t, want, out)
	}
}

func TestCheckEndsWhenANodeHangs(t *testing.T) {
	s := redistest.StartN(t, 3, durable...)
	s[2].Pause()
	requireCheck(t, s, []string{"REDIS_CHECK_TIMEOUT=5"}, 1, // in which the others do answer
		up(s[0]), up(s[1]), down(s[2], "no answer within 5s"))
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
			s := append(redistest.StartN(t, 2, durable...), redistest.Start(t, append(test.options, durable...)...))
			require.Equal(t, "PONG", s[2].Do("PING"))
			requireCheck(t, s, nil, 1, down(s[2], test.why), "Healthy nodes: 2 / 3\n")
		})
	}
}

func TestCheckPassword(t *testing.T) {
	s := redistest.StartN(t, 1, append([]string{"--requirepass", "secret"}, durable...)...)
	requireCheck(t, s, []string{"REDISCLI_AUTH=secret"}, 0, up(s[0]))

	out, status := check(t, append(nodes(s), "REDISCLI_AUTH=hunter2"))
	require.Equal(t, 2, status, out)
	require.Contains(t, out, "refuses the user or the password: see REDIS_USER and REDISCLI_AUTH")
	require.NotContains(t, out, "hunter2")

	// The password stays in the environment, which other users can not read.
	seen := filepath.Join(t.TempDir(), "seen")
	fake := fakeProgram(t, "lockkeeper", fmt.Sprintf("echo \"$REDIS_NODES $REDISCLI_AUTH $LOCKKEEPER_URL $@\" >>%s", seen))
	_, status = check(t, []string{"PATH=" + fake + ":" + os.Getenv("PATH"), "REDISCLI_AUTH=secret", "REDIS_CHECK_TIMEOUT=7", "LOCKKEEPER_URL=file:///x"})
	require.Zero(t, status)
	args, err := os.ReadFile(seen)
	require.NoError(t, err)
	require.Equal(t, "localhost:6379,localhost:6380,localhost:6381 secret  health --output lines --timeout 7s\n", string(args))
	out, status = check(t, nil, "redis://:hunter2@localhost:1")
	require.Equal(t, 3, status, out)
	require.Contains(t, out, "an argument has a user or password in it (not shown)")
	require.NotContains(t, out, "hunter2")
}

func TestCheckWithALocksOnlyUser(t *testing.T) {
	s := redistest.StartN(t, 1, durable...)
	s[0].Do(append([]string{"ACL", "SETUSER", "keeper", "on", ">secret"}, strings.Fields("-@all +ping +evalsha +eval +get +set +del +pttl +pexpire +hmget +hset +time +info +config|get ~redlock:* ~lockkeeper:fence:*")...)...)
	s[0].Do("ACL", "SETUSER", "default", "off")
	requireCheck(t, s, []string{"REDIS_USER=keeper", "REDISCLI_AUTH=secret"}, 0, up(s[0]))
	requireCheck(t, s, nil, 2, down(s[0], "asks for a password: set REDISCLI_AUTH"))
}

// fakeProgram gives a folder with a program of that name.
func fakeProgram(t *testing.T, name, script string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	return dir
}

func TestCheckBadInputIsNamedBeforeAnythingIsSent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	good := listener.Addr().String()
	for env, want := range map[string]string{
		"REDIS_NODES=":                                    "REDIS_NODES is empty",
		"REDIS_NODES=" + good + ",localhost":              `REDIS_NODES: node 2 is "localhost", want host:port`,
		"REDIS_NODES=" + good + ",,b:2":                   `node 2 is "", want host:port`,
		"REDIS_NODES=" + good + ",":                       `node 2 is "", want host:port`,
		"REDIS_NODES=" + good + " b:2":                    `b:2", want host:port`,
		"REDIS_NODES=" + good + ",a:0":                    `node 2 is "a:0", want host:port`,
		"REDIS_NODES=" + good + ",a:65536":                `node 2 is "a:65536", want host:port`,
		"REDIS_NODES=" + good + ",a:x":                    `node 2 is "a:x", want host:port`,
		"REDIS_NODES=" + good + ",-x:1":                   `node 2 is "-x:1", want host:port`,
		"REDIS_NODES=" + good + ",$(touch /tmp/no):1":     `node 2 is "$(touch /tmp/no):1", want host:port`,
		"REDIS_NODES=" + good + "," + good:                "are the same server",
		"REDIS_NODES=" + good + ",redis://user:pw@host:x": "node 2 of 2: not a URL",
		"REDIS_NODES=" + good + ",user:pw@host:1":         `node 2 is "...", want host:port`,
		"REDIS_CHECK_TIMEOUT=0":                           "REDIS_CHECK_TIMEOUT is '0', want 1 to 60",
		"REDIS_CHECK_TIMEOUT=soon":                        "REDIS_CHECK_TIMEOUT is 'soon', want 1 to 60",
		"REDISCLI_OPTS=--tls":                             "REDISCLI_OPTS is set",
		"LOCKKEEPER_TLS_CA=/no/such/file":                 "/no/such/file",
	} {
		out, status := check(t, []string{"REDIS_NODES=" + good, env})
		require.Equal(t, 3, status, "%s: %s", env, out)
		require.Contains(t, out, want, env)
		require.NotContains(t, out, "pw", "a password was shown")
	}
	require.NoError(t, listener.(*net.TCPListener).SetDeadline(time.Now()))
	_, err = listener.Accept()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "something was sent")
}

// tools gives a folder with these programs of this machine alone.
func tools(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range names {
		path, err := exec.LookPath(tool)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(dir, tool)))
	}
	return dir
}

func TestCheckWithoutLockkeeperBuildsItOrAsksDockerOrSaysSo(t *testing.T) {
	base := tools(t, "bash", "dirname")
	out, status := check(t, []string{"PATH=" + base})
	require.Equal(t, 3, status, out)
	require.Contains(t, out, "lockkeeper not found: go install ")

	// In a container it reaches the nodes of the compose file, and no others.
	docker := fakeProgram(t, "docker", `echo "docker $@"; exit 2`)
	out, status = check(t, []string{"PATH=" + docker + ":" + base})
	require.Equal(t, 2, status, out)
	require.Regexp(t, `^docker compose -f /\S+/docker/compose.yml --profile check run --rm --build --no-TTY check health --output lines --timeout 3s\n$`, out)
	for _, named := range [][]string{{"PATH=" + docker + ":" + base, "REDIS_NODES=a:1"}, {"PATH=" + docker + ":" + base, "REDIS_NODES=0"}} {
		out, status = check(t, named)
		require.Equal(t, 3, status, out)
	}
	out, status = check(t, []string{"PATH=" + docker + ":" + base}, "a:1")
	require.Equal(t, 3, status, out)

	s := redistest.StartN(t, 3, durable...)
	s[0].Kill()
	env := []string{"PATH=" + tools(t, "bash", "dirname", "go", "mktemp", "rm") + ":" + base}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOROOT", "GOPROXY"} {
		value, err := exec.Command("go", "env", name).Output()
		require.NoError(t, err)
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	requireCheck(t, s, env, 1, down(s[0], "dial tcp "), up(s[1]), up(s[2]))
	s[1].Kill()
	requireCheck(t, s, env, 2, "NO QUORUM")
}
