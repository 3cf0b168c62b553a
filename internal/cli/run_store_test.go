//go:build unix

package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

func TestRunSaysWhichStoreAndThatNobodyHasNamedIt(t *testing.T) {
	url := fileURL(t)
	out, code := do(t, url+"?owner=hunter2", nil, "run", "k", "--", "true")
	require.Zero(t, code)
	require.True(t, strings.HasPrefix(out, "lockkeeper: holding k in "+url+", token "), out)
	require.NotContains(t, out, "no store is named")

	nowhere := []string{"TMPDIR=" + t.TempDir(), "XDG_RUNTIME_DIR="}
	for _, flags := range [][]string{{}, {"-q"}, {"--once", "-q"}} { // said with -q, too: the command is about to run
		out, code = do(t, "", nowhere, append(append([]string{"run", "k"}, flags...), "--", "true")...)
		require.Zero(t, code, out)
		require.True(t, strings.HasPrefix(out, "lockkeeper: no store is named: this lock is among this user's processes on this machine alone"), out)
		require.Equal(t, 1, strings.Count(out, "no store is named"), out)
		require.Equal(t, len(flags) == 0, strings.Contains(out, "holding k in file:///"), out)
	}

	out, code = do(t, "memory:", nil, "run", "k", "-q", "--", "true")
	require.Zero(t, code, out)
	require.Equal(t, "lockkeeper: a memory: store is this process's own: the lock keeps no other lockkeeper out (see --url, LOCKKEEPER_URL)\n", out)

	holder := start(t, url, nil, "run", "k", "--", "sleep", "1000")
	holder.Sees(t, "holding k")
	p := start(t, url, nil, "run", "k", "--", "true")
	p.Sees(t, "standing by for k in "+url+": held by ")
}

func TestRunOnceQuietPrintsNothingWhenHeld(t *testing.T) {
	url := fileURL(t)
	holder := start(t, url, nil, "run", "k", "--", "sleep", "1000")
	holder.Sees(t, "holding k")
	for _, flag := range []string{"--once", "--wait=10ms"} {
		out, code := do(t, url, nil, "run", "k", flag, "-q", "--", "true")
		require.Equal(t, exitHeld, code)
		require.Empty(t, out)
		out, _ = do(t, url, nil, "run", "k", flag, "--", "true")
		require.NotEmpty(t, out)
	}
	out, code := do(t, "redlock://127.0.0.1:1", nil, "run", "k", "--once", "-q", "--", "true")
	require.Equal(t, exitUnavailable, code)
	require.NotEmpty(t, out, "an outage is to be seen")
}

func TestRunANestedLockkeeperNeverFallsBackToAnotherStore(t *testing.T) {
	// What leads to the store was taken away: refused, by every command.
	for _, args := range []string{"run b -- true", "list", "show b", "release b --force --yes"} {
		out, code := do(t, "memory:", nil, "run", "a", "-q", "--", "sh", "-c", programtest.Lockkeeper(t)+" "+args)
		require.Equal(t, exitUsage, code, "%s: %s", args, out)
		require.Contains(t, out, `no store is named, and this runs under the lock "a"`, args)
	}
	// One that is named is another store, or the same one.
	other := fileURL(t)
	out, code := do(t, "memory:", nil, "run", "a", "-q", "--", programtest.Lockkeeper(t), "run", "a", "--url", other, "--", "true")
	require.Zero(t, code, out)
	require.Contains(t, out, "holding a in "+other)
	out, code = do(t, "memory:", nil, "run", "a", "-q", "--keep-credentials", "--", programtest.Lockkeeper(t), "run", "b", "--", "true")
	require.Zero(t, code, out)
	require.Contains(t, out, "holding b in memory:")
	// A directory stays reachable, however it was named, and though the command has another for temporary files.
	url := fileURL(t)
	nested := "TMPDIR=/nowhere " + programtest.Lockkeeper(t) + " run b -- true"
	out, code = do(t, url, nil, "run", "a", "-q", "--", "sh", "-c", nested)
	require.Zero(t, code, out)
	require.Contains(t, out, "holding b in "+url+",")
	out, code = do(t, "memory:", []string{"REDIS_NODES=127.0.0.1:1"}, "run", "a", "-q", "--url", url, "--keep-credentials", "--", "sh", "-c", nested)
	require.Zero(t, code, out)
	require.Contains(t, out, "holding b in "+url+",")
	out, code = do(t, url, []string{"LOCKKEEPER_HOLDER=me"}, "run", "a", "-q", "--", "sh", "-c", nested)
	require.Zero(t, code, out)
	require.Contains(t, out, "holding b in "+url+",", "a holder's name is none of the store's parameters that others gave")
	// With --keep-credentials so does one that a flag named, whatever the environment names.
	node := redistest.StartN(t, 1, "--appendonly", "yes", "--appendfsync", "always")[0].Addr()
	for _, named := range [][2]string{{"--url", url + "?lock-timeout=1s"}, {"--url", "redlock://" + node}, {"--nodes", node}} {
		for _, env := range []string{"memory:", ""} {
			out, code = do(t, env, []string{"REDIS_NODES=127.0.0.1:1"}, "run", "a", "-q", named[0], named[1], "--keep-credentials", "--", "sh", "-c", nested)
			require.Zero(t, code, out)
			require.Regexp(t, `holding b in \S*`+strings.TrimPrefix(strings.TrimSuffix(named[1], "?lock-timeout=1s"), "redlock://"), out)
		}
	}
	tmp := t.TempDir()
	out, code = do(t, "", []string{"TMPDIR=" + tmp, "XDG_RUNTIME_DIR="}, "run", "a", "--", "sh", "-c", nested)
	require.Zero(t, code, out)
	require.Equal(t, 1, strings.Count(out, "no store is named"), out)
	require.Regexp(t, `(?s)holding a in (file://\S+),.*holding b in (file://\S+),`, out)
}

// It would wait for the end of what it runs under.
func TestRunTheSameKeyNestedIsRefused(t *testing.T) {
	url := fileURL(t)
	for _, inner := range []string{"run a -- true", "run b -- " + programtest.Lockkeeper(t) + " run a -- true", "run a --url " + url + "/. -- true"} {
		out, code := do(t, url, nil, "run", "a", "-q", "--", "sh", "-c", programtest.Lockkeeper(t)+" "+inner)
		require.Equal(t, exitUsage, code, "%s: %s", inner, out)
		require.Contains(t, out, `"a" is held by a lockkeeper that this one runs under`)
	}
	// What says so may be old: the key is free, or another's.
	out, code := do(t, url, []string{heldEnv + "=a=1"}, "run", "a", "--", "true")
	require.Zero(t, code, out)
}

func TestAStoreIsShownWithoutSecrets(t *testing.T) {
	for raw, want := range map[string]string{
		"memory:":                   "memory:",
		"file:///run/a@b":           "file:///run/a@b",
		"file:///run/locks?owner=x": "file:///run/locks",
		"redlock://user:hunter2@h1:1,h2:2?tls-ca=/x":   "redlock://h1:1,h2:2",
		"redlock://user:hun@ter/2@h1:1,h2:2":           "redlock://h1:1,h2:2",
		"redlocks://:hunter2@[::1]:6379,h2:2/3?a=b":    "redlocks://[::1]:6379,h2:2/3",
		"redlock://u:hunter2?x@h1:1":                   "redlock://...",
		"postgres://u:hunter2@h/db?password=hunter2":   "postgres://h/db",
		"postgres://u:hun/ter@2@h:5432/db?tls-ca=/x":   "postgres://h:5432/db",
		"mysql://u:hunter2@h:3306/db?table=x":          "mysql://h:3306/db",
		"etcds://u:hunter2@h1:1,h2?prefix=hunter2":     "etcds://h1:1,h2",
		"nats://u:hunter2@h1,h2?creds=/hunter2":        "nats://h1,h2",
		"natss://hunter2@h1":                           "natss://h1",
		"s3://locks/team?endpoint=https://u:hunter2@h": "s3://...",
		"s3://locks/team?region=eu-west-1":             "s3://locks/team",
		"sqlite:/var/a%20b@c.db?table=x":               "sqlite:/var/a b@c.db",
		"sqlite:///var/a.db":                           "sqlite:/var/a.db",
		"kubernetes:///ns?owner=hunter2":               "kubernetes:///ns",
		"kubernetes://h:6443/ns?token-file=/hunter2":   "kubernetes://h:6443/ns",
		"odd:hunter2": "odd:",
	} {
		require.Equal(t, want, store{url: raw}.shown(), raw)
	}
	nodes := store{nodes: []string{"redis://u:hunter2@h1:1", "rediss://h2:2/1"}}
	require.Equal(t, "redis://h1:1,rediss://h2:2/1", nodes.shown())
}
