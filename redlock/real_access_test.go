package redlock_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

var (
	keeperRules = []string{
		"resetkeys", "~redlock:*", "~" + redlock.FencePrefix + "*", "~" + redlock.StandingPrefix + "*", "~" + redlock.AgreedPrefix + "*", "resetchannels", "&" + redlock.WakePrefix + "*",
		"-@all", "+evalsha", "+eval", "+fcall", "+function|load", "+get", "+set", "+del", "+pttl", "+pexpire", "+hmget", "+hset", "+hdel", "+time", "+info", "+config|get", "+ping",
		"+subscribe", "+publish", "+pubsub|numsub", "+zadd", "+zrank", "+zrange", "+zrem",
	}
	sentinelRules = append(keeperRules[:len(keeperRules):len(keeperRules)], "+role")
	clusterRules  = append(keeperRules[:len(keeperRules):len(keeperRules)], "+cluster|shards", "+cluster|slots", "+asking")
)

// These permissions are enough for leases, waiting, Inspect and Health. That each is
// needed, and that the documentation lists them, is internal/readme's to show.
func TestRealLeastPrivilegedUserCanDoEverything(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do(append([]string{"ACL", "SETUSER", "keeper", "on", ">secret-of-keeper"}, keeperRules...)...)
	l := dialURLs(t, []string{"redis://keeper:secret-of-keeper@" + s.Addr()}, throwaway())
	lease := acquire(t, l, "k", longTTL)
	require.NoError(t, extend(t, lease, longTTL))
	info, err := l.Inspect(within(t, testTimeout), "k")
	require.NoError(t, err)
	require.Equal(t, lease.Token(), info.Token)
	h, err := l.Health(within(t, testTimeout))
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
	wait := waiting(t, []*redistest.Server{s}, dialURLs(t, []string{"redis://keeper:secret-of-keeper@" + s.Addr()}, throwaway()), "k")
	release(t, lease)
	release(t, wait())
	require.Empty(t, s.Do("ACL", "LOG"), "nothing was refused")
}

// The queue is a hint: who may not take a waiter out of it that died has released all
// the same.
func TestRealReleaseSucceedsWhereTheQueueMayNotBeChanged(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do(append(append([]string{"ACL", "SETUSER", "keeper", "on", ">secret"}, keeperRules...), "-zrem")...)
	o := throwaway()
	var failed atomic.Int64
	o.OnRequest = func(_ string, _ time.Duration, err error) {
		if err != nil {
			failed.Add(1)
		}
	}
	l := dialURLs(t, []string{"redis://keeper:secret@" + s.Addr()}, o)
	lease, err := l.TryAcquire(within(t, testTimeout), "k", longTTL)
	require.NoError(t, err)
	s.Do("ZADD", queueKey("k"), "1", "dead")
	s.Do("HSET", fenceKey("k"), "standing", "1")
	require.NoError(t, lease.Release(within(t, testTimeout)))
	require.Zero(t, failed.Load())
	require.Empty(t, s.Do("GET", lockKey("k")))
}

// Whatever of waiting is refused, a waiter gets the lock.
func TestRealWaitersGetTheLockWhateverOfWaitingIsRefused(t *testing.T) {
	t.Parallel()
	for _, refused := range []string{
		"+fcall", "+function|load", "+zadd", "+zrank", "+zrange", "+zrem", "+hdel", "+publish", "+pubsub|numsub", "+subscribe",
		"&" + redlock.WakePrefix + "*", "~" + redlock.StandingPrefix + "*",
	} {
		t.Run(refused, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			rules := slices.DeleteFunc(slices.Clone(keeperRules), func(rule string) bool { return rule == refused })
			require.Len(t, rules, len(keeperRules)-1)
			s.Do(append([]string{"ACL", "SETUSER", "keeper", "on", ">secret"}, rules...)...)
			url := []string{"redis://keeper:secret@" + s.Addr()}
			held := acquire(t, dialURLs(t, url, throwaway()), "k", longTTL)
			waited := make(chan lock.Lease, 1)
			go func() {
				lease, err := lock.Acquire(within(t, testTimeout), dialURLs(t, url, throwaway()), "k", longTTL, nil)
				if err != nil {
					t.Error(err)
				}
				waited <- lease
			}()
			eventually(t, "a request of the waiter's", func() bool { return strings.Count(s.Do("CLIENT", "LIST"), "user=keeper") > 1 })
			release(t, held)
			if lease := <-waited; lease != nil {
				release(t, lease)
			}
		})
	}
}

func TestRealDialErrorsKeepPasswords(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "right")
	for _, url := range []string{
		"redis://:wrong-secret@" + s.Addr(), "redis://user:wrong-secret@127.0.0.1:1",
		"redis://:wrong-secret@127.0.0.1:1/x", "redis://:wrong-secret@[::1", "http://:wrong-secret@h", "redis://:wrong-secret@" + s.Addr() + "?addr=x:y:z",
		"redis://h?master_set=m&sentinel_password=wrong-secret&db=x",
	} {
		_, err := redlock.Dial(within(t, time.Second), []string{url}, throwaway())
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "wrong-secret")
	}
	acquire(t, dialURLs(t, []string{"redis://:right@" + s.Addr()}, throwaway()), "k", longTTL)
}

func TestRealDialWorksWithAMinorityDownAndFindsIt(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	servers[2].Kill()
	l := dial(t, servers, throwaway())
	lease := acquire(t, l, "k", longTTL)
	servers[2].Restart(false)
	eventually(t, "the third node", func() bool {
		require.NoError(t, extend(t, lease, longTTL))
		return votes(servers, "k") == 3
	})
}

func TestRealDialWithoutAQuorumIsUnavailable(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	servers[1].Kill()
	servers[2].Kill()
	_, err := redlock.Dial(within(t, time.Second), urls(redistest.Addrs(servers)), throwaway())
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "node "+servers[1].Addr()+": ")
	require.ErrorContains(t, err, "node "+servers[2].Addr()+": ")
}

func TestRealFenceCounterOutlivesTheLockByTheRetention(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 1)
	o := throwaway()
	o.Retention = time.Hour
	l := dial(t, servers, o)
	release(t, acquire(t, l, "k", longTTL))
	left, err := strconv.ParseInt(servers[0].Do("PTTL", fenceKey("k")), 10, 64)
	require.NoError(t, err)
	require.Greater(t, left, (50 * time.Minute).Milliseconds())
	require.LessOrEqual(t, left, time.Hour.Milliseconds())
}

// Its addresses do not show that it is one server, its run_id does.
func TestRealTwoNamesOfOneServerAreRefused(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	_, err := redlock.Dial(within(t, testTimeout), []string{"redis://" + s.Addr(), fmt.Sprintf("redis://localhost:%d", s.Port())}, throwaway())
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, fmt.Sprintf("nodes 1 (%s) and 2 (localhost:%d) are the same server by their run_id", s.Addr(), s.Port()))
}

// A lazy locker asks nothing when it is made, and a Dial not those that are slow.
func TestRealHealthCountsTwoNamesOfOneServerAsOneVote(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 2)
	o := throwaway()
	o.Lazy = true
	twin := fmt.Sprintf("localhost:%d", servers[0].Port())
	l, err := redlock.Dial(t.Context(), []string{"redis://" + servers[0].Addr(), "redis://" + twin, "redis://" + servers[1].Addr()}, o)
	require.NoError(t, err)
	defer l.Close()
	h, err := l.Health(within(t, testTimeout))
	require.NoError(t, err)
	require.Equal(t, 2, h.Voting())
	require.NoError(t, h.Nodes[0].Err)
	require.EqualError(t, h.Nodes[1].Err, "the same server as "+servers[0].Addr()+" by its run_id, want an independent one for each vote")
	require.NoError(t, h.Nodes[2].Err)
}
