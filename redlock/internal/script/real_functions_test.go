package script

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// needFunctions says whether the server has any: Redis 7, Valkey.
func needFunctions(b *bench) {
	b.t.Helper()
	if _, err := b.s.Try("FUNCTION", "LIST"); err != nil {
		require.ErrorContains(b.t, err, "unknown command")
		b.t.Skip("a server without functions")
	}
}

func (b *bench) vote(value string, g Guard) Reply {
	b.t.Helper()
	msg, err := b.call(Acquire(b.k, value, claim, retention, g))
	require.NoError(b.t, err)
	r, err := ParseAcquire(msg)
	require.NoError(b.t, err)
	return r
}

func (b *bench) free(value string) {
	b.t.Helper()
	_, err := b.call(Release(b.k, value, "", "", retention, unguarded))
	require.NoError(b.t, err)
}

// missingRun is the run that an extend reports, by a function.
func (b *bench) missingRun() string {
	b.t.Helper()
	msg, err := b.call(Extend(b.k, "nobody's", claim, retention, unguarded))
	require.NoError(b.t, err)
	r, err := ParseExtend(msg)
	require.NoError(b.t, err)
	require.Equal(b.t, Missing, r.Kind)
	return r.Run
}

func (b *bench) infoCalls() int {
	for line := range strings.Lines(b.s.Do("INFO", "commandstats")) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_info:calls="); ok {
			n, err := strconv.Atoi(rest[:strings.IndexByte(rest, ',')])
			require.NoError(b.t, err)
			return n
		}
	}
	return 0
}

func TestRealFunctionsAskForTheServersRunOnce(t *testing.T) {
	b := newBench(t)
	needFunctions(b)
	require.Equal(t, b.run(), b.missingRun())
	require.Equal(t, "yes ("+Library+")", b.f.String())
	before := b.infoCalls()
	for range 100 {
		require.Equal(t, Granted, b.vote("mine", unguarded).Kind)
		b.free("mine")
		require.Equal(t, b.run(), b.missingRun())
	}
	require.Equal(t, before+100+1, b.infoCalls(), "this test's own")
}

// An uptime that is kept is never longer than the present one. While it is too short, it
// is asked for again.
func TestRealFunctionsGuardByThePresentUptime(t *testing.T) {
	b := newBench(t)
	needFunctions(b)
	require.Equal(t, Granted, b.vote("mine", unguarded).Kind)
	b.free("mine")
	start := time.Now()
	var up int
	for line := range strings.Lines(b.s.Do("INFO", "server")) {
		if s, ok := strings.CutPrefix(strings.TrimSpace(line), "uptime_in_seconds:"); ok {
			up, _ = strconv.Atoi(s)
		}
	}
	least := up + 6 // for so long no busy machine stands still before the next request
	g := Guard{Least: strconv.Itoa(least)}
	r := b.vote("mine", g)
	require.Equal(t, Recovering, r.Kind)
	require.LessOrEqual(t, r.Left, 6*time.Second)
	require.Eventually(t, func() bool { return b.vote("mine", g).Kind == Granted }, 30*time.Second, 10*time.Millisecond)
	require.Greater(t, time.Since(start), 4*time.Second)
	before := b.infoCalls()
	for range 10 {
		require.Equal(t, Granted, b.vote("mine", g).Kind)
	}
	require.Equal(t, before+1, b.infoCalls())
	// A longer guard is not passed by what a shorter one needed.
	b.free("mine")
	require.Equal(t, Recovering, b.vote("mine", Guard{Least: "1000000"}).Kind)
}

func TestRealFunctionsAreOfOneProcess(t *testing.T) {
	always := []string{"--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "yes"}
	for _, c := range []struct {
		name    string
		happens func(t *testing.T, b *bench)
		newRun  bool
	}{
		{"killed, with the append-only file", func(_ *testing.T, b *bench) {
			b.s.Kill()
			b.s.Restart(false)
		}, true},
		{"restarted empty", func(_ *testing.T, b *bench) {
			b.s.Kill()
			b.s.Restart(true)
		}, true},
		{"saved and reloaded", func(_ *testing.T, b *bench) { b.s.Do("DEBUG", "RELOAD") }, false},
		{"append-only file rewritten and killed", func(t *testing.T, b *bench) {
			b.s.Do("BGREWRITEAOF")
			require.Eventually(t, func() bool {
				return strings.Contains(b.s.Do("INFO", "persistence"), "aof_rewrite_in_progress:0") &&
					!strings.Contains(b.s.Do("INFO", "persistence"), "aof_last_rewrite_time_sec:-1")
			}, 30*time.Second, 10*time.Millisecond)
			b.s.Kill()
			b.s.Restart(false)
		}, true},
		{"functions flushed", func(_ *testing.T, b *bench) { b.s.Do("FUNCTION", "FLUSH") }, false},
		{"FLUSHALL", func(_ *testing.T, b *bench) { b.s.Do("FLUSHALL") }, false},
		{"dumped and restored", func(_ *testing.T, b *bench) {
			dump := b.s.Do("FUNCTION", "DUMP")
			b.s.Do("FUNCTION", "FLUSH")
			b.s.Do("FUNCTION", "RESTORE", dump)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, always...)
			needFunctions(b)
			granted := b.vote("mine", unguarded)
			b.free("mine")
			run := b.run()
			require.Equal(t, run, b.missingRun())
			c.happens(t, b)
			b.reconnect()
			if c.newRun {
				require.NotEqual(t, run, b.run())
				require.Equal(t, Recovering, b.vote("mine", Guard{Least: "1000000", Durable: run}).Kind, "that run is over")
			}
			require.Equal(t, b.run(), b.missingRun())
			again := b.vote("mine", Guard{Least: "1000000", Durable: b.run()})
			require.Equal(t, Granted, again.Kind)
			require.Greater(t, again.Count, granted.Count)
			if c.newRun {
				require.Greater(t, again.Count, granted.Count+1, "it starts above everything issued")
			}
			require.Equal(t, b.run(), b.s.Do("HGET", b.k.Fence, "run"))
			require.Equal(t, "yes ("+Library+")", b.f.String())
		})
	}
}

func (b *bench) reconnect() {
	b.c.Close()
	b.c = connect(b.t, b.s, "", "")
}

func TestRealAPromotedReplicaTellsItsOwnRun(t *testing.T) {
	for _, without := range []bool{false, true} {
		t.Run(fmt.Sprint("without the library: ", without), func(t *testing.T) {
			b := newBench(t)
			needFunctions(b)
			replica := &bench{t: t, s: redistest.Start(t), k: b.k}
			replica.c = connect(t, replica.s, "", "")
			replica.vote("its own", unguarded) // it was something else before
			replica.free("its own")
			b.vote("mine", unguarded)
			replica.s.Do("REPLICAOF", "127.0.0.1", strconv.Itoa(b.s.Port()))
			require.Eventually(t, func() bool {
				return strings.Contains(replica.s.Do("INFO", "replication"), "master_link_status:up") && replica.holder() == "mine"
			}, 30*time.Second, 10*time.Millisecond)
			_, err := replica.call(Extend(b.k, "mine", claim, retention, unguarded))
			require.ErrorContains(t, err, "READONLY")
			replica.s.Do("REPLICAOF", "NO", "ONE")
			if without {
				replica.s.Do("FUNCTION", "FLUSH")
			}
			require.NotEqual(t, b.run(), replica.run())
			replica.free("mine")
			require.Equal(t, replica.run(), replica.missingRun())
			r := replica.vote("other", Guard{Least: "1000000"})
			require.Equal(t, Recovering, r.Kind)
			require.Equal(t, replica.run(), r.Run)
			count := b.count()
			require.Greater(t, replica.vote("other", unguarded).Count, count+1, "counted in another run before")
			require.Contains(t, replica.s.Do("FUNCTION", "LIST", "LIBRARYNAME", Library), Library)
		})
	}
}

func TestRealFunctionsFlushedUnderLoadCostRoundTripsOnly(t *testing.T) {
	b := newBench(t)
	needFunctions(b)
	ctx, stop := context.WithCancel(t.Context())
	var flushing sync.WaitGroup
	flushing.Go(func() {
		for ctx.Err() == nil {
			if _, err := b.s.Try("FUNCTION", "FLUSH"); err != nil {
				panic(err)
			}
		}
	})
	defer func() {
		stop()
		flushing.Wait()
	}()
	var last uint64
	for i := range 300 {
		value := fmt.Sprint("v", i)
		k, _ := NewKeys("redlock:", "other")
		requests := []Request{Acquire(b.k, value, claim, retention, unguarded), Release(k, value, "", "", retention, unguarded), Extend(k, value, claim, retention, unguarded)}
		res := b.f.Run(ctx, b.c, []*Request{&requests[0], &requests[1], &requests[2]}, nil)
		for _, r := range res {
			require.NoError(t, r.Err)
		}
		r, err := ParseAcquire(res[0].Msg)
		require.NoError(t, err)
		require.Equal(t, Granted, r.Kind)
		require.Greater(t, r.Count, last)
		last = r.Count
		b.free(value)
	}
}

// fill leaves the server without memory for anything new.
func (b *bench) fill() {
	b.s.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	b.s.Do("CONFIG", "SET", "maxmemory", "1")
}

func TestRealAFullNodeExtendsReleasesAndPassesOn(t *testing.T) {
	for _, library := range []string{"loaded before", "not loaded"} {
		t.Run(library, func(t *testing.T) {
			b := newBench(t)
			needFunctions(b)
			pushes, _ := b.listen(WakePrefix + "A")
			b.c = connect(t, b.s, "", "")
			count := b.acquire("mine").Count
			b.stand(waiter("A", time.Second))
			if library == "not loaded" {
				b.s.Do("FUNCTION", "FLUSH")
			}
			b.fill()
			ask := func(q Request, parse func(rueidis.RedisMessage) (Reply, error)) Reply {
				t.Helper()
				msg, err := b.call(q)
				require.NoError(t, err)
				r, err := parse(msg)
				require.NoError(t, err)
				return r
			}
			require.Equal(t, Confirmed, ask(Extend(b.k, "mine", claim, retention, unguarded), ParseExtend).Kind)
			require.Equal(t, count, ask(Commit(b.k, "mine", count, retention), ParseCommit).Count)
			require.Equal(t, count, ask(Confirm(b.k, "mine", claim, retention, unguarded, count), ParseConfirm).Count)
			require.Equal(t, Held, b.vote("other", unguarded).Kind, "who has it is reported")

			// What needs memory is refused, and takes nothing else with it.
			k, _ := NewKeys("redlock:", "new")
			requests := []Request{
				Acquire(k, "v", claim, retention, unguarded), Release(b.k, "mine", "", "", retention, unguarded),
				waiterRequest(b, "B"), Extend(k, "v", claim, retention, unguarded),
			}
			res := b.f.Run(t.Context(), b.c, []*Request{&requests[0], &requests[1], &requests[2], &requests[3]}, nil)
			require.ErrorContains(t, res[0].Err, "OOM")
			if library == "loaded before" { // the server lets scripts do more once they have begun
				require.ErrorContains(t, res[2].Err, "OOM")
			}
			require.NoError(t, res[1].Err)
			require.NoError(t, res[3].Err)
			require.Equal(t, "vA", b.holder(), "the lock was passed on")
			require.Equal(t, count+1, b.pushed(pushes).Count)
			require.Equal(t, Counted, ask(Confirm(b.k, "vA", claim, retention, unguarded, count+1), ParseConfirm).Kind)
			require.Equal(t, Freed, ask(Leave(b.k, "A", "vA", retention, unguarded), ParseRelease).Kind)
			_, err := b.call(Acquire(b.k, "v", claim, retention, unguarded))
			require.ErrorContains(t, err, "OOM")

			b.s.Do("CONFIG", "SET", "maxmemory", "0")
			require.Equal(t, Granted, b.vote("v", unguarded).Kind)
		})
	}
}

func TestRealScriptsServeWhereFunctionsAreNotPermitted(t *testing.T) {
	for _, c := range []struct {
		rules  []string
		loaded bool
		yes    bool
	}{
		{[]string{"-fcall"}, true, false},
		{[]string{"-function|load"}, false, false},
		{[]string{"-function|load"}, true, true},
	} {
		t.Run(fmt.Sprint(c.rules, " loaded: ", c.loaded), func(t *testing.T) {
			b := newBench(t)
			needFunctions(b)
			if c.loaded {
				b.s.Do("FUNCTION", "LOAD", library)
			}
			b.s.Do(append([]string{"ACL", "SETUSER", "some", "reset", "on", ">pw", "allchannels", "~*", "+@all"}, c.rules...)...)
			b.c = connect(t, b.s, "some", "pw")
			for range 5 {
				require.Equal(t, Granted, b.vote("mine", unguarded).Kind)
				b.free("mine")
			}
			if c.yes {
				require.Equal(t, "yes ("+Library+")", b.f.String())
				return
			}
			require.Equal(t, "no (not permitted: +fcall +function|load)", b.f.String())
			require.Contains(t, b.s.Do("ACL", "LOG"), "count\n1\n", "it is not asked again and again")
		})
	}
}

// One user's lack of a permission is not another's.
func TestRealFunctionsAskAgainForWhatWasDenied(t *testing.T) {
	b := newBench(t)
	needFunctions(b)
	b.s.Do("ACL", "SETUSER", "some", "reset", "on", ">pw", "~*", "+@all", "-info")
	all := b.c
	b.c = connect(t, b.s, "some", "pw")
	require.True(t, b.vote("mine", unguarded).Unguarded)
	b.free("mine")
	b.c = all
	require.False(t, b.vote("mine", unguarded).Unguarded)
}

func TestRealVersionsOfTheLibraryStandBesideEachOther(t *testing.T) {
	b := newBench(t)
	needFunctions(b)
	other := strings.ReplaceAll(library, Library, LibraryPrefix+"000000000000")
	b.s.Do("FUNCTION", "LOAD", other)
	b.vote("mine", unguarded)
	require.Equal(t, 2, strings.Count(b.s.Do("FUNCTION", "LIST", "LIBRARYNAME", LibraryPrefix+"*"), "library_name"))
	b.s.Do("FUNCTION", "DELETE", LibraryPrefix+"000000000000")
	b.s.Do("FUNCTION", "DELETE", Library)
	require.Equal(t, Granted, b.vote("mine", unguarded).Kind, "it is loaded again")
}

// Two clients that both find it missing both go on.
func TestRealALibraryThatIsThereAlreadyServes(t *testing.T) {
	b := newBench(t)
	needFunctions(b)
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			var f Functions
			k, _ := NewKeys("redlock:", fmt.Sprint(i))
			q := Acquire(k, "v", claim, retention, unguarded)
			res := f.Run(t.Context(), b.c, []*Request{&q}, nil)
			if res[0].Err != nil || f.String() != "yes ("+Library+")" {
				panic(fmt.Sprint(res[0].Err, f.String()))
			}
		})
	}
	all.Wait()
}
