package redlock

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// awaits starts an Await, and gives what comes of it.
func (q *quorum) awaits(ctx context.Context, l *Locker, key string, ttl time.Duration) <-chan lock.Lease {
	got := make(chan lock.Lease, 1)
	go func() {
		lease, err := l.Await(ctx, key, ttl, func(*lock.HeldError) {})
		if err != nil {
			q.t.Error(err)
		}
		got <- lease
	}()
	synctest.Wait()
	return got
}

// countAlike makes all nodes count alike: one that began above a token stays there until the
// tokens have reached it.
func (q *quorum) countAlike(l *Locker) {
	q.t.Helper()
	for range 1000 {
		lease := must(q.t)(l.TryAcquire(q.t.Context(), "k", time.Minute))
		time.Sleep(100 * time.Millisecond)
		require.NoError(q.t, lease.Release(q.t.Context()))
		time.Sleep(100 * time.Millisecond)
		if counts := q.nodes[0].count("k"); counts == q.nodes[1].count("k") && counts == q.nodes[2].count("k") {
			return
		}
	}
	q.t.Fatal("the nodes count differently")
}

func TestALeaseThatWasWaitedForStartsWithAClaimAndGrows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		one, _ := q.warm()
		two, _ := q.warm()
		q.countAlike(one)
		held := must(t)(one.TryAcquire(t.Context(), "k", time.Minute))
		synctest.Wait() // it is on all nodes
		got := q.awaits(t.Context(), two, "k", time.Minute)
		time.Sleep(10 * time.Second)
		start := time.Now()
		require.NoError(t, held.Release(t.Context()))
		lease := <-got
		require.Less(t, time.Since(start), 60*time.Millisecond)
		require.Equal(t, held.Token()+1, lease.Token())
		left := time.Until(lease.Expiry())
		require.Greater(t, left, usualClaim/4)
		require.Less(t, left, usualClaim)
		time.Sleep(usualClaim / 8)
		require.Less(t, time.Until(lease.Expiry()), usualClaim, "a quick release costs no extend")
		time.Sleep(usualClaim / 4)
		require.Greater(t, time.Until(lease.Expiry()), 50*time.Second)
		time.Sleep(30 * time.Second)
		require.Equal(t, 3, q.stands("k"))
		require.NoError(t, lease.Release(t.Context()))
		q.free("k")
	})
}

// The nodes' clocks went on: what was granted to a request from before counts from then.
func TestASuspensionDuringAWaitLengthensNoLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		one, _ := q.warm()
		two, _ := q.warm()
		slept := time.Duration(0)
		two.suspended = func() func() time.Duration {
			base := slept
			return func() time.Duration { return slept - base }
		}
		q.countAlike(one)
		held := must(t)(one.TryAcquire(t.Context(), "k", time.Minute))
		synctest.Wait() // it is on all nodes
		got := q.awaits(t.Context(), two, "k", time.Minute)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		slept = 900 * time.Millisecond // little is left of a claim from before
		require.NoError(t, held.Release(t.Context()))
		lease := <-got
		require.Greater(t, time.Until(lease.Expiry()), 50*time.Second, "it was confirmed first, for the whole ttl")
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestAwaitWithoutAQuorumIsUnavailableAndNamesTheNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		nets[0].set(refuse)
		nets[1].set(refuse)
		start := time.Now()
		lease, err := l.Await(t.Context(), "k", ttl, func(*lock.HeldError) {})
		require.Nil(t, lease)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "node fake1:6379: ")
		require.ErrorContains(t, err, "node fake2:6379: ")
		require.LessOrEqual(t, time.Since(start), 2*testNodeTimeout)
		nets[0].set(healthy)
		nets[1].set(healthy)
		time.Sleep(10 * time.Second)
		q.free("k")
		for _, n := range q.nodes {
			require.False(t, n.redis.Exists(StandingPrefix+"{redlock:k}redlock:k"))
		}
	})
}

// Others may have decided before it could answer: that is no sign that it hangs.
func TestAWaitSaysOfANodeThatItGaveNoAnswerOnlyAfterTheNodeTimeout(t *testing.T) {
	const decided, silent = "node fake3:6379: not waited for: the others decided", "node fake3:6379: no answer within 200ms"
	for _, c := range []struct {
		others, third func(w *network)
		want, without string
	}{
		{refuse, slow(testNodeTimeout / 4), decided, "no answer"},
		{hang, hang, silent, "not waited for"},
	} {
		bubble(t, func(t *testing.T) {
			q := newQuorum(t, 3)
			l, nets := q.warm()
			nets[0].set(c.others)
			nets[1].set(c.others)
			nets[2].set(c.third)
			_, err := l.Await(t.Context(), "k", ttl, func(*lock.HeldError) {})
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), c.without)
			for _, w := range nets {
				w.set(healthy)
			}
			time.Sleep(10 * time.Second)
			q.free("k")
		})
	}
}

func TestAWaitOutlastsAnOutageThatIsShort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		one, _ := q.warm()
		two, nets := q.warm()
		held := must(t)(one.TryAcquire(t.Context(), "k", time.Minute))
		synctest.Wait() // it is on all nodes
		got := q.awaits(t.Context(), two, "k", time.Minute)
		for _, n := range nets {
			n.set(refuse)
		}
		time.Sleep(testNodeTimeout / 2)
		for _, n := range nets {
			n.set(healthy)
		}
		require.NoError(t, held.Release(t.Context()))
		require.NoError(t, (<-got).Release(t.Context()))
	})
}

func TestWhatIsKnownOfWaitsIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.warm()
		use := func() lock.Lease {
			return must(t)(l.Await(t.Context(), "k", 2*time.Second, func(*lock.HeldError) {}))
		}
		for range 50 {
			require.NoError(t, use().Release(t.Context()))
		}
		for range 5 { // these are left to their end
			use()
			time.Sleep(3 * time.Second)
		}
		time.Sleep(time.Minute)
		require.NoError(t, use().Release(t.Context()))
		require.LessOrEqual(t, len(l.pushes.all()), 1)
		require.Zero(t, l.pushes.many)
	})
}

func TestANotificationOfNobodyOrNothingDoesNoHarm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		one, _ := q.warm()
		two, _ := q.warm()
		held := must(t)(one.TryAcquire(t.Context(), "k", time.Minute))
		synctest.Wait() // it is on all nodes
		got := q.awaits(t.Context(), two, "k", time.Minute)
		var id string
		for _, s := range two.pushes.all() {
			id = s.id
		}
		for i := range 3 {
			for _, message := range []string{"", "x", "somebody 5 5 5", id, id + " 0 0 0", id + " 5 -1 0", id + " 5 x 0"} {
				two.pushes.push(i, message)
			}
		}
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("a lease of nothing")
		default:
		}
		require.NoError(t, held.Release(t.Context()))
		require.NoError(t, (<-got).Release(t.Context()))
	})
}

// Also where the counts differed, so that the third node has refused to agree.
func TestALeaseThatWasWaitedForStandsOnAllNodesSoon(t *testing.T) {
	for _, counts := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			q := newQuorum(t, 3)
			one, _ := q.warm()
			two, _ := q.warm()
			if !counts {
				q.countAlike(one)
			}
			k, _ := script.NewKeys("redlock:", "k")
			require.NoError(t, q.nodes[2].redis.Set(k.Lock, "foreign"))
			if counts {
				q.nodes[0].redis.HSet(k.Fence, "count", "5", "run", "-")
			}
			lease := must(t)(two.Await(t.Context(), "k", 10*time.Second, func(*lock.HeldError) {}))
			require.Equal(t, counts, time.Until(lease.Expiry()) > time.Second, "confirmed at once")
			require.Equal(t, 3, q.stands("k"))
			q.nodes[2].redis.Del(k.Lock)
			time.Sleep(100 * time.Millisecond)
			require.Equal(t, 3, q.stands("k"))
			if counts {
				require.Greater(t, q.nodes[2].redis.TTL(k.Lock), 9*time.Second, "not for the claim alone")
			}
			require.NoError(t, lease.Release(t.Context()))
			q.free("k")
		})
	}
}

// A node that grants the claim when the lease has been confirmed for its whole ttl.
func TestALateVoteForALeaseThatWasConfirmedIsForItsWholeTTL(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		k, _ := script.NewKeys("redlock:", "k")
		q.nodes[0].redis.HSet(k.Fence, "count", "5", "run", "-")
		nets[2].set(slow(20 * time.Millisecond))
		lease := must(t)(l.Await(t.Context(), "k", 10*time.Second, func(*lock.HeldError) {}))
		require.Greater(t, time.Until(lease.Expiry()), time.Second, "confirmed")
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, 3, q.stands("k"))
		for _, n := range q.nodes {
			require.Greater(t, n.redis.TTL(k.Lock), 9*time.Second)
		}
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestOnRefreshIsToldOfWhatAWaitCostsANode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		one, _ := q.warm()
		var mu sync.Mutex
		refreshes := map[string]int{}
		two, _ := q.client(&Options{OnRefresh: func(node string) {
			mu.Lock()
			defer mu.Unlock()
			refreshes[node]++
		}})
		free := must(t)(two.Await(t.Context(), "free", ttl, func(*lock.HeldError) {}))
		require.NoError(t, free.Release(t.Context()))
		require.Empty(t, refreshes, "nobody waited")
		held := must(t)(one.TryAcquire(t.Context(), "k", time.Minute))
		synctest.Wait() // it is on all nodes: a waiter that has a vote asks the others more often
		got := q.awaits(t.Context(), two, "k", time.Minute)
		time.Sleep(10 * time.Second)
		require.NoError(t, held.Release(t.Context()))
		lease := <-got
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, refreshes, 3)
		for _, n := range q.nodes {
			require.InDelta(t, 25, refreshes[n.name], 5, n.name)
		}
		require.NoError(t, lease.Release(t.Context()))
	})
}
