package keepalive_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestTokenOfFindsTheLeaseOfAKeyHoweverDeepItIsNested(t *testing.T) {
	locker := memory.New()
	app := lock.Prefix(locker, "app:")
	tokens := map[string]uint64{}
	for i, key := range []string{"app:outer", "x", "y"} { // tokens that differ
		for range 3 * (i + 1) {
			lease, err := locker.TryAcquire(t.Context(), key, time.Minute)
			require.NoError(t, err)
			require.NoError(t, lease.Release(t.Context()))
			tokens[key] = lease.Token() + 1
		}
	}
	err := keepalive.Do(t.Context(), app, "outer", time.Minute, func(ctx context.Context) error {
		require.Equal(t, tokens["app:outer"], lock.Token(ctx))
		return inner(t, ctx, locker, tokens)
	}, nil)
	require.NoError(t, err)
}

// inner runs under the lock outer, and takes two more.
func inner(t *testing.T, ctx context.Context, locker lock.Locker, tokens map[string]uint64) error {
	set, err := lock.AcquireAll(ctx, locker, []string{"y", "x"}, time.Minute, nil)
	require.NoError(t, err)
	k, err := keepalive.Start(ctx, set, time.Minute, nil)
	require.NoError(t, err)
	ctx = k.Context()
	require.Equal(t, set.Token(), lock.Token(ctx), "the innermost")
	require.Equal(t, tokens["y"], lock.TokenOf(ctx, "y"))
	require.Equal(t, tokens["x"], lock.TokenOf(ctx, "x"))
	require.Equal(t, tokens["app:outer"], lock.TokenOf(ctx, "outer"), "by the name that Do was given")
	require.Equal(t, tokens["app:outer"], lock.TokenOf(ctx, "app:outer"), "and by the store's")
	require.Zero(t, lock.TokenOf(ctx, "other"))
	require.Zero(t, lock.TokenOf(ctx, ""))
	return k.Release(ctx)
}
