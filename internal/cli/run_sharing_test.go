//go:build unix

package cli

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
)

func TestSharedRunsReadTogetherAndAnExclusiveOneIsAlone(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		first, second := holder(t, url, nil, "doc", "--shared"), holder(t, url, nil, "doc", "--shared", "--once")
		out, code := do(t, url, nil, "run", "doc", "--exclusive", "--once", "--", "echo", "ran")
		require.Equal(t, exitHeld, code, out)
		require.Regexp(t, `^lockkeeper: doc is held by \S+:\d+`, out)
		out, code = do(t, url, nil, "run", "--exclusive", "--wait=5s", "doc", "--", "echo", "ran")
		require.Equal(t, exitHeld, code, out)
		require.Contains(t, out, "it was not free within the 5s of --wait")

		// Readers are named, and their places only where one has to be named.
		out, code = do(t, url, nil, "list")
		require.Zero(t, code, out)
		require.Regexp(t, `(?m)^KEY +HOLDER +TOKEN +LEFT +HELD FOR +WAITING +AS$`, out)
		require.Equal(t, 2, strings.Count(out, " reader\n"), out)
		require.NotContains(t, out, ";readers")
		out, code = do(t, url, nil, "show", "doc")
		require.Zero(t, code, out)
		require.Contains(t, out, "doc has readers (run --shared), 2 of them now\n")
		require.Contains(t, out, "doc has no writer, and nobody is at its gate\n")
		r := shown(t, url, "doc")
		require.Len(t, r.Readers, 2)
		require.Equal(t, "doc", r.Readers[0].ReaderOf)
		require.Equal(t, "reader", r.Readers[0].As)

		writer := start(t, url, nil, "run", "doc", "--exclusive", "--", "sleep", "1000")
		writer.Sees(t, "standing by for doc in ")
		out, code = do(t, url, nil, "run", "doc", "--shared", "--once", "--", "echo", "ran")
		require.Equal(t, exitHeld, code, "no reader passes a writer that waits: %s", out)
		for _, reader := range []*programtest.Program{first, second} {
			require.NoError(t, reader.Process.Signal(syscall.SIGINT)) // its command ignores SIGTERM alone
			reader.Exits(t)
		}
		writer.Sees(t, "holding doc as the writer in ")
		out, _ = do(t, url, nil, "list")
		require.Equal(t, 2, strings.Count(out, "\n"), "the writer alone, without its places: %s", out)
		require.Contains(t, out, " writer\n")
		require.Equal(t, "writer", shown(t, url, "doc").As)
		out, code = do(t, url, nil, "run", "doc", "--shared", "--once", "--", "echo", "ran")
		require.Equal(t, exitHeld, code, out)
		out, code = do(t, url, nil, "run", "doc", "--once", "--", "echo", "ran")
		require.Equal(t, exitHeld, code, "a plain run, too: %s", out)

		// One that is stopped while it stands by leaves nothing that keeps others out.
		waiter := start(t, url, nil, "run", "doc", "--exclusive", "--", "true")
		waiter.Sees(t, "standing by for doc")
		require.NoError(t, waiter.Process.Signal(syscall.SIGTERM))
		require.Equal(t, exitSignal+15, waiter.Exits(t))
		require.NoError(t, writer.Process.Signal(syscall.SIGTERM))
		require.Equal(t, exitSignal+15, writer.Exits(t))
		out, code = do(t, url, nil, "run", "doc", "--shared", "-q", "--", "sh", "-c", "echo $LOCKKEEPER_KEY $LOCKKEEPER_TOKEN")
		require.Zero(t, code, out)
		require.Regexp(t, `^doc \d+\n$`, out, "the key's own name, to which the token belongs")
		out, code = do(t, url, nil, "list")
		require.Zero(t, code)
		require.Equal(t, "no lock is held\n", out)
	})
}

func TestSharedRunsAreAsManyAsSlotsSays(t *testing.T) {
	url := fileURL(t)
	for range 2 {
		holder(t, url, nil, "doc", "--shared", "--slots=2")
	}
	_, code := do(t, url, nil, "run", "doc", "--shared", "--slots=2", "--once", "--", "true")
	require.Equal(t, exitHeld, code)
	_, code = do(t, url, nil, "run", "doc", "--shared", "--once", "--", "true")
	require.Zero(t, code, "another says 16")
}

// A reader that is killed frees its place: at once, with files.
func TestAReaderThatIsKilledKeepsNoWriterOut(t *testing.T) {
	url := fileURL(t)
	reader := holder(t, url, nil, "doc", "--shared")
	writer := start(t, url, nil, "run", "doc", "--exclusive", "--", "echo", "ran")
	writer.Sees(t, "standing by for doc")
	require.NoError(t, reader.Process.Kill())
	writer.Sees(t, "ran\n")
	require.Zero(t, writer.Exits(t))
}

func TestReadersAndWriterCanBeAskedToResignAndBroken(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		reader := start(t, url, nil, "run", "doc", "--shared", "--ttl=6s", "--", "sleep", "1000")
		reader.Sees(t, "holding doc as a reader")
		place := shown(t, url, "doc").Readers[0].Key
		out, code := do(t, url, nil, "resign", place, "--wait=1m")
		require.Zero(t, code, out)
		require.Equal(t, exitSignal+15, reader.Exits(t))
		writer := start(t, url, nil, "run", "doc", "--exclusive", "--ttl=6s", "--", "sleep", "1000")
		writer.Sees(t, "holding doc as the writer")
		out, code = do(t, url, nil, "resign", "doc", "--wait=1m")
		require.Zero(t, code, out)
		require.Equal(t, exitSignal+15, writer.Exits(t))

		reader = start(t, url, nil, "run", "doc", "--shared", "--ttl=6s", "--", "sleep", "1000")
		reader.Sees(t, "holding doc as a reader")
		out, code = do(t, url, nil, "release", "doc", "--force", "--yes")
		require.Equal(t, exitHeld, code, out)
		place = shown(t, url, "doc").Readers[0].Key
		require.Contains(t, out, "lockkeeper release "+quoted(place)+" --force")
		out, code = do(t, url, nil, "release", place, "--force", "--yes", "--token", shown(t, url, "doc").Readers[0].Token)
		require.Zero(t, code, out)
		require.Equal(t, exitLost, reader.Exits(t))
		writer = start(t, url, nil, "run", "doc", "--exclusive", "--ttl=6s", "--", "sleep", "1000")
		writer.Sees(t, "holding doc as the writer")
		out, code = do(t, url, nil, "release", "doc", "--force", "--yes")
		require.Zero(t, code, out)
		require.Equal(t, exitLost, writer.Exits(t))
	})
}

// Whatever the inner one wants of the same key: it would wait for its own end, or for a
// writer that does.
func TestSharingTheSameKeyNestedIsRefused(t *testing.T) {
	url := fileURL(t)
	for _, outer := range []string{"--shared", "--exclusive", "--ttl=30s"} {
		for _, inner := range []string{"--shared", "--exclusive", "--ttl=30s"} {
			out, code := do(t, url, nil, "run", "a", "-q", outer, "--", "sh", "-c", programtest.Lockkeeper(t)+" run a "+inner+" -- true")
			require.Equal(t, exitUsage, code, "%s in %s: %s", inner, outer, out)
			require.Contains(t, out, `"a" is held by a lockkeeper that this one runs under`)
		}
		out, code := do(t, url, nil, "run", "a", "-q", outer, "--", "sh", "-c", programtest.Lockkeeper(t)+" run b --exclusive -- true")
		require.Zero(t, code, "another key is another: %s", out)
	}
}

func TestWhatSharingDoesNotGoWithIsRefusedWithWhatToWrite(t *testing.T) {
	for flags, want := range map[string]string{
		"--shared --exclusive":             "--shared and --exclusive are given, want one of them",
		"--exclusive --slots=1":            "--exclusive and --slots 1 are given: a writer is alone",
		"--shared --slots=17":              "--slots is 17, want 1 to 16 with --shared",
		"--shared --slots=0":               "--slots is 0, want 1 to 1024",
		"--shared --at-least=1m --once":    "lockkeeper run 'k-once' --once --at-least 1m0s --keep-credentials -- lockkeeper run --shared 'k' -- ./command",
		"--exclusive --at-least=1m --once": "lockkeeper run 'k-once' --once --at-least 1m0s --keep-credentials -- lockkeeper run --exclusive 'k' -- ./command",
	} {
		out, code := said(t, append(append([]string{"run", "k", "--url", "memory:"}, strings.Fields(flags)...), "--", "true")...)
		require.Equal(t, exitUsage, code, "%s: %s", flags, out)
		require.Contains(t, out, want)
	}
	// What the message says to write works.
	url := fileURL(t)
	once := []string{"run", "k-once", "--once", "--at-least", "1m", "-q", "--keep-credentials", "--", programtest.Lockkeeper(t), "run", "-q", "--exclusive", "k", "--", "echo", "ran"}
	out, code := do(t, url, nil, once...)
	require.Zero(t, code, out)
	require.Equal(t, "ran\n", out)
	_, code = do(t, url, nil, once...)
	require.Equal(t, exitHeld, code)
	require.False(t, shown(t, url, "k").Held)
}

// A writer that waits for many readers says so once of each.
func TestAWriterThatStandsByNamesEachReaderOnce(t *testing.T) {
	url := fileURL(t)
	for range 3 {
		holder(t, url, nil, "doc", "--shared")
	}
	writer := start(t, url, nil, "run", "doc", "--exclusive", "--", "true")
	require.Eventually(t, func() bool { return strings.Count(writer.Out.String(), "standing by") == 3 }, testTimeout, 5*time.Millisecond, &writer.Out)
	_, code := do(t, url, nil, "run", "doc", "--shared", "--wait=2s", "--", "true")
	require.Equal(t, exitHeld, code)
	require.Equal(t, 3, strings.Count(writer.Out.String(), "standing by"), &writer.Out)
}
