package redlock_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// sentinelURL names all Sentinels, so that any of them may be down.
func sentinelURL(set *redistest.SentinelSet, more string) string {
	url := "redis://" + set.Sentinels[0].Addr() + "?master_set=" + redistest.MasterSet + more
	for _, s := range set.Sentinels[1:] {
		url += "&addr=" + s.Addr()
	}
	return url
}

// One node of three is a primary with Sentinels. It fails over while a lease is held and
// waited for: the replica had the lock, so that nothing is lost.
func TestRealSentinelFailsOverUnderAHeldLease(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 3, nil, nil)
	others := redistest.StartN(t, 2)
	nodes := append([]string{sentinelURL(set, "")}, urls(redistest.Addrs(others))...)
	alone := dialURLs(t, nodes[:1], onItsOwn())
	quorum := dialURLs(t, nodes, throwaway())
	second := dialURLs(t, nodes, throwaway())

	single := acquire(t, alone, lockKey("single"), longTTL)
	held := acquire(t, quorum, "k", longTTL)
	wait := waiting(t, append([]*redistest.Server{set.Primary}, others...), second, "k")
	standsOn(t, []*redistest.Server{set.Replica, others[0], others[1]}, "k", 3)
	standsOn(t, []*redistest.Server{set.Replica}, "single", 1)

	set.Sentinels[0].Kill() // the one that both clients know best; two are enough
	set.Primary.Kill()
	require.NoError(t, extend(t, held, longTTL), "the other two confirm it meanwhile")
	require.NotErrorIs(t, single.Extend(within(t, time.Second), longTTL), lock.ErrLost, "alone, it can't be seen")
	set.Sentinels = set.Sentinels[1:]
	set.AwaitPrimary(set.Replica)

	require.NoError(t, extend(t, single, longTTL), "on the new primary")
	require.NoError(t, extend(t, held, longTTL))
	release(t, held)
	next := wait()
	require.Greater(t, next.Token(), held.Token())
	repairedOn(t, next, append([]*redistest.Server{set.Replica}, others...))
	release(t, next)
	standsOn(t, append([]*redistest.Server{set.Replica}, others...), "k", 0)
	release(t, single)
	again := acquire(t, alone, lockKey("single"), longTTL)
	require.Greater(t, again.Token(), single.Token())
	release(t, again)

	// The old primary comes back, empty, and takes itself for one until the Sentinels correct
	// it better. Nobody asks it for a vote.
	set.Primary.Restart(true)
	lease := acquire(t, dialURLs(t, nodes[:1], onItsOwn()), lockKey("k"), longTTL)
	require.Equal(t, 1, votes([]*redistest.Server{set.Replica}, "k"))
	require.Zero(t, votes([]*redistest.Server{set.Primary}, "k"))
	require.NoError(t, extend(t, lease, longTTL))
}

// onItsOwn is for clients of one node beside those of three: with another prefix, and
// [lockKey] for the key, they are not refused for that.
func onItsOwn() *redlock.Options {
	o := throwaway()
	o.NoPrefix = true
	return o
}

// Else a fail-over would be known at the next look at the Sentinels only.
func TestRealSentinelsAreListenedTo(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 1, nil, nil)
	dialURLs(t, []string{sentinelURL(set, "")}, throwaway())
	eventually(t, "all of a Sentinel's channels", func() bool {
		return strings.Contains(set.Sentinels[0].Do("CLIENT", "LIST"), " sub=6 ")
	})
}

// What is not promised: the replica lags, and the one vote forgets. Alone it makes two
// holders then, whom only their tokens distinguish. With three, the other two know, if the
// lease stood on both of them.
func TestRealSentinelFailsOverToALaggingReplicaAndForgets(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 1, nil, nil)
	others := redistest.StartN(t, 2)
	nodes := append([]string{sentinelURL(set, "")}, urls(redistest.Addrs(others))...)
	alone, quorum := dialURLs(t, nodes[:1], onItsOwn()), dialURLs(t, nodes, throwaway())
	earlier := acquire(t, alone, lockKey("single"), longTTL)
	release(t, earlier)
	eventually(t, "the counter on the replica", func() bool { return set.Replica.Do("EXISTS", fenceKey("single")) == "1" })

	cutReplication(set)
	first := acquire(t, alone, lockKey("single"), longTTL)
	others[1].Kill()
	died := dialURLs(t, nodes, throwaway())
	thin := acquire(t, died, "thin", longTTL)
	require.NoError(t, died.Close()) // else the lease would stand on all of them soon
	others[1].Restart(false)
	held := acquire(t, quorum, "k", longTTL)
	repairedOn(t, held, append([]*redistest.Server{set.Primary}, others...))
	require.Zero(t, votes([]*redistest.Server{set.Replica}, "k")+votes([]*redistest.Server{set.Replica}, "single"))
	set.Primary.Kill()
	set.AwaitPrimary(set.Replica)

	second := acquire(t, dialURLs(t, nodes[:1], onItsOwn()), lockKey("single"), longTTL)
	require.True(t, time.Now().Before(first.Expiry()), "two holders at once")
	require.Greater(t, second.Token(), first.Token(), "and only their tokens show who is right")
	require.ErrorIs(t, extend(t, first, longTTL), lock.ErrLost, "the first one learns of it when it asks")

	rival := dialURLs(t, nodes, throwaway())
	_, err := rival.TryAcquire(within(t, testTimeout), "k", longTTL)
	require.ErrorIs(t, err, lock.ErrHeld)
	other := acquire(t, rival, "thin", longTTL)
	require.True(t, time.Now().Before(thin.Expiry()), "two holders at once")
	require.Greater(t, other.Token(), thin.Token())
	repairedOn(t, held, append([]*redistest.Server{set.Replica}, others...))
}

// repairedOn renews the lease until it stands on all nodes, the new primary too.
func repairedOn(t *testing.T, lease lock.Lease, servers []*redistest.Server) {
	t.Helper()
	eventually(t, "the lock on all nodes", func() bool {
		require.NoError(t, extend(t, lease, longTTL))
		return votes(servers, lease.Key()) == len(servers)
	})
}

// min-replicas-to-write narrows that to what is on its way when the primary dies.
func TestRealPrimaryWithoutItsReplicaRefusesWhereMinReplicasToWriteIsSet(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 1, []string{"--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"}, nil)
	l := dialURLs(t, []string{sentinelURL(set, "")}, throwaway())
	held := acquire(t, l, "k", longTTL)
	cutReplication(set)
	tries := 0
	eventually(t, "a refusal", func() bool {
		tries++
		_, err := l.TryAcquire(within(t, testTimeout), fmt.Sprint("other", tries), longTTL)
		return err != nil
	})
	_, err := l.TryAcquire(within(t, testTimeout), "other", longTTL)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "NOREPLICAS")
	require.ErrorIs(t, held.Extend(within(t, testTimeout), longTTL), lock.ErrUnavailable)
}

// cutReplication leaves the replica with what it has.
func cutReplication(set *redistest.SentinelSet) {
	set.Primary.Do("ACL", "SETUSER", "default", "-psync", "-sync")
	set.Primary.Do("CLIENT", "KILL", "TYPE", "replica")
}

// Passwords of Sentinels and servers differ, and the user may do what the page says.
func TestRealSentinelWithUsersAndTheCallersClient(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 1, nil, []string{
		"user watcher on >sentinel-secret &* -@all +ping +subscribe +unsubscribe +sentinel|sentinels +sentinel|get-master-addr-by-name",
	})
	user := append([]string{"ACL", "SETUSER", "keeper", "on", ">topsecret"}, sentinelRules...)
	set.Primary.Do(user...)
	l := dialURLs(t, []string{fmt.Sprintf("redis://keeper:topsecret@%s?master_set=%s&sentinel_user=watcher&sentinel_password=sentinel-secret",
		set.Sentinels[0].Addr(), redistest.MasterSet)}, throwaway())
	held := acquire(t, l, "k", longTTL)
	require.NoError(t, extend(t, held, longTTL))
	require.Empty(t, set.Primary.Do("ACL", "LOG"), "nothing was refused")
	require.Empty(t, set.Sentinels[0].Do("ACL", "LOG"), "nothing was refused")

	says := "node unheard-of@" + set.Sentinels[0].Addr() + ": No such master with that name"
	err := dialError(t, []string{"redis://" + set.Sentinels[0].Addr() + "?master_set=unheard-of"}, throwaway(), says)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, says)
	err = dialError(t, []string{fmt.Sprintf("redis://keeper:wrong-secret@%s?master_set=%s&sentinel_user=watcher&sentinel_password=wrong-too",
		set.Sentinels[0].Addr(), redistest.MasterSet)}, throwaway(), "WRONGPASS")
	require.ErrorContains(t, err, "WRONGPASS")
	require.NotContains(t, err.Error(), "wrong-")

	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: redistest.Addrs(set.Sentinels), ConnWriteTimeout: time.Second, DisableRetry: true, DisableCache: true,
		Sentinel: rueidis.SentinelOption{MasterSet: redistest.MasterSet, TopologyRefreshInterval: 5 * time.Second},
	})
	require.NoError(t, err)
	defer client.Close()
	own, err := redlock.New([]rueidis.Client{client}, throwaway())
	require.NoError(t, err)
	defer own.Close()
	_, err = own.TryAcquire(within(t, testTimeout), "k", longTTL)
	require.ErrorIs(t, err, lock.ErrHeld)
	wait := waiting(t, []*redistest.Server{set.Primary}, own, "k")
	release(t, held)
	release(t, wait())
}
