package redlock_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// clusterURL names two of its servers, so that one of them may be down, and the user of
// the least rights.
func clusterURL(c *redistest.Cluster) string {
	return "redis://keeper:topsecret@" + c.Servers[0].Addr() + "?cluster=true&addr=" + c.Servers[4].Addr()
}

func TestRealClusterAsOneNode(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	for _, s := range c.Servers { // such users are no part of what is replicated
		s.Do(append([]string{"ACL", "SETUSER", "keeper", "on", ">topsecret"}, clusterRules...)...)
	}
	others := redistest.StartN(t, 2)
	for name, test := range map[string]func(t *testing.T, c *redistest.Cluster, others []*redistest.Server){
		"TakesRenewsAndFrees":                 clusterTakesRenewsAndFrees,
		"HandsOver":                           clusterHandsOver,
		"BesideTwoServersItIsWaitedForByNews": clusterBesideTwoServers,
		"ServesTheCallersClient":              clusterServesTheCallersClient,
		"KeepsTheLockWhileItsSlotMoves":       clusterSlotMoves,
	} {
		t.Run(name, func(t *testing.T) { test(t, c, others) })
		// The next clients use it alone or beside others.
		agreed := redlock.AgreedPrefix + "redlock:"
		for _, s := range append([]*redistest.Server{c.Owner(c.Slot(agreed))}, others...) {
			s.Do("DEL", agreed)
		}
	}
	// Last, since a server is gone after it.
	t.Run("KeepsTheLockWhenAPrimaryFailsOver", func(t *testing.T) { clusterFailsOver(t, c, others) })
	for _, s := range c.Servers {
		if s.PID() != 0 {
			require.NotContains(t, s.Do("ACL", "LOG"), "\nkeeper\n", "nothing was refused")
		}
	}
}

func clusterTakesRenewsAndFrees(t *testing.T, c *redistest.Cluster, _ []*redistest.Server) {
	l, other := dialURLs(t, []string{clusterURL(c)}, throwaway()), dialURLs(t, []string{clusterURL(c)}, throwaway())
	for i := range 20 { // in slots of all three primaries
		key := "k" + strconv.Itoa(i)
		held := acquire(t, l, key, longTTL)
		require.NoError(t, extend(t, held, longTTL))
		_, err := other.TryAcquire(within(t, testTimeout), key, longTTL)
		require.ErrorIs(t, err, lock.ErrHeld)
		release(t, held)
		next := acquire(t, other, key, longTTL)
		require.Greater(t, next.Token(), held.Token())
		release(t, next)
	}
	_, err := l.TryAcquire(within(t, testTimeout), "no}tag", longTTL)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "without a hash tag")
}

// A notification reaches all servers of it.
func clusterHandsOver(t *testing.T, c *redistest.Cluster, _ []*redistest.Server) {
	l, other := dialURLs(t, []string{clusterURL(c)}, throwaway()), dialURLs(t, []string{clusterURL(c)}, throwaway())
	for i := range 6 { // in slots of several primaries
		key := "waited" + strconv.Itoa(i)
		held := acquire(t, l, key, longTTL)
		primary := c.Owner(c.Slot(lockKey(key)))
		wait := waiting(t, []*redistest.Server{primary}, other, key)
		release(t, held)
		release(t, wait())
	}
}

func clusterBesideTwoServers(t *testing.T, c *redistest.Cluster, others []*redistest.Server) {
	nodes := append([]string{clusterURL(c)}, urls(redistest.Addrs(others))...)
	held := acquire(t, dialURLs(t, nodes, throwaway()), "beside", longTTL)
	primary := c.Owner(c.Slot(lockKey("beside")))
	standsOn(t, append([]*redistest.Server{primary}, others...), "beside", 3)
	wait := waiting(t, others, dialURLs(t, nodes, throwaway()), "beside")
	release(t, held)
	next := wait()
	require.Greater(t, next.Token(), held.Token())
	release(t, next)
	standsOn(t, append([]*redistest.Server{primary}, others...), "beside", 0)
}

func clusterServesTheCallersClient(t *testing.T, c *redistest.Cluster, _ []*redistest.Server) {
	held := acquire(t, dialURLs(t, []string{clusterURL(c)}, throwaway()), "users", longTTL)
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: redistest.Addrs(c.Servers[:2]), Username: "keeper", Password: "topsecret",
		ConnWriteTimeout: time.Second, DisableRetry: true, DisableCache: true, ClientSetInfo: rueidis.DisableClientSetInfo,
	})
	require.NoError(t, err)
	defer client.Close()
	own, err := redlock.New([]rueidis.Client{client}, throwaway())
	require.NoError(t, err)
	defer own.Close()
	_, err = own.TryAcquire(within(t, testTimeout), "users", longTTL)
	require.ErrorIs(t, err, lock.ErrHeld)
	release(t, held)
	release(t, acquire(t, own, "users", longTTL))
}

// Wherever the move stands, the lease is extended or stays as it was, and nobody else
// gets it.
func clusterSlotMoves(t *testing.T, c *redistest.Cluster, _ []*redistest.Server) {
	l := dialURLs(t, []string{clusterURL(c)}, throwaway())
	rival := dialURLs(t, []string{clusterURL(c)}, throwaway())
	held := acquire(t, l, "moves", longTTL)
	slot := c.Slot(lockKey("moves"))
	require.Equal(t, slot, c.Slot(fenceKey("moves")), "lock and counter are in one slot")
	from := c.Owner(slot)
	to := c.Servers[0]
	if to == from {
		to = c.Servers[1]
	}
	fromID, toID := from.Do("CLUSTER", "MYID"), to.Do("CLUSTER", "MYID")
	refused := func() {
		t.Helper()
		_, err := rival.TryAcquire(within(t, testTimeout), "moves", longTTL)
		require.Error(t, err)
	}
	move := func(key string) {
		require.Equal(t, "OK", from.Do("MIGRATE", "127.0.0.1", strconv.Itoa(to.Port()), key, "0", "5000"))
	}

	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	require.NoError(t, extend(t, held, longTTL), "before its keys went")
	refused()

	before := held.Expiry()
	move(lockKey("moves"))
	err := held.Extend(within(t, testTimeout), longTTL)
	require.ErrorIs(t, err, lock.ErrUnavailable, "the lock is there, the counter here")
	require.ErrorContains(t, err, "TRYAGAIN")
	require.Equal(t, before, held.Expiry(), "the old expiry stands")
	refused()

	move(fenceKey("moves"))
	require.NoError(t, extend(t, held, longTTL), "by ASK")
	refused()

	// Who may not say ASKING is sent to and fro, but not for ever.
	for _, s := range c.Servers {
		s.Do(append([]string{"ACL", "SETUSER", "hasty", "on", ">topsecret"}, append(clusterRules[:len(clusterRules):len(clusterRules)], "-asking")...)...)
	}
	hasty := strings.Replace(clusterURL(c), "keeper", "hasty", 1)
	_, err = dialURLs(t, []string{hasty}, throwaway()).TryAcquire(within(t, testTimeout), "moves", longTTL)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	_, after, _ := strings.Cut(to.Do("ACL", "LOG"), "count\n")
	count, _, _ := strings.Cut(after, "\n")
	times, err := strconv.Atoi(count)
	require.NoError(t, err)
	require.Less(t, times, 100)

	for _, s := range c.Servers { // the new owner first
		if s == to {
			s.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
		}
	}
	from.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	require.NoError(t, extend(t, held, longTTL), "by MOVED")
	refused()
	c.AwaitOwner(slot, to)
	require.Equal(t, 1, votes([]*redistest.Server{to}, "moves"))
	release(t, held)
	next := acquire(t, rival, "moves", longTTL)
	require.Greater(t, next.Token(), held.Token(), "counted by another server")
	release(t, next)
}

func clusterFailsOver(t *testing.T, c *redistest.Cluster, others []*redistest.Server) {
	alone := dialURLs(t, []string{clusterURL(c)}, onItsOwn())
	quorum := dialURLs(t, append([]string{clusterURL(c)}, urls(redistest.Addrs(others))...), throwaway())
	single, held := acquire(t, alone, lockKey("{over}single"), longTTL), acquire(t, quorum, "{over}k", longTTL)
	slot := c.Slot("redlock:{over}k")
	primary := c.Owner(slot)
	replica := c.Replica(primary)
	eventually(t, "the locks on the replica", func() bool {
		keys := replica.Do("KEYS", "redlock:{over}*")
		return strings.Contains(keys, "single") && strings.Contains(keys, "{over}k")
	})
	primary.Kill()
	require.NoError(t, extend(t, held, longTTL), "the other two confirm it meanwhile")
	require.NotErrorIs(t, single.Extend(within(t, time.Second), longTTL), lock.ErrLost, "alone, it can't be seen")
	c.AwaitOwner(slot, replica)
	require.NoError(t, extend(t, single, longTTL))
	require.NoError(t, extend(t, held, longTTL))
	_, err := dialURLs(t, []string{"redis://keeper:topsecret@" + replica.Addr() + "?cluster=true"}, onItsOwn()).TryAcquire(within(t, testTimeout), lockKey("{over}single"), longTTL)
	require.ErrorIs(t, err, lock.ErrHeld)
	release(t, held)
	release(t, single)
	next := acquire(t, alone, lockKey("{over}single"), longTTL)
	require.Greater(t, next.Token(), single.Token())
	release(t, next)
}
