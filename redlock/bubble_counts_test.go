package redlock

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

func TestAgreeingNodesGiveTheTokenInOneRound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		var last uint64
		for range 5 {
			lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
			if last != 0 {
				require.Equal(t, last+1, lease.Token(), "within a run tokens rise by one")
			}
			last = lease.Token()
			synctest.Wait() // until all have voted
			require.NoError(t, lease.Release(t.Context()))
			synctest.Wait()
		}
		require.Equal(t, 15, q.seen("acquire"))
		require.Equal(t, 0, q.seen("commit"))
	})
}

func TestDifferingCountsTakeASecondRoundAndAreHealed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		k, _ := script.NewKeys("redlock:", "k")
		for i, n := range q.nodes {
			n.redis.HSet(k.Fence, "count", strconv.Itoa(100*(i+1)), "run", "-")
		}
		l, _ := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		require.GreaterOrEqual(t, q.seen("commit"), 3)
		require.GreaterOrEqual(t, lease.Token(), uint64(201), "the token is above every count that a quorum has issued")
		for _, n := range q.nodes {
			count, err := strconv.Atoi(n.count("k"))
			require.NoError(t, err)
			require.GreaterOrEqual(t, count, int(lease.Token()))
		}
		require.NoError(t, lease.Release(t.Context()))
	})
}

// One node's word would do for a token that the next quorum need not know of.
func TestATokenNeedsAQuorumInTheSecondRound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		k, _ := script.NewKeys("redlock:", "k")
		for i, n := range q.nodes {
			n.redis.HSet(k.Fence, "count", strconv.Itoa(100*(i+1)), "run", "-")
		}
		for _, w := range nets {
			w.set(func(w *network) { w.delay = 20 * time.Millisecond })
		}
		nets[2].set(func(w *network) { w.hang = true })
		commits := q.seen("commit")
		time.AfterFunc(10*time.Millisecond, func() { // the votes are on their way back
			nets[1].set(mute)
		})
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "1 of 3 nodes agreed on its token, want 2")
		require.Equal(t, 2, q.seen("commit")-commits)
	})
}

func TestALateGrantWithALowerCountIsHealed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait()
		k, _ := script.NewKeys("redlock:", "k")
		q.nodes[2].redis.HSet(k.Fence, "count", "5")
		nets[2].set(func(w *network) { w.delay = 20 * time.Millisecond })
		lease = must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.Equal(t, 0, q.seen("commit"))
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, strconv.FormatUint(lease.Token(), 10), q.nodes[2].count("k"))
		require.NoError(t, lease.Release(t.Context()))
	})
}

// ways are the two to take a lock: by one attempt, and by a request that could wait.
func ways(t *testing.T, run func(t *testing.T, take func(ctx context.Context, l *Locker, key string) (lock.Lease, error))) {
	t.Run("TryAcquire", func(t *testing.T) {
		run(t, func(ctx context.Context, l *Locker, key string) (lock.Lease, error) {
			return l.TryAcquire(ctx, key, ttl)
		})
	})
	t.Run("Await", func(t *testing.T) {
		run(t, func(ctx context.Context, l *Locker, key string) (lock.Lease, error) {
			return l.Await(ctx, key, ttl, func(*lock.HeldError) { t.Error("refused") })
		})
	})
}

// lagging is a quorum whose first node counts one behind the others.
func lagging(t *testing.T) (*quorum, *Locker, []*network) {
	q := newQuorum(t, 3)
	l, nets := q.warm()
	use(t, l) // so that nothing else is sent beside the votes
	synctest.Wait()
	k, _ := script.NewKeys("redlock:", "k")
	for i, n := range q.nodes {
		n.redis.HSet(k.Fence, "count", strconv.Itoa(100+min(i, 1)), "run", "-")
	}
	return q, l, nets
}

// A lease that is over at once leaves no time for a commit: the release takes its place.
func TestAReleaseBringsANodeThatLagsUpToTheToken(t *testing.T) {
	ways(t, func(t *testing.T, take func(context.Context, *Locker, string) (lock.Lease, error)) {
		bubble(t, func(t *testing.T) {
			q, l, nets := lagging(t)
			for _, w := range nets {
				w.set(func(w *network) { w.delay = 10 * time.Millisecond })
			}
			nets[0].set(func(w *network) { w.delay = 30 * time.Millisecond })
			commits := q.seen("commit")
			lease := must(t)(take(t.Context(), l, "k"))
			require.NoError(t, lease.Release(t.Context())) // before the third node's vote
			time.Sleep(time.Second)
			require.Equal(t, commits, q.seen("commit"))
			for i, n := range q.nodes {
				require.Equal(t, strconv.FormatUint(lease.Token(), 10), n.count("k"), "node %d", i)
			}
			q.free("k")
		})
	})
}

// Who has no vote of a node, or whose count there is not of its present run, changes nothing.
func TestAReleaseRaisesOnlyWhatACommitWould(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, l, _ := lagging(t)
		k, _ := script.NewKeys("redlock:", "k")
		r := q.nodes[0].redis
		release := func(value string, token uint64) script.Kind {
			req := script.Release(k, value, "", script.ToToken(token), l.opts.retention, script.Guard{Least: "0"})
			return replyOf(l.nodes[0].Eval(req, node.Freeing), script.ParseRelease).Kind
		}
		set := func(value, count, run string) {
			require.NoError(t, r.Set(k.Lock, value))
			r.HSet(k.Fence, "count", count, "run", run)
		}
		set("another's", "5", "-")
		require.Equal(t, script.NotMine, release("mine", 9))
		require.Equal(t, "5", q.nodes[0].count("k"), "another's lock")
		set("mine", "5", "earlier")
		require.Equal(t, script.Freed, release("mine", 9))
		require.Equal(t, "5", q.nodes[0].count("k"), "of an earlier run")
		set("mine", "12", "-")
		require.Equal(t, script.Freed, release("mine", 9))
		require.Equal(t, "12", q.nodes[0].count("k"), "a count never falls")
		set("mine", "x", "-")
		require.Equal(t, script.Freed, release("mine", 9), "a count that is none does not break a release")
		require.Equal(t, "x", q.nodes[0].count("k"))
		set("mine", "5", "-")
		require.Equal(t, script.Missing, func() script.Kind { r.Del(k.Lock); return release("mine", 9) }())
		require.Equal(t, "5", q.nodes[0].count("k"), "nobody's lock")
		set("mine", "5", "-")
		require.Equal(t, script.Freed, release("mine", 0))
		require.Equal(t, "5", q.nodes[0].count("k"), "without a token")
		set("mine", "5", "-")
		require.Equal(t, script.Freed, release("mine", 9))
		require.Equal(t, "9", q.nodes[0].count("k"))
	})
}

// The second round takes as long as the third vote, which makes it needless.
func TestAVoteOnItsWaySavesTheSecondRound(t *testing.T) {
	ways(t, func(t *testing.T, take func(context.Context, *Locker, string) (lock.Lease, error)) {
		bubble(t, func(t *testing.T) {
			_, l, nets := lagging(t)
			for i, w := range nets {
				w.set(func(w *network) { w.delay = 10*time.Millisecond + time.Duration(i/2)*4*time.Millisecond })
			}
			start := time.Now()
			lease := must(t)(take(t.Context(), l, "k"))
			require.Equal(t, uint64(102), lease.Token())
			require.Less(t, time.Since(start), 30*time.Millisecond, "28 ms for three votes, 40 ms for two rounds")
			require.NoError(t, lease.Release(t.Context()))
		})
	})
}

func TestASilentNodeDelaysTheSecondRoundByOneAtMost(t *testing.T) {
	ways(t, func(t *testing.T, take func(context.Context, *Locker, string) (lock.Lease, error)) {
		bubble(t, func(t *testing.T) {
			_, l, nets := lagging(t)
			for _, w := range nets {
				w.set(func(w *network) { w.delay = 10 * time.Millisecond })
			}
			nets[2].set(hang)
			start := time.Now()
			lease := must(t)(take(t.Context(), l, "k"))
			require.Equal(t, uint64(102), lease.Token())
			require.LessOrEqual(t, time.Since(start), 3*20*time.Millisecond+5*time.Millisecond)
			require.NoError(t, lease.Release(t.Context()))
		})
	})
}

func TestAVoteOfALeaseThatIsOverIsNotSent(t *testing.T) {
	ways(t, func(t *testing.T, take func(context.Context, *Locker, string) (lock.Lease, error)) {
		bubble(t, func(t *testing.T) {
			q := newQuorum(t, 3)
			l, nets := q.warm()
			use(t, l)
			nets[2].set(func(w *network) { w.delay = 50 * time.Millisecond })
			busy := must(t)(l.TryAcquire(t.Context(), "busy", ttl)) // its vote is under way there
			lease := must(t)(take(t.Context(), l, "k"))
			require.NoError(t, lease.Release(t.Context()))
			time.Sleep(time.Second)
			require.Empty(t, q.nodes[2].count("k"), "the slow node was asked for a lease that is over")
			require.NotEmpty(t, q.nodes[2].count("busy"))
			q.free("k")
			require.NoError(t, busy.Release(t.Context()))
		})
	})
}
