package redlock

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

func TestExtendNeverShortensOnANodeButMayShortenTheLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lease.Extend(t.Context(), time.Second))
		synctest.Wait()
		require.Equal(t, time.Second-12*time.Millisecond, time.Until(lease.Expiry()))
		for _, n := range q.nodes {
			require.Equal(t, ttl, n.redis.TTL("redlock:k"))
		}
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestAConfirmedHolderRepairsNodesThatLostTheLock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(&Options{RestartGuard: -1})
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		for _, n := range q.nodes { // a rolling restart, each comes back empty
			n.restart(true)
			require.NoError(t, lease.Extend(t.Context(), ttl))
			synctest.Wait()
			require.NotEmpty(t, n.value("k"))
			k, _ := script.NewKeys("redlock:", "k")
			require.Empty(t, n.redis.HGet(k.Fence, "run"), "a repair vouches for nothing that was forgotten")
		}
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.Equal(t, 3, q.seen("repair"))
		token := lease.Token()
		require.NoError(t, lease.Release(t.Context()))
		lease = must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.Greater(t, lease.Token(), token)
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestARepairIsRefusedByAnotherRunAnotherHolderOrABrokenCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, _ := q.client(nil)
		n := q.nodes[0]
		n.guarded(time.Hour)
		k, _ := script.NewKeys("redlock:", "k")
		repair := func(run string) script.Kind {
			return replyOf(l.nodes[0].Eval(script.Repair(k, "me/X", "1000", "60000", 50, run), node.Renewing), script.ParseRepair).Kind
		}
		require.Equal(t, script.NotMine, repair("run7"), "another run")
		n.redis.HSet(k.Fence, "count", "many", "run", "run0")
		require.Equal(t, script.NotMine, repair("run0"), "a count that is no number")
		n.redis.HSet(k.Fence, "count", "50")
		require.NoError(t, n.redis.Set(k.Lock, "other"))
		require.Equal(t, script.NotMine, repair("run0"), "another holder")
		n.redis.Del(k.Lock)
		require.Equal(t, script.Repaired, repair("run0"))
		require.Equal(t, "me/X", n.value("k"))
	})
}

// Somebody who waits is granted the lock by a node that lost it, for a moment: the
// node's count is then above the holder's token.
func TestARepairLeavesAHigherCountAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		waiter, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		q.nodes[0].redis.Del("redlock:k")
		_, err := waiter.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
		synctest.Wait()
		k, _ := script.NewKeys("redlock:", "k")
		higher := q.nodes[0].redis.HGet(k.Fence, "count")
		require.NotEqual(t, higher, q.nodes[1].redis.HGet(k.Fence, "count"), "the waiter was granted here")

		require.NoError(t, lease.Extend(t.Context(), ttl))
		synctest.Wait()
		require.NotEmpty(t, q.nodes[0].value("k"), "the lease stands on all nodes again")
		require.Equal(t, higher, q.nodes[0].redis.HGet(k.Fence, "count"), "a count never falls")

		token := lease.Token()
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait()
		next := must(t)(waiter.TryAcquire(t.Context(), "k", ttl))
		require.Greater(t, next.Token(), token)
		require.NoError(t, next.Release(t.Context()))
	})
}

func TestANodeWithoutTheLockIsNotRepairedBeforeAQuorumConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		q.nodes[0].redis.FlushAll()
		nets[1].set(hang)
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrUnavailable)
		synctest.Wait()
		require.Equal(t, 0, q.seen("repair"))
		require.False(t, lease.Expiry().IsZero(), "an unknown outcome loses nothing")
		nets[1].set(healthy)
		time.Sleep(time.Second)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		synctest.Wait()
		require.Equal(t, 1, q.seen("repair"))
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestALockGoneFromAMajorityIsADefiniteLossAndItsReleaseCleansUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		q.nodes[0].redis.Del("redlock:k")
		require.NoError(t, q.nodes[1].redis.Set("redlock:k", "another"))
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
		require.True(t, lease.Expiry().IsZero())
		synctest.Wait()
		require.NotEmpty(t, q.nodes[2].value("k"))
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
		synctest.Wait()
		require.Empty(t, q.nodes[2].value("k"))
		require.Equal(t, "another", q.nodes[1].value("k"))
	})
}

// One node was away at the grant, and is granted to a waiter then; another has forgotten the
// lock, and sits out. The extend finds a loss, but nobody else can have the lock yet: with the
// third node freed, the waiter would have two, while work goes on until the loss is known.
func TestALossThatAnExtendFindsLetsNobodyInBeforeTheExpiry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		for _, n := range q.nodes {
			n.guarded(time.Hour)
		}
		l, _ := q.client(&Options{RestartGuard: 30 * time.Second})
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait() // the third vote is there
		expiry, mine := lease.Expiry(), q.nodes[1].value("k")
		require.NotEmpty(t, mine)
		time.Sleep(2 * time.Second)
		require.NoError(t, q.nodes[0].redis.Set("redlock:k", "the waiter"))
		q.nodes[2].restart(true)
		q.nodes[2].guarded(0)
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
		time.Sleep(time.Until(expiry))
		require.Equal(t, mine, q.nodes[1].value("k"))
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
		synctest.Wait()
		require.Empty(t, q.nodes[1].value("k"), "a release after the work frees it")
	})
}

func TestAnExtendAnsweredByNobodyKeepsTheOldDeadlineAndThenEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		start := time.Now()
		lease := must(t)(l.TryAcquire(t.Context(), "k", time.Second))
		before := lease.Expiry()
		for _, w := range nets {
			w.set(hang)
		}
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrUnavailable)
		require.Equal(t, before, lease.Expiry())
		for time.Since(start) < time.Second {
			require.Error(t, lease.Extend(t.Context(), ttl))
			time.Sleep(50 * time.Millisecond)
		}
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
	})
}

func TestANodeThatMayHaveForgottenDoesNotVote(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		other, _ := q.client(nil)
		for _, n := range q.nodes {
			n.guarded(time.Hour)
		}
		nets[2].set(refuse) // the lease stands on two nodes of three
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		q.nodes[0].restart(true)
		_, err := other.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "node fake1:6379: restarted lately and may have forgotten locks: votes in 1m1s")
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrUnavailable, "nor does it confirm")

		time.Sleep(61 * time.Second)
		lease = must(t)(other.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lease.Release(t.Context()))
	})
}

// What the guard is for: without it, one forgetful restart makes two holders.
// Its confirmation prolongs the lock there, and counts for nothing.
func TestANodeThatMayHaveForgottenDoesNotConfirm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		for _, n := range q.nodes {
			n.guarded(time.Hour)
		}
		l, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		expiry := lease.Expiry()
		time.Sleep(ttl / 4)
		q.nodes[0].restart(false)
		q.nodes[1].restart(false)
		err := lease.Extend(t.Context(), ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "restarted lately")
		require.Equal(t, expiry, lease.Expiry())
		q.nodes[0].guarded(time.Hour)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestWithoutTheGuardOneForgetfulRestartMakesTwoHolders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(&Options{RestartGuard: -1})
		other, _ := q.client(&Options{RestartGuard: -1})
		nets[2].set(refuse)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		time.Sleep(time.Second)
		q.nodes[0].restart(true)
		second := must(t)(other.TryAcquire(t.Context(), "k", ttl))
		require.True(t, time.Now().Before(lease.Expiry()) && time.Now().Before(second.Expiry()))
		require.Greater(t, second.Token(), lease.Token(), "tokens still distinguish them")
		require.NoError(t, second.Release(t.Context()))
	})
}

func TestADurableNodeVotesAtOnceAndIsAskedOnceARun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, _ := q.client(nil)
		n := q.nodes[0]
		n.restart(false)
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		n.durable()
		_, err = l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable, "a node that was not durable is asked again after 5s")
		time.Sleep(5 * time.Second)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.NoError(t, lease.Release(t.Context()))
		n.mu.Lock()
		n.config["appendfsync"] = "everysec"
		n.mu.Unlock()
		n.restart(false)
		_, err = l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable, "durability is known for one run only")
	})
}

func TestReleaseIsNotHeldUpByAHungNodeAndIsFinishedBehindIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		nets[0].set(func(w *network) { w.delay = 150 * time.Millisecond })
		start := time.Now()
		require.NoError(t, lease.Release(t.Context()))
		require.Zero(t, time.Since(start))
		time.Sleep(time.Second)
		q.free("k")
	})
}

func TestAReleaseWithoutAQuorumIsUnavailableAndCanBeTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()   // a vote that was not sent would be withdrawn
		nets[0].set(mute) // applied, reply lost
		nets[1].set(mute)
		start := time.Now()
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrUnavailable)
		require.Equal(t, testNodeTimeout, time.Since(start))
		nets[0].set(healthy)
		nets[1].set(healthy)
		time.Sleep(time.Second)
		require.NoError(t, lease.Release(t.Context()), "its own lost reply is no loss")
		q.free("k")
	})
}

func TestReleasingALockThatIsGoneIsALoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		for _, n := range q.nodes {
			n.redis.FlushAll()
		}
		require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
	})
}
