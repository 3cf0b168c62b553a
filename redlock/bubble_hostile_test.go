package redlock

import (
	"context"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// clusterOfOne is a Locker on a one-server Redis Cluster.
func clusterOfOne(t *testing.T, o *Options) (*Locker, *miniredis.Miniredis) {
	m := miniredis.RunT(t)
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{m.Addr()}, DisableCache: true, DisableRetry: true})
	require.NoError(t, err)
	require.Equal(t, rueidis.ClientModeCluster, c.Mode())
	l, err := New([]rueidis.Client{c}, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		c.Close()
		require.NoError(t, l.Close())
	})
	return l, m
}

// A client library that is given two slots panics: such keys never reach it.
func TestAKeyThatAClusterCantKeepIsRefusedEverywhere(t *testing.T) {
	l, m := clusterOfOne(t, nil)
	ctx := context.Background()
	_, err := l.TryAcquire(ctx, "a}b", ttl)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = l.Inspect(ctx, "a}b")
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorIs(t, l.ForceRelease(ctx, "a}b", 0), lock.ErrInvalid)
	require.ErrorIs(t, l.ForceRelease(ctx, "a}b", 1), lock.ErrInvalid)
	require.NoError(t, m.Set("redlock:a}b", "somebody's"))
	require.NoError(t, m.Set("redlock:c", "somebody's"))
	require.Equal(t, []string{"c"}, list(t, l, ""), "what no client can lock is no lock")

	odd, _ := clusterOfOne(t, &Options{Prefix: "odd}"})
	h, err := odd.Health(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, h.Nodes[0].Err, lock.ErrInvalid)
}

// Without a prefix a key could have the name of another key's counter.
func TestAKeyCantBeAnothersFenceCounter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		for prefix, o := range map[string]*Options{"": {NoPrefix: true}, "lockkeeper:": {Prefix: "lockkeeper:"}} {
			l, _ := q.client(o)
			k, _ := newKeys(prefix, "x")
			_, err := l.TryAcquire(t.Context(), k.fence[len(prefix):], ttl)
			require.ErrorIs(t, err, lock.ErrInvalid)
			lease := must(t)(l.TryAcquire(t.Context(), "x", ttl))
			require.NoError(t, lease.Release(t.Context()))
		}
	})
}
