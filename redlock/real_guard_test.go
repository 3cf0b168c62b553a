package redlock_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

var (
	durableArgs  = []string{"--appendonly", "yes", "--appendfsync", "always"}
	everysecArgs = []string{"--appendonly", "yes", "--appendfsync", "everysec"}
)

// With one durable node dead, the restarted one would decide the quorum.
func TestRealNodeThatRestartedSitsOutAndTheErrorSaysSo(t *testing.T) {
	t.Parallel()
	restarts := map[string]func(t *testing.T, s *redistest.Server){
		"with data": func(_ *testing.T, s *redistest.Server) { s.Restart(false) },
		"empty":     func(_ *testing.T, s *redistest.Server) { s.Restart(true) },
		"truncated": func(t *testing.T, s *redistest.Server) { truncateAOF(t, s, 10); s.Restart(false) },
	}
	for name, restart := range restarts {
		t.Run(name, func(t *testing.T) {
			servers := redistest.StartN(t, 2, durableArgs...)
			forgetful := redistest.Start(t, everysecArgs...)
			servers = append(servers, forgetful)
			l := dial(t, servers, guarded())
			const ttl = time.Minute
			release(t, acquire(t, l, "k", ttl))
			forgetful.Do("SET", "filler", strings.Repeat("x", 100))
			restart(t, forgetful)
			servers[0].Kill()
			err := unavailable(t, l, ttl)
			require.ErrorContains(t, err, "node "+forgetful.Addr()+": restarted lately and may have forgotten locks: votes in ")
			require.Empty(t, forgetful.Do("GET", lockKey("k")))

			h, err := l.Health(within(t, testTimeout))
			require.NoError(t, err)
			require.ErrorContains(t, h.Nodes[2].Err, "votes in ")
			require.False(t, h.HasQuorum())
			require.Contains(t, strings.Join(h.Nodes[2].Warnings, "\n"), "not durable (appendonly yes, appendfsync everysec")
		})
	}
}

// unavailable attempts until the node's answers are in the error: a reconnecting
// client can fail before that.
func unavailable(t *testing.T, l *redlock.Locker, ttl time.Duration) error {
	t.Helper()
	var last error
	eventually(t, "a refusal by the guard", func() bool {
		_, err := l.TryAcquire(within(t, testTimeout), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		last = err
		return strings.Contains(err.Error(), "restarted lately")
	})
	return last
}

func truncateAOF(t *testing.T, s *redistest.Server, bytes int64) {
	t.Helper()
	s.Kill()
	files, err := filepath.Glob(filepath.Join(s.Dir(), "appendonlydir", "*.incr.aof"))
	require.NoError(t, err)
	if old := filepath.Join(s.Dir(), "appendonly.aof"); len(files) == 0 {
		files = []string{old} // before Redis 7
	}
	require.Len(t, files, 1)
	info, err := os.Stat(files[0])
	require.NoError(t, err)
	require.Greater(t, info.Size(), bytes)
	require.NoError(t, os.Truncate(files[0], info.Size()-bytes))
}

func TestRealNodesVoteOnceTheGuardTimeIsOver(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	l := dial(t, servers, &redlock.Options{RestartGuard: time.Second})
	acquire(t, l, "k", time.Second)
	voted := 0
	for _, s := range servers {
		up, err := strconv.Atoi(infoField(s, "uptime_in_seconds"))
		require.NoError(t, err)
		if up >= 2 { // the guard, plus one because uptime is rounded down
			voted++
		}
	}
	require.GreaterOrEqual(t, voted, 2)
}

func infoField(s *redistest.Server, name string) string {
	_, after, _ := strings.Cut(s.Do("INFO"), name+":")
	value, _, _ := strings.Cut(after, "\r\n")
	return value
}

// What the guard is for, and what RestartGuard: -1 costs.
func TestRealEmptyRestartsMakeASecondHolderOnlyWithoutTheGuard(t *testing.T) {
	t.Parallel()
	for name, guard := range map[string]time.Duration{"guard": 0, "no guard": -1} {
		t.Run(name, func(t *testing.T) {
			// Durable at first, so that they vote at once; what comes back is not.
			servers := redistest.StartN(t, 3, durableArgs...)
			o := &redlock.Options{RestartGuard: guard, NodeTimeout: nodeTimeout}
			first := acquire(t, dial(t, servers, o), "k", time.Minute)
			settled(t, servers, first, time.Minute)
			for _, s := range servers[:2] {
				s.Restart(true)
				s.Do("CONFIG", "SET", "appendfsync", "everysec")
			}
			other := dial(t, servers, o)
			if guard == 0 {
				unavailable(t, other, time.Minute)
				return
			}
			second := acquire(t, other, "k", time.Minute)
			require.True(t, time.Now().Before(first.Expiry()), "two holders at once")
			require.Greater(t, second.Token(), first.Token(), "and only their tokens show who is right")
		})
	}
}

func TestRealDurableNodesVoteAtOnceAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3, durableArgs...)
	l := dial(t, servers, guarded())
	lease := acquire(t, l, "k", time.Minute)
	settled(t, servers, lease, time.Minute)
	for _, s := range servers {
		s.Restart(false)
	}
	_, err := lock.Acquire(within(t, testTimeout), dial(t, servers, guarded()), "k", time.Minute, &lock.AcquireOptions{Attempts: 1})
	require.ErrorIs(t, err, lock.ErrHeld)
	require.NoError(t, extend(t, lease, time.Minute))
	release(t, lease)
	next := acquire(t, l, "k", time.Minute)
	require.Greater(t, next.Token(), lease.Token())
	for _, s := range servers {
		up, err := strconv.Atoi(infoField(s, "uptime_in_seconds"))
		require.NoError(t, err)
		require.Less(t, up, 60, "the guard time was not waited for")
	}
}

func TestRealAssumeDurableVotesAtOnce(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	l := dial(t, servers, &redlock.Options{AssumeDurable: true})
	acquire(t, l, "k", time.Minute)
}

func TestRealRenewedLeaseSurvivesARollingRestartOfAllNodesEmpty(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 5} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			servers := redistest.StartN(t, n)
			holder, other := dial(t, servers, throwaway()), dial(t, servers, throwaway())
			lease := acquire(t, holder, "k", longTTL)
			settled(t, servers, lease, longTTL)
			for _, s := range servers {
				s.Restart(true)
				// A ttl's time between restarts is for other holders' leases; ours is
				// seen to be back on all.
				eventually(t, "the repair", func() bool {
					require.NoError(t, extend(t, lease, longTTL))
					return votes(servers, "k") == n
				})
				eventually(t, "the refusal", func() bool { // a connection that the restart ended may be found so first
					_, err := other.TryAcquire(within(t, testTimeout), "k", longTTL)
					require.Error(t, err)
					return errors.Is(err, lock.ErrHeld)
				})
			}
			release(t, lease)
			require.Greater(t, acquire(t, other, "k", longTTL).Token(), lease.Token())
		})
	}
}

// With the guard on, contenders who ask all the time can't keep a node from its
// repair: a node that sits out grants nothing, and so counts nothing.
func TestRealRenewedLeaseSurvivesARollingRestartAmongContenders(t *testing.T) {
	t.Parallel()
	const guard = 6 * time.Second
	servers := redistest.StartN(t, 3)
	o := &redlock.Options{RestartGuard: guard, NodeTimeout: nodeTimeout}
	holder, other := dial(t, servers, o), dial(t, servers, o)
	lease := acquire(t, holder, "k", guard) // of the first two that have been up long enough
	eventually(t, "the third to be up long enough, and repaired", func() bool {
		require.NoError(t, extend(t, lease, guard))
		return votes(servers, "k") == 3
	})
	for _, s := range servers {
		s.Restart(true)
		eventually(t, "the restarted node to vote for its holder", func() bool {
			_, err := other.TryAcquire(within(t, testTimeout), "k", guard)
			require.Error(t, err)
			require.NoError(t, extend(t, lease, guard))
			up, err := strconv.Atoi(infoField(s, "uptime_in_seconds"))
			require.NoError(t, err)
			return up >= int(guard/time.Second)+1 && votes(servers, "k") == 3
		})
	}
	release(t, lease)
	require.Greater(t, acquire(t, other, "k", guard).Token(), lease.Token())
}

func TestRealTokensRiseOverEverythingThatForgets(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3, everysecArgs...)
	l := dial(t, servers, throwaway())
	all := func(do func(s *redistest.Server)) func() {
		return func() {
			for _, s := range servers {
				do(s)
			}
		}
	}
	var last uint64
	var lease lock.Lease
	for _, step := range []struct {
		name   string
		happen func()
	}{
		{"nothing", func() {}},
		{"all wiped at once", func() {
			for _, s := range servers {
				s.Kill()
			}
			for _, s := range servers {
				s.Restart(true)
			}
		}},
		{"all restarted", all(func(s *redistest.Server) { s.Restart(false) })},
		{"all truncated", all(func(s *redistest.Server) { truncateAOF(t, s, 10); s.Restart(false) })},
		{"all flushed", all(func(s *redistest.Server) { s.Do("FLUSHALL") })},
		{"one flushed", func() { servers[0].Do("FLUSHALL") }},
		{"counters deleted", all(func(s *redistest.Server) { s.Do("DEL", fenceKey("k")) })},
		{"locks deleted", all(func(s *redistest.Server) { s.Do("DEL", lockKey("k")) })},
		{"a majority wiped", func() { servers[1].Restart(true); servers[2].Restart(true) }},
		{"scripts flushed", all(func(s *redistest.Server) { s.Do("SCRIPT", "FLUSH") })},
		{"one restarted with data", func() { servers[1].Restart(false) }},
	} {
		for range 3 { // each after the fault, and with a holder when the next one comes
			step.happen()
			if lease != nil { // what it has under way must not bring it back
				_ = lease.Release(within(t, testTimeout))
			}
			for _, s := range servers {
				s.Do("DEL", lockKey("k")) // the last holder is gone, however
			}
			lease = acquire(t, l, "k", longTTL)
			require.Greater(t, lease.Token(), last, step.name)
			last = lease.Token()
		}
	}
}

func TestRealTTLAboveTheGuardIsRefused(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 1, durableArgs...)
	l := dial(t, servers, guarded())
	_, err := l.TryAcquire(within(t, testTimeout), "k", time.Minute+time.Millisecond)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "1m0.001s")
	lease := acquire(t, l, "k", time.Minute)
	expiry := lease.Expiry()
	require.ErrorIs(t, lease.Extend(within(t, testTimeout), 2*time.Minute), lock.ErrInvalid)
	require.Equal(t, expiry, lease.Expiry())
}

// Its configuration would be that of any one of its servers.
func TestRealClusterIsNeverTakenForDurable(t *testing.T) {
	t.Parallel()
	s := redistest.StartClusterOfOne(t, durableArgs...)
	l := dialURLs(t, []string{"redis://" + s.Addr() + "?cluster=true"}, guarded())
	require.ErrorContains(t, unavailable(t, l, time.Minute), "votes in ")
}

// The present configuration says nothing of what the server was when it started.
// README and Health advise to switch durability on: at the wrong moment that must not
// give a node its vote back which it lost by forgetting.
func TestRealDurabilitySwitchedOnInARunDoesNotEndItsGuard(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		on   [][]string
	}{
		"from nothing":  {nil, [][]string{{"CONFIG", "SET", "appendonly", "yes"}, {"CONFIG", "SET", "appendfsync", "always"}}},
		"from everysec": {everysecArgs, [][]string{{"CONFIG", "SET", "appendfsync", "always"}}},
		"from rewrites without fsync": {
			[]string{"--appendonly", "yes", "--appendfsync", "always", "--no-appendfsync-on-rewrite", "yes"},
			[][]string{{"CONFIG", "SET", "no-appendfsync-on-rewrite", "no"}},
		},
		"statistics reset after it":   {everysecArgs, [][]string{{"CONFIG", "SET", "appendfsync", "always"}, {"CONFIG", "RESETSTAT"}}},
		"switched on, off and on":     {everysecArgs, [][]string{{"CONFIG", "SET", "appendfsync", "always"}, {"CONFIG", "SET", "appendfsync", "no"}, {"CONFIG", "SET", "appendfsync", "always"}}},
		"a replica that was promoted": {durableArgs, [][]string{{"REPLICAOF", "127.0.0.1", "1"}, {"REPLICAOF", "NO", "ONE"}}},
		"rewritten since":             {durableArgs, [][]string{{"BGREWRITEAOF"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := redistest.StartN(t, 3, tc.args...)
			first := acquire(t, dial(t, servers, &redlock.Options{AssumeDurable: true, NodeTimeout: nodeTimeout}), "k", time.Minute)
			settled(t, servers, first, time.Minute)
			for _, s := range servers[:2] {
				s.Restart(true)
				for _, command := range tc.on {
					s.Do(command...)
				}
			}
			l := dial(t, servers, guarded())
			_, err := l.TryAcquire(within(t, testTimeout), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrUnavailable, "a second holder")
			unavailable(t, l, time.Minute)
			require.True(t, time.Now().Before(first.Expiry()), "the test is about a lease that stands")

			h, err := l.Health(within(t, testTimeout))
			require.NoError(t, err)
			require.ErrorContains(t, h.Nodes[0].Err, "votes in ")
			require.Contains(t, strings.Join(h.Nodes[0].Warnings, "\n"), "durable now, but it votes only in ", "and why")
		})
	}
}

// What was switched on in this run holds for the next one, and this one votes once its
// guard is over.
func TestRealDurabilitySwitchedOnInARunCountsAfterItsGuard(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, everysecArgs...)
	o := &redlock.Options{RestartGuard: time.Second}
	s.Do("CONFIG", "SET", "appendfsync", "always")
	acquire(t, dial(t, []*redistest.Server{s}, o), "k", time.Second)
	up, err := strconv.Atoi(infoField(s, "uptime_in_seconds"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, up, 2)
}
