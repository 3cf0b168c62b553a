//go:build unix

package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/programtest"
)

// holder starts a lockkeeper that holds key until the test ends.
func holder(t *testing.T, url string, env []string, flags ...string) *programtest.Program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, url, env, args(append([]string{"run"}, flags...), family(file))...)
	pids(t, file, 2)
	return p
}

// shown is what show says of a key.
func shown(t *testing.T, url, key string) inspect.KeyJSON {
	t.Helper()
	out, code := do(t, url, nil, "show", key, "-o", "json")
	require.Zero(t, code, out)
	var r inspect.KeyJSON
	require.NoError(t, json.Unmarshal([]byte(out), &r), out)
	return r
}

// eachStore runs f on one of files, and on one of Redis nodes.
func eachStore(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("Files", func(t *testing.T) { f(t, fileURL(t)) })
	t.Run("Redis", func(t *testing.T) {
		_, env := quorum(t)
		f(t, "redlock://"+strings.TrimPrefix(env[0], "REDIS_NODES="))
	})
}

func TestShowAndListShowWhoHasWhichSlot(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		holder(t, url, nil, "crawl") // takes slot 1
		for range 2 {
			holder(t, url, nil, "crawl", "--slots=3")
		}
		holder(t, url, nil, "crawler")
		r := shown(t, url, "crawl")
		require.True(t, r.Held)
		require.Len(t, r.Slots, 2)
		for i, slot := range r.Slots {
			require.Equal(t, "crawl;slot="+strconv.Itoa(i+2), slot.Key)
			require.Equal(t, "crawl", slot.SlotOf)
			require.Equal(t, i+2, slot.Slot)
			require.True(t, slot.Held)
		}
		out, code := do(t, url, nil, "show", "crawl")
		require.Zero(t, code)
		require.Contains(t, out, "crawl is held in slots (run --slots), 3 of them now")
		require.Regexp(t, `(?m)^1 +crawl +\S+ +\d+ `, out)
		require.Regexp(t, `(?m)^3 +crawl;slot=3 +\S+ +\d+ `, out)
		require.NotContains(t, out, "crawler")
		out, code = do(t, url, nil, "list")
		require.Zero(t, code)
		require.Regexp(t, `(?m)^KEY +HOLDER +TOKEN +LEFT +HELD FOR +WAITING +SLOT$`, out)
		require.Regexp(t, `(?m)^crawl +\S+ .* 1$`, out)
		require.Regexp(t, `(?m)^crawl;slot=2 +\S+ .* 2$`, out)
		require.Regexp(t, `(?m)^crawler +\S+ .* -$`, out)
	})
}

func TestAKeyWhoseOtherSlotsAreHeldIsNotSaidToBeFree(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		first := holder(t, url, nil, "crawl") // so that the next one takes another
		holder(t, url, nil, "crawl", "--slots=2")
		require.NoError(t, first.Process.Kill())
		first.Exits(t)
		if strings.HasPrefix(url, "redlock:") {
			_, code := do(t, url, nil, "release", "crawl", "--force", "--yes")
			require.Zero(t, code)
		}
		// The guard of the killed one keeps slot 1 until the command has ended.
		require.Eventually(t, func() bool { return !shown(t, url, "crawl").Held }, testTimeout, 5*time.Millisecond)
		out, code := do(t, url, nil, "show", "crawl")
		require.Zero(t, code)
		require.NotContains(t, out, "crawl is free")
		require.Contains(t, out, "crawl itself, slot 1, is free")
		require.Contains(t, out, "crawl;slot=2")
		out, code = do(t, url, nil, "release", "crawl", "--force", "--yes")
		require.Equal(t, exitHeld, code, out)
		require.Contains(t, out, "lockkeeper release 'crawl;slot=2' --force")
		out, code = do(t, url, nil, "release", "crawl;slot=2", "--force", "--yes")
		require.Zero(t, code, out)
		out, _ = do(t, url, nil, "show", "crawl")
		require.True(t, strings.HasPrefix(out, "crawl is free\n"), out)
	})
}

// A cleaner that has read the token of one job must not break the next one.
func TestReleaseWithATokenBreaksThatTermOnly(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		first := holder(t, url, nil, "k")
		token := shown(t, url, "k").Token
		out, code := do(t, url, nil, "release", "k", "--force", "--yes", "--token", token)
		require.Zero(t, code, out)
		require.Contains(t, out, "token "+token+" of ")
		require.NoError(t, first.Process.Kill())
		first.Exits(t)
		out, code = do(t, url, nil, "release", "k", "--force", "--yes", "--token", token)
		require.Zero(t, code, "that term is over: %s", out)

		holder(t, url, nil, "k")
		second := shown(t, url, "k").Token
		out, code = do(t, url, nil, "release", "k", "--force", "--yes", "--token", token)
		require.Equal(t, exitHeld, code, out)
		require.Contains(t, out, "nothing was broken: k is held by ")
		require.Contains(t, out, "with token "+second+", not with "+token)
		require.Equal(t, second, shown(t, url, "k").Token, "it is still held")
		out, code = do(t, url, nil, "release", "k", "--force", "--yes", "--token", "0")
		require.Equal(t, exitUsage, code, out)
	})
}

func TestAHolderHasTheNameThatItWasGiven(t *testing.T) {
	eachStore(t, func(t *testing.T, url string) {
		holder(t, url, nil, "flag", "--holder", "deploy by ana")
		require.Regexp(t, `^deploy by ana \(\S+:\d+\)$`, shown(t, url, "flag").Holder)
		holder(t, url, []string{"LOCKKEEPER_HOLDER=job 7"}, "environment")
		require.Regexp(t, `^job 7 \(\S+:\d+\)$`, shown(t, url, "environment").Holder)
		holder(t, url, []string{"LOCKKEEPER_HOLDER=job 7"}, "both", "--holder=x")
		require.Regexp(t, `^x \(\S+:\d+\)$`, shown(t, url, "both").Holder)
		out, code := do(t, url, nil, "run", "flag", "--once", "--", "true")
		require.Equal(t, exitHeld, code)
		require.Regexp(t, `^lockkeeper: flag is held by deploy by ana \(\S+:\d+\), for up to \S+ unless renewed\n$`, out)

		for _, bad := range []string{"", "a\nb", "\xff", strings.Repeat("x", 65)} {
			out, code := do(t, url, nil, "run", "k", "--holder", bad, "--", "true")
			require.Equal(t, exitUsage, code, out)
			require.Contains(t, out, "want 1 to 64 bytes of printable text")
		}
		sep := "?"
		out, code = do(t, url+sep+"owner=me", nil, "run", "k", "--holder", "x", "--", "true")
		require.Equal(t, exitUsage, code, out)
		require.Contains(t, out, "has an owner, want one of them")
	})
}

func TestTheLongestHolderFitsEveryStore(t *testing.T) {
	s := store{url: "file:///x"}
	require.NoError(t, s.setHolder("--holder", strings.Repeat("x", maxHolder)))
	require.LessOrEqual(t, len(s.opts.Owner), 128)
	out, code := do(t, fileURL(t), nil, "run", "k", "--holder", strings.Repeat("x", maxHolder), "-q", "--", "echo", "ran")
	require.Zero(t, code, out)
	require.Equal(t, "ran\n", out)
}

func TestShowTellsSinceWhen(t *testing.T) {
	url := fileURL(t)
	holder(t, url, nil, "k")
	r := shown(t, url, "k")
	require.NotNil(t, r.HeldMS)
	require.GreaterOrEqual(t, *r.HeldMS, int64(0))
	out, _ := do(t, url, nil, "show", "k")
	require.Regexp(t, `(?m)^since +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(\S+ ago\)$`, out)
}

// damage makes the record of a key that is free unreadable.
func damage(t *testing.T, url, key string) {
	t.Helper()
	dir := strings.TrimPrefix(url, "file://")
	before, _ := filepath.Glob(filepath.Join(dir, "key.*"))
	_, code := do(t, url, nil, "run", key, "-q", "--", "true")
	require.Zero(t, code)
	after, _ := filepath.Glob(filepath.Join(dir, "key.*"))
	require.Len(t, after, len(before)+1)
	for _, file := range after {
		if !strings.Contains(strings.Join(before, "\n"), file) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte("token"), []byte("tokem")), 0o600))
		}
	}
}

func TestOneDamagedRecordDoesNotHideOrKeepTheOthers(t *testing.T) {
	url := fileURL(t)
	damage(t, url, "damaged")
	w := start(t, url, nil, "watch", "--interval=100ms")
	w.Sees(t, "  incomplete ")
	holder(t, url, nil, "test:k")
	w.Sees(t, "  acquired      test:k  ")
	out, code := do(t, url, nil, "list")
	require.Equal(t, exitUnavailable, code, out)
	require.Regexp(t, `(?m)^test:k +\S+ +\d+ `, out)
	require.Contains(t, out, "record is damaged")
	require.Equal(t, 1, strings.Count(out, "record is damaged"), out)
	out, code = do(t, url, nil, "health")
	require.Zero(t, code, out)
	require.Contains(t, flat(out), "1 of 2 records can't be read, and nobody can lock their keys; the first: ")
	require.NotContains(t, out, "lock: ")
	out, code = do(t, url, nil, "show", "test:k")
	require.Zero(t, code, out)
	out, code = do(t, url, nil, "clear", "test:", "--yes")
	require.Equal(t, exitUnavailable, code, out)
	require.Contains(t, out, "broke 1 of 1\n")
	require.Equal(t, 1, strings.Count(out, "record is damaged"), out)
	w.Sees(t, "  released      test:k  ")
	require.NotContains(t, w.Out.String(), "unavailable")
	require.Equal(t, 1, strings.Count(w.Out.String(), "incomplete"), "said once: %s", &w.Out)
	damaged, err := filepath.Glob(strings.TrimPrefix(url, "file://") + "/key.*")
	require.NoError(t, err)
	for _, file := range damaged {
		require.NoError(t, os.Remove(file))
	}
	w.Sees(t, "  complete ")
}

// One node stopping loses the token for a moment, and is no acquisition.
func TestWatchANodeThatStopsIsNoAcquisition(t *testing.T) {
	servers, env := quorum(t)
	url := "redlock://" + strings.TrimPrefix(env[0], "REDIS_NODES=")
	holder(t, url, nil, "k")
	onEach(t, servers, "1", "EXISTS", "redlock:k") // any two of them show who holds it
	w := start(t, url, nil, "watch", "--interval=100ms", "-o", "json")
	w.Sees(t, `"event":"holds"`)
	for _, s := range servers {
		s.Kill()
		w.Sees(t, `"event":"node_down","node":"`+s.Addr()+`"`)
		s.Restart(false)
		w.Sees(t, `"event":"node_back","node":"`+s.Addr()+`"`)
	}
	require.NotRegexp(t, regexp.MustCompile(`"event":"(acquired|released|expired|handed_over)"`), w.Out.String())
}
