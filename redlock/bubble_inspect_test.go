package redlock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestInspectTellsTheHolderOfAQuorum(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(&Options{Owner: "alpha:1"})
		info, err := l.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, lock.Info{Key: "k"}, info)

		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		time.Sleep(time.Second)
		nets[0].set(refuse)
		info, err = l.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, lock.Info{Key: "k", Holder: "alpha:1", Token: lease.Token(), TTL: ttl - time.Second}, info)

		nets[1].set(refuse)
		_, err = l.Inspect(t.Context(), "k")
		require.ErrorIs(t, err, lock.ErrUnavailable, "what can't be known is not guessed")
	})
}

func TestInspectCallsLeftoversOfAMinorityFree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		require.NoError(t, q.nodes[0].redis.Set("redlock:k", "x"))
		info, err := l.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Empty(t, info.Holder)
		require.NoError(t, q.nodes[1].redis.Set("redlock:k", "x"))
		info, err = l.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, lock.Info{Key: "k", Holder: foreign, TTL: -1}, info)
	})
}

func TestInspectShowsAnEmptyValueAsAForeignHolder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		require.NoError(t, q.nodes[0].redis.Set("redlock:k", ""))
		info, err := l.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, lock.Info{Key: "k"}, info, "one vote is no holder")
		require.NoError(t, q.nodes[1].redis.Set("redlock:k", ""))
		q.nodes[1].redis.SetTTL("redlock:k", time.Minute)
		info, err = l.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, lock.Info{Key: "k", Holder: foreign, TTL: time.Minute}, info)
		require.Equal(t, []string{"k"}, list(t, l, ""))
		_, err = l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NoError(t, l.ForceRelease(t.Context(), "k", 0))
		require.NoError(t, must(t)(l.TryAcquire(t.Context(), "k", ttl)).Release(t.Context()))
	})
}

func list(t *testing.T, l lock.Inspector, prefix string) []string {
	var keys []string
	for info, err := range l.List(t.Context(), prefix) {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

func TestListStaysWithinThePrefixAndShowsNoCounters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		for _, o := range []*Options{nil, {NoPrefix: true}} {
			l, nets := q.client(o)
			for _, key := range []string{"a:1", "a:2", "b:1", "a*", "[a]"} {
				must(t)(l.TryAcquire(t.Context(), key, ttl))
			}
			require.Equal(t, []string{"a:1", "a:2"}, list(t, l, "a:"))
			require.Equal(t, []string{"a*"}, list(t, l, "a*"))
			require.Equal(t, []string{"[a]"}, list(t, l, "["))
			require.Subset(t, list(t, l, ""), []string{"[a]", "a*", "a:1", "a:2", "b:1"})
			if o != nil {
				require.Empty(t, list(t, l, "lockkeeper:"))
			}
			nets[0].set(refuse)
			require.Equal(t, []string{"b:1"}, list(t, l, "b"), "a quorum shows every lock")
			nets[0].set(healthy)
		}
	})
}

func TestForceReleaseBreaksThatTermOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _ := q.client(nil)
		require.NoError(t, l.ForceRelease(t.Context(), "k", 7), "nobody's")
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		err := l.ForceRelease(t.Context(), "k", lease.Token()-1)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		synctest.Wait() // for the third node, which may get its vote back by what is late
		require.NoError(t, l.ForceRelease(t.Context(), "k", lease.Token()))
		require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)

		require.NoError(t, q.nodes[0].redis.Set("redlock:k", "left over, for ever"))
		require.NoError(t, l.ForceRelease(t.Context(), "k", 0))
		q.free("k")
		require.ErrorIs(t, l.ForceRelease(t.Context(), "", 0), lock.ErrInvalid)
	})
}

func TestHealthCastsARealVoteAndLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		q.nodes[0].guarded(time.Hour)
		q.nodes[1].restart(true)
		nets[2].set(refuse)
		h, err := l.Health(t.Context())
		require.NoError(t, err)
		require.NoError(t, h.Nodes[0].Err)
		require.ErrorContains(t, h.Nodes[1].Err, "votes in 1m1s")
		require.Error(t, h.Nodes[2].Err)
		require.Equal(t, 1, h.Voting())
		require.False(t, h.HasQuorum())

		q.nodes[1].guarded(time.Hour)
		h, err = l.Health(t.Context())
		require.NoError(t, err)
		require.True(t, h.HasQuorum())
		time.Sleep(2 * time.Second)
		require.Empty(t, q.nodes[0].redis.Keys())
	})
}

func TestHealthEndsWithAHungNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		nets[0].set(hang)
		start := time.Now()
		h, err := l.Health(t.Context())
		require.NoError(t, err)
		require.Error(t, h.Nodes[0].Err)
		require.True(t, h.HasQuorum())
		require.Equal(t, 2*testNodeTimeout, time.Since(start))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start = time.Now()
		_, _ = l.Health(ctx)
		require.LessOrEqual(t, time.Since(start), 10*time.Millisecond)
	})
}
