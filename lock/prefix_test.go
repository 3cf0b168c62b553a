package lock_test

import (
	"context"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// fullStore offers all that a locker can, and remembers which names were asked for.
type fullStore struct{ names []string }

func (e *fullStore) seen(name string) { e.names = append(e.names, name) }

func (e *fullStore) TryAcquire(_ context.Context, key string, _ time.Duration) (lock.Lease, error) {
	e.seen("try " + key)
	return new(store).lease(func(g *lock.Grant) { g.Key = key }), nil
}

func (e *fullStore) Watch(_ context.Context, key string, _ chan<- struct{}) (func(), error) {
	e.seen("watch " + key)
	return func() {}, nil
}

func (e *fullStore) Inspect(_ context.Context, key string) (lock.Info, error) {
	e.seen("inspect " + key)
	return lock.Info{Key: key}, nil
}

func (e *fullStore) List(_ context.Context, prefix string) iter.Seq2[lock.Info, error] {
	e.seen("list " + prefix)
	return func(yield func(lock.Info, error) bool) { yield(lock.Info{Key: prefix + "x"}, nil) }
}

func (e *fullStore) ForceRelease(_ context.Context, key string, _ uint64) error {
	e.seen("force " + key)
	return nil
}

func (e *fullStore) Health(context.Context) (lock.Health, error) {
	e.seen("health")
	return lock.Health{}, nil
}

func (e *fullStore) Close() error {
	e.seen("close")
	return nil
}

func (e *fullStore) onlyFullStore() {}

// offered is what As must find.
func offered[T any](t *testing.T, l lock.Locker) T {
	t.Helper()
	v, ok := lock.As[T](l)
	require.True(t, ok)
	return v
}

func TestPrefixStandsBeforeEveryKey(t *testing.T) {
	e := &fullStore{}
	l := lock.Prefix(e, "tenant:")
	lease, err := l.TryAcquire(t.Context(), "k", ttl)
	require.NoError(t, err)
	require.Equal(t, "tenant:k", lease.Key())
	_, err = offered[lock.Watcher](t, l).Watch(t.Context(), "k", nil)
	require.NoError(t, err)
	info, err := offered[lock.Inspector](t, l).Inspect(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "tenant:k", info.Key)
	for info := range offered[lock.Inspector](t, l).List(t.Context(), "k") {
		require.Equal(t, "tenant:kx", info.Key)
	}
	for info := range offered[lock.Inspector](t, l).List(t.Context(), "") {
		require.Equal(t, "tenant:x", info.Key)
	}
	require.NoError(t, offered[lock.ForceReleaser](t, l).ForceRelease(t.Context(), "k", 0))
	_, err = offered[lock.HealthChecker](t, l).Health(t.Context())
	require.NoError(t, err)
	require.NoError(t, offered[io.Closer](t, l).Close())
	require.Equal(t, []string{
		"try tenant:k", "watch tenant:k", "inspect tenant:k", "list tenant:k", "list tenant:", "force tenant:k", "health", "close",
	}, e.names)
}

func TestPrefixOfAPrefixStandsBehindIt(t *testing.T) {
	e := &fullStore{}
	l := lock.Prefix(lock.Prefix(e, "a:"), "b:")
	_, err := l.TryAcquire(t.Context(), "k", ttl)
	require.NoError(t, err)
	require.NoError(t, offered[lock.ForceReleaser](t, l).ForceRelease(t.Context(), "k", 0))
	require.Equal(t, []string{"try a:b:k", "force a:b:k"}, e.names)
}

func TestAnEmptyPrefixChangesNothing(t *testing.T) {
	e := &fullStore{}
	require.Same(t, e, lock.Prefix(e, ""))
}

func TestAPrefixOffersOnlyWhatIsBelowItAndKnown(t *testing.T) {
	l := lock.Prefix(plain{}, "p:")
	_, ok := lock.As[lock.Watcher](l)
	require.False(t, ok)
	_, ok = lock.As[lock.Inspector](l)
	require.False(t, ok)
	_, ok = lock.As[lock.ForceReleaser](l)
	require.False(t, ok)
	_, ok = lock.As[lock.HealthChecker](l)
	require.False(t, ok)
	_, ok = lock.As[io.Closer](l)
	require.False(t, ok)
	_, ok = lock.As[interface{ onlyFullStore() }](lock.Prefix(&fullStore{}, "p:"))
	require.False(t, ok, "it could carry keys")
}

func TestAPrefixedKeyThatIsNoKeyIsInvalidBeforeAnyIO(t *testing.T) {
	e := &fullStore{}
	long := strings.Repeat("k", lock.MaxKeyLen)
	for _, c := range []struct{ prefix, key, says string }{
		{"tenant:", "", "empty"},
		{"tenant:", long, "tenant:"},
		{"ten\xffant:", "k", `"k" with prefix "ten\xffant:"`},
		{"ten\xc3", "\xa9", "UTF-8"}, // halves of one letter
	} {
		l := lock.Prefix(e, c.prefix)
		_, acquire := l.TryAcquire(t.Context(), c.key, ttl)
		_, watch := offered[lock.Watcher](t, l).Watch(t.Context(), c.key, nil)
		_, inspect := offered[lock.Inspector](t, l).Inspect(t.Context(), c.key)
		force := offered[lock.ForceReleaser](t, l).ForceRelease(t.Context(), c.key, 0)
		for _, err := range []error{acquire, watch, inspect, force} {
			require.ErrorIs(t, err, lock.ErrInvalid)
			require.ErrorContains(t, err, c.says)
		}
	}
	_, err := lock.Prefix(e, "tenant:").TryAcquire(t.Context(), "k", 0)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.Empty(t, e.names)
	_, err = lock.Prefix(e, "tenant:").TryAcquire(t.Context(), long[len("tenant:"):], ttl)
	require.NoError(t, err)
}
