// Package peerbench tests what examples/README.md says of other libraries, to those who come
// from them: whether both exclude each other while programs move, and what their calls return.
package peerbench

import (
	"context"
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	redsyncgoredis "github.com/go-redsync/redsync/v4/redis/goredis/v9"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

const ttl = 30 * time.Second

// nodes starts n servers, and a locker over them whose keys are named as the others'.
func nodes(t *testing.T, n int) ([]string, *redlock.Locker) {
	t.Helper()
	var addrs, urls []string
	for range n {
		s := redistest.Start(t)
		addrs, urls = append(addrs, s.Addr()), append(urls, "redis://"+s.Addr())
	}
	// These servers have just started, and nothing of them is restarted.
	l, err := redlock.Dial(t.Context(), urls, &redlock.Options{NoPrefix: true, RestartGuard: -1, NodeTimeout: 10 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return addrs, l
}

func client(t *testing.T, addr string) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: addr})
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func hold(t *testing.T, l lock.Locker, key string) lock.Lease {
	t.Helper()
	lease, err := l.TryAcquire(t.Context(), key, ttl)
	require.NoError(t, err)
	return lease
}

func requireHeld(t *testing.T, l lock.Locker, key string) {
	t.Helper()
	_, err := l.TryAcquire(t.Context(), key, ttl)
	require.ErrorIs(t, err, lock.ErrHeld)
}

func TestBsmRedislockAndOursExcludeEachOtherOnOneServer(t *testing.T) {
	addrs, l := nodes(t, 1)
	theirs := redislock.New(client(t, addrs[0]))
	held, err := theirs.Obtain(t.Context(), "k", ttl, nil)
	require.NoError(t, err)
	requireHeld(t, l, "k")
	require.NoError(t, held.Release(t.Context()))
	require.ErrorIs(t, held.Release(t.Context()), redislock.ErrLockNotHeld)
	require.ErrorIs(t, held.Refresh(t.Context(), ttl, nil), redislock.ErrNotObtained)

	lease := hold(t, l, "k")
	_, err = theirs.Obtain(t.Context(), "k", ttl, nil)
	require.ErrorIs(t, err, redislock.ErrNotObtained)
	require.NoError(t, lease.Release(t.Context()))
	require.NoError(t, lease.Release(t.Context()), "ours may be repeated")
}

// The trap of a move: one server of three is not a quorum.
func TestBsmRedislockDoesNotExcludeAQuorumOfSeveralServers(t *testing.T) {
	addrs, l := nodes(t, 3)
	_, err := redislock.New(client(t, addrs[0])).Obtain(t.Context(), "k", ttl, nil)
	require.NoError(t, err)
	hold(t, l, "k")
}

func TestRedsyncAndOursExcludeEachOtherOnTheSameServers(t *testing.T) {
	addrs, l := nodes(t, 3)
	var pools []redsyncredis.Pool
	for _, addr := range addrs {
		pools = append(pools, redsyncgoredis.NewPool(client(t, addr)))
	}
	mutex := redsync.New(pools...).NewMutex("k", redsync.WithExpiry(ttl), redsync.WithTries(1), redsync.WithTimeoutFactor(0.3))
	require.NoError(t, mutex.TryLockContext(t.Context()))
	requireHeld(t, l, "k")
	ok, err := mutex.UnlockContext(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	ok, err = mutex.UnlockContext(t.Context())
	require.False(t, ok)
	require.ErrorIs(t, err, redsync.ErrLockAlreadyExpired)

	lease := hold(t, l, "k")
	ok, err = mutex.UnlockContext(t.Context())
	require.False(t, ok)
	var taken *redsync.ErrTaken
	require.ErrorAs(t, err, &taken)
	require.ErrorAs(t, mutex.TryLockContext(t.Context()), &taken)
	require.NoError(t, lease.Release(t.Context()))
	require.NoError(t, mutex.TryLockContext(t.Context()))
}

func TestRueidislockAndOursDoNotExcludeEachOther(t *testing.T) {
	addrs, l := nodes(t, 1)
	theirs, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption: rueidis.ClientOption{InitAddress: addrs}, KeyMajority: 1, KeyValidity: ttl,
	})
	require.NoError(t, err)
	defer theirs.Close()
	ctx, cancel, err := theirs.TryWithContext(t.Context(), "k")
	require.NoError(t, err)
	defer cancel()
	hold(t, l, "k")
	require.NoError(t, ctx.Err())
	_, _, err = theirs.TryWithContext(t.Context(), "k")
	require.ErrorIs(t, err, rueidislock.ErrNotLocked)
	require.NotErrorIs(t, err, context.Canceled)
}
