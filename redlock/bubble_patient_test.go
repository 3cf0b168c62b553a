package redlock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// reconnectsSlowly breaks a client's connections; new ones take a while.
func reconnectsSlowly(t *testing.T, l *Locker, nets []*network) {
	t.Helper()
	for _, w := range nets {
		w.set(refuse)
		w.set(func(w *network) { w.down, w.delay = false, 50*time.Millisecond })
	}
	_, err := l.Inspect(t.Context(), "k") // it finds them broken
	require.ErrorIs(t, err, lock.ErrUnavailable)
	synctest.Wait()
}

// All who need a connection wait for one connect.
func TestAnInspectThatIsGivenUpTakesNobodysVoteWithIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.client(nil)
		release := func(lease lock.Lease) {
			require.NoError(t, lease.Release(t.Context()))
			synctest.Wait()
		}
		release(must(t)(l.TryAcquire(t.Context(), "k", ttl)))
		reconnectsSlowly(t, l, nets)
		given, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		inspected := make(chan error, 1)
		go func() {
			_, err := l.Inspect(given, "k")
			inspected <- err
		}()
		time.Sleep(5 * time.Millisecond)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.ErrorIs(t, <-inspected, context.DeadlineExceeded)
		time.Sleep(time.Second)
		for _, n := range q.nodes {
			require.True(t, n.redis.Exists("redlock:k"), n.name)
		}
		release(lease)
	})
}

func TestAForceReleaseThatIsGivenUpFreesNobodyWhoCameAfterIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		operator, nets := q.warm()
		other, _ := q.warm()
		reconnectsSlowly(t, operator, nets)
		given, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, operator.ForceRelease(given, "k", 0), context.DeadlineExceeded)
		lease := must(t)(other.TryAcquire(t.Context(), "k", ttl))
		time.Sleep(time.Second)
		for _, n := range q.nodes {
			require.NotEmpty(t, n.value("k"), n.name)
		}
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestCloseWaitsForAnInspectUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		reconnectsSlowly(t, l, nets)
		done := make(chan error, 1)
		go func() {
			_, err := l.Inspect(context.Background(), "k")
			done <- err
		}()
		time.Sleep(5 * time.Millisecond)
		require.NoError(t, l.Close())
		require.NoError(t, <-done)
	})
}

// The client library tries some commands again and again until their context ends.
func TestListPassesOverANodeThatIsDownThoughTheCallersClientRetries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.clientWith(nil, func(o *rueidis.ClientOption) { o.DisableRetry = false })
		lease := must(t)(l.TryAcquire(t.Context(), "k", time.Minute))
		synctest.Wait()
		nets[2].set(refuse)
		within, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		var keys []string
		for info, err := range l.List(within, "") {
			require.NoError(t, err)
			keys = append(keys, info.Key)
		}
		require.Equal(t, []string{"k"}, keys)
		require.Less(t, time.Since(start), time.Second)
		require.NoError(t, lease.Release(t.Context()))
	})
}
