//go:build unix

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

var durable = []string{"--appendonly", "yes", "--appendfsync", "always"}

// quorum is three servers that vote at once, and the environment that leads there.
func quorum(t *testing.T) ([]*redistest.Server, []string) {
	t.Helper()
	s := redistest.StartN(t, 3, durable...)
	return s, []string{"REDIS_NODES=" + strings.Join(redistest.Addrs(s), ",")}
}

// on runs lockkeeper on the nodes of env.
func on(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	p := start(t, "", env, args...)
	code := p.Exits(t)
	return p.Out.String(), code
}

// value is one as a client of ours has it.
func value(owner string) string { return owner + "/ABCDEFGHIJKLMNOPQRSTUVWXYZ" }

// flat is text without its lines and columns.
func flat(s string) string { return strings.Join(strings.Fields(s), " ") }

// row requires a line that begins with these cells.
func row(t *testing.T, out string, cells ...string) {
	t.Helper()
	for i, cell := range cells {
		cells[i] = regexp.QuoteMeta(cell)
	}
	require.Regexp(t, `(?m)^`+strings.Join(cells, ` +`)+`( |$)`, out)
}

// onEach waits until a command has that reply on each node. A lock is acquired when a quorum has
// answered: the others may be late.
func onEach(t *testing.T, servers []*redistest.Server, want string, command ...string) {
	t.Helper()
	for _, s := range servers {
		require.Eventually(t, func() bool { return s.Do(command...) == want }, testTimeout, 5*time.Millisecond, "%s %v", s.Addr(), command)
	}
}

// holdIt holds k in a process of its own until the test ends.
func holdIt(t *testing.T, env []string, k string) *programtest.Program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pids")
	p := start(t, "", env, args([]string{"run", k, "-q"}, family(file))...)
	pids(t, file, 2)
	return p
}

func TestShowTellsTheHolderEachNodesPartAndWhoWaits(t *testing.T) {
	servers, env := quorum(t)
	out, code := on(t, env, "show", "k")
	require.Zero(t, code)
	require.Equal(t, "k is free\n", out)

	holder := holdIt(t, env, "k")
	waiter := start(t, "", env, "run", "k", "--", "true")
	onEach(t, servers, "1", "EXISTS", "redlock:k")
	require.Eventually(t, func() bool { // a node that does not end below has the waiter
		return slices.ContainsFunc(servers[:2], func(s *redistest.Server) bool {
			return s.Do("ZCARD", "lockkeeper:standing:{redlock:k}redlock:k") == "1"
		})
	}, testTimeout, 5*time.Millisecond)
	out, code = on(t, env, "show", "k")
	require.Zero(t, code, out)
	name := regexp.MustCompile(`(?m)^holder +(\S+:\d+)$`).FindStringSubmatch(out)
	require.NotNil(t, name, out)
	require.Contains(t, name[1], fmt.Sprint(":", holder.Process.Pid))
	require.Regexp(t, fmt.Sprintf(`(?m)^waiting +\S+:%d$`, waiter.Process.Pid), out)
	row(t, out, "state", "held, on 3 of 3 nodes, 2 needed")
	for _, s := range servers {
		row(t, out, s.Addr(), name[1])
	}

	servers[2].Kill()
	out, code = on(t, env, "show", "k")
	require.Zero(t, code)
	row(t, out, "state", "held, on 2 of 3 nodes, 2 needed")
	row(t, out, servers[2].Addr(), "unknown")
	out, code = on(t, env, "show", "k", "-o", "json")
	require.Zero(t, code)
	var r inspect.KeyJSON
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.True(t, r.Held)
	require.Equal(t, "held", r.State)
	require.Equal(t, []int{2, 2}, []int{r.Votes, r.Quorum})
	require.Len(t, r.Waiting, 1)
	require.Contains(t, r.Nodes[2].Error, "refused")
	require.Equal(t, []int{1, 1, 0}, []int{r.Nodes[0].Term, r.Nodes[1].Term, r.Nodes[2].Term})
}

func TestListAndShowTellSplitOrphanedForeignAndUnknownApart(t *testing.T) {
	servers, env := quorum(t)
	out, code := on(t, env, "list")
	require.Zero(t, code)
	require.Equal(t, "no lock is held\n", out)
	holdIt(t, env, "held")
	onEach(t, servers, "1", "EXISTS", "redlock:held")
	out, _ = on(t, env, "list")
	require.Equal(t, "KEY HOLDER TOKEN LEFT HELD FOR WAITING", flat(strings.Split(out, "\n")[0]), "no column for what is plain")

	set := func(i int, key, value string) { servers[i].Do("SET", "redlock:"+key, value, "PX", "600000") }
	set(0, "beside", value("b:2"))
	set(1, "beside", value("a:1"))
	set(2, "beside", value("a:1"))
	set(0, "split", value("a:1"))
	set(1, "split", value("b:2"))
	set(1, "orphan", value("a:1"))
	servers[2].Do("SET", "redlock:lone", "their secret")
	set(0, "theirs", "their secret")
	set(1, "theirs", "their secret")
	for key, want := range map[string][]string{
		"split":  {"split", "a:1, b:2", "-"},
		"orphan": {"orphaned", "a:1", "-"},
		"beside": {"held", "a:1", "unknown"},
		"lone":   {"foreign", "another client (not lockkeeper)", "-"},
		"theirs": {"foreign", "another client (not lockkeeper)", "unknown"},
	} {
		out, code := on(t, env, "list")
		require.Zero(t, code, out)
		require.Regexp(t, fmt.Sprintf(`(?m)^%s +%s +%s +.* +%s$`, key, regexp.QuoteMeta(want[1]), want[2], want[0]), out)
		require.NotContains(t, out, "secret")
		require.NotContains(t, out, "ABCDEF")
		out, code = on(t, env, "show", key)
		require.Zero(t, code, out)
		require.NotContains(t, out, "secret")
		require.NotContains(t, out, "ABCDEF")
		out, _ = on(t, env, "show", key, "-o", "json")
		require.Contains(t, out, `"state": "`+want[0]+`"`)
		require.NotContains(t, out, "secret")
	}
	out, _ = on(t, env, "show", "lone")
	require.Contains(t, out, "never ends: lockkeeper release lone --force removes it")

	servers[2].Kill()
	out, code = on(t, env, "show", "orphan")
	require.Equal(t, exitUnavailable, code, out)
	row(t, out, "state", "unknown: too few nodes answer to tell")
	require.Contains(t, out, `too few to tell who holds "orphan"`)
	out, code = on(t, env, "release", "orphan", "--force", "--yes")
	require.Equal(t, exitUnavailable, code, out)
	require.Equal(t, "1", servers[1].Do("EXISTS", "redlock:orphan"), "what can't be known is not broken")

	servers[0].Kill()
	out, code = on(t, env, "show", "orphan")
	require.Equal(t, exitUnavailable, code, out)
	row(t, out, servers[1].Addr(), "a:1")
	out, code = on(t, env, "list")
	require.Equal(t, exitUnavailable, code, out)
	require.Contains(t, out, "1 of 3 nodes could be listed")
}

func TestReleaseTellsWhatItDidOnEachNode(t *testing.T) {
	servers, env := quorum(t)
	for _, s := range servers { // they count alike, so that any two know the token
		_, run, _ := strings.Cut(s.Do("INFO", "server"), "run_id:")
		run, _, _ = strings.Cut(run, "\r\n")
		s.Do("HSET", "lockkeeper:fence:{redlock:k}redlock:k", "count", "41", "run", run)
	}
	holder := holdIt(t, env, "k")
	onEach(t, servers, "1", "EXISTS", "redlock:k")
	require.NoError(t, holder.Process.Kill()) // or it would free, at its end, what is expected to stay on a node
	<-holder.Done()
	out, code := on(t, env, "release", "k")
	require.Equal(t, exitUsage, code, out)
	out, code = on(t, env, "release", "k", "--force")
	require.Equal(t, exitUsage, code, "nobody can be asked: %s", out)
	servers[2].Kill()
	out, code = on(t, env, "release", "k", "--force", "--yes")
	require.Zero(t, code, out)
	row(t, out, "state", "held, on 2 of 3 nodes, 2 needed")
	row(t, out, servers[0].Addr(), "freed")
	row(t, out, servers[1].Addr(), "freed")
	require.Contains(t, out, servers[2].Addr()+"  failed: ")
	require.Regexp(t, `broke the hold of k: token 4[2-9] `, out) // an attempt that failed, on a busy machine, counts
	require.Contains(t, out, servers[2].Addr()+" may still have it: it ends there by itself, within ")

	servers[2].Restart(false) // a durable node: it has its vote still, which is nobody's now
	servers[1].Do("SET", "redlock:k", "their secret")
	servers[0].Do("DEL", "redlock:k")
	require.Eventually(t, func() bool { return servers[2].Do("EXISTS", "redlock:k") == "1" }, testTimeout, 5*time.Millisecond)
	out, code = on(t, env, "release", "k", "--force", "--yes")
	require.Zero(t, code, out)
	row(t, out, servers[0].Addr(), "was free")
	row(t, out, servers[1].Addr(), "freed")
	row(t, out, servers[2].Addr(), "freed")
	require.Contains(t, out, "removed what nodes had of k: it was nobody's")
	require.NotContains(t, out, "secret")

	out, code = on(t, env, "release", "k", "--force", "--yes")
	require.Zero(t, code)
	require.Equal(t, "k is free\n", out)
}

func TestReleaseOfALockThatChangedHandsBreaksNothing(t *testing.T) {
	servers, env := quorum(t)
	for _, s := range servers {
		s.Do("SET", "redlock:k", value("a:1"), "PX", "600000")
	}
	var out strings.Builder
	a := &app{out: &out, err: &out, getenv: func(string) string { return "" }, nodes: strings.TrimPrefix(env[0], "REDIS_NODES=")}
	err := a.with(t.Context(), func(ctx context.Context, l lock.Locker) error {
		k, err := inspect.Key(ctx, l, "k")
		require.NoError(t, err)
		require.Equal(t, "a:1", k.Holder)
		servers[0].Do("DEL", "redlock:k")
		for _, s := range servers[1:] {
			s.Do("SET", "redlock:k", value("b:2"), "PX", "600000")
		}
		return a.breakSeen(ctx, l, k)
	})
	require.ErrorContains(t, err, "nothing was broken: k has changed hands meanwhile, or was freed")
	require.Equal(t, exitHeld, codeOf(err))
	row(t, out.String(), servers[0].Addr(), "was free")
	row(t, out.String(), servers[1].Addr(), "has another's, left alone")
	require.NotContains(t, out.String(), "is over")
	require.Equal(t, "1", servers[1].Do("EXISTS", "redlock:k"))
}

func TestClearTellsWhichNodesDidNotAnswer(t *testing.T) {
	servers, env := quorum(t)
	for _, s := range servers[:2] {
		for _, key := range []string{"test:a", "test:b", "other"} {
			s.Do("SET", "redlock:"+key, value("a:1"), "PX", "600000")
		}
	}
	servers[2].Kill()
	out, code := on(t, env, "clear", "test:", "--yes")
	require.Zero(t, code, out)
	require.Contains(t, out, "broke 2 of 2\n")
	require.Contains(t, out, servers[2].Addr()+" did not answer for 2 of them")
	require.Equal(t, "1", servers[0].Do("DBSIZE"), "the other is left")
}

func TestTheCommandsOfOperatorsWorkOnFiles(t *testing.T) {
	url := fileURL(t)
	file := filepath.Join(t.TempDir(), "pids")
	start(t, url, nil, args([]string{"run", "k", "-q"}, family(file))...)
	pids(t, file, 2)
	out, code := do(t, url, nil, "list")
	require.Zero(t, code)
	require.Equal(t, "KEY HOLDER TOKEN LEFT HELD FOR WAITING", flat(strings.Split(out, "\n")[0]))
	out, code = do(t, url, nil, "show", "k")
	require.Zero(t, code)
	require.Regexp(t, `^key +k\nholder +\S+:\d+\ntoken +\d+\nsince +\S.* ago\)\nleft +\S+ unless renewed\n$`, out)
	out, code = do(t, url, nil, "health")
	require.Zero(t, code)
	require.Contains(t, out, "1 of 1 nodes vote, 1 needed: all healthy")
	for _, args := range [][]string{{"list", "other:*"}, {"clear", "other:*", "--yes"}} {
		out, code = do(t, url, nil, args...)
		require.Zero(t, code)
		require.Equal(t, "no key that is held begins with other:*\n", out, "k is held")
	}
	out, code = do(t, url, nil, "release", "k", "--force", "--yes")
	require.Zero(t, code, out)
	require.Contains(t, out, "broke the hold of k: token ")
	out, _ = do(t, url, nil, "show", "k")
	require.Equal(t, "k is free\n", out)
	out, code = do(t, url, nil, "clear", "", "--yes")
	require.Zero(t, code)
	require.Equal(t, "no lock is held\n", out)
}

func TestWhoNamesNoStoreIsToldWhichIsLookedAt(t *testing.T) {
	dir := []string{"TMPDIR=" + t.TempDir(), "XDG_RUNTIME_DIR=none"}
	for _, args := range [][]string{{"list"}, {"show", "k"}, {"health"}} {
		out, code := on(t, dir, args...)
		require.Zero(t, code, out)
		require.Contains(t, out, "looking at file:///")
		require.Contains(t, out, "since no store is named")
		out, code = do(t, fileURL(t), nil, args...)
		require.Zero(t, code, out)
		require.NotContains(t, out, "looking at")
	}
}

func TestOneNodesURLIsNotTakenForAStores(t *testing.T) {
	for _, scheme := range []string{"redis", "rediss", "valkey", "valkeys", "unix", "REDIS"} {
		out, code := on(t, nil, "list", "--url", scheme+"://:pw@localhost:6379")
		require.Equal(t, exitUsage, code, out)
		require.Contains(t, out, "--url is a "+strings.ToLower(scheme)+":// URL, which is one node's: give it with --nodes or REDIS_NODES")
		require.NotContains(t, out, "pw")
	}
}

func TestAForeignKeyThatNeverEndsIsToldAsThat(t *testing.T) {
	servers, env := quorum(t)
	for _, s := range servers {
		s.Do("SET", "redlock:k", "their secret")
	}
	out, code := on(t, env, "show", "k")
	require.Zero(t, code, out)
	require.Regexp(t, `(?m)^left +for ever$`, out)
	out, code = on(t, env, "release", "k", "--force", "--yes")
	require.Zero(t, code, out)
	require.Contains(t, out, "broke the hold of k by another client (not lockkeeper)\n")
}

func TestBadNodesAreNamedBeforeAnythingIsSent(t *testing.T) {
	server := redistest.Start(t)
	before := server.Do("INFO", "stats")
	for nodes, want := range map[string]string{
		"localhost": `node 2 is "localhost"`, "": `node 2 is ""`, "a:0": `node 2 is "a:0"`, "a:65536": `"a:65536"`, "-x:1": `"-x:1"`, "a:x": `"a:x"`,
		"$(x):1": `"$(x):1"`, "user:pw@a:1": `node 2 is "...",`, server.Addr(): "are the same server", "[::g]:1": `"[::g]:1"`,
	} {
		out, code := on(t, nil, "health", "--nodes", server.Addr()+","+nodes)
		require.Equal(t, exitUnchecked, code, nodes)
		require.Contains(t, out, want)
		require.NotContains(t, out, "pw@")
	}
	connections := regexp.MustCompile(`total_connections_received:(\d+)`)
	count := func(info string) (n int) {
		_, err := fmt.Sscan(connections.FindStringSubmatch(info)[1], &n)
		require.NoError(t, err)
		return n
	}
	require.Equal(t, count(before)+1, count(server.Do("INFO", "stats")), "only the test's own")
}

// A typo must not look like a store without locks, nor be made one.
func TestADirectoryThatIsNotThereIsNoStoreToLookAt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "no", "such")
	for _, args := range [][]string{{"list"}, {"show", "k"}, {"health"}, {"clear", "", "--yes"}} {
		out, code := do(t, "file://"+filepath.ToSlash(dir), nil, args...)
		require.NotZero(t, code, out)
		require.Contains(t, out, "no such directory", args)
		require.NoDirExists(t, dir)
	}
}
