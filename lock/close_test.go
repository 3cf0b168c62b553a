package lock_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

type closable struct {
	lock.Locker
	closed int
}

var errClose = errors.New("close failed")

func (c *closable) Close() error { c.closed++; return errClose }

func TestCloseClosesTheStoreBelowAllDecorators(t *testing.T) {
	store := &closable{Locker: memory.New()}
	for _, l := range []lock.Locker{store, lock.Prefix(store, "app:"), lock.Observe(store, func(lock.Event) {}), lock.Semaphore(store, 3)} {
		require.ErrorIs(t, lock.Close(l), errClose)
	}
	require.Equal(t, 4, store.closed)
	require.NoError(t, lock.Close(struct{ lock.Locker }{store}), "it holds nothing open that it says")
	require.NoError(t, lock.Close(nil))
}
