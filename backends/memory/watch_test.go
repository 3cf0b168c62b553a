package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

func watch(t *testing.T, l *memory.Locker, key string) (wake chan struct{}, stop func()) {
	t.Helper()
	wake = make(chan struct{}, 1)
	stop, err := l.Watch(t.Context(), key, wake)
	require.NoError(t, err)
	t.Cleanup(stop)
	return wake, stop
}

// woken reports whether there is a wake once all that can happen now has happened.
func woken(wake chan struct{}) bool {
	synctest.Wait()
	select {
	case <-wake:
		return true
	default:
		return false
	}
}

func TestRenewalsWakeNobodyAndMoveTheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b := a.Client("b")
		lease := acquire(t, a, "k")
		wake, _ := watch(t, b, "k")
		refused(t, b, "k")
		for range 1000 {
			time.Sleep(ttl / 2)
			require.NoError(t, lease.Extend(t.Context(), ttl))
			require.False(t, woken(wake))
		}
		// The store keeps what it granted, see ExtendTerm.
		require.NoError(t, lease.Extend(t.Context(), time.Second))
		require.Equal(t, time.Now().Add(time.Second), lease.Expiry())
		time.Sleep(ttl - 1)
		require.False(t, woken(wake))
		time.Sleep(time.Nanosecond)
		require.True(t, woken(wake))
		acquire(t, b, "k")
	})
}

// The lease counts on its old Expiry until the answer is noted.
func TestAShorterExtendLetsNobodyInBeforeTheOldExpiry(t *testing.T) {
	for name, slow := range map[string]time.Duration{"at once": 0, "answered after the ttl it asked for": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := memory.New()
				b := a.Client("b")
				lease := acquire(t, a, "k")
				old := lease.Expiry()
				w := await(t, b, "k")
				a.Delay(slow)
				_ = lease.Extend(t.Context(), time.Second)
				require.False(t, w.over())
				time.Sleep(time.Until(old) - 1)
				require.False(t, w.over())
				time.Sleep(time.Nanosecond)
				require.NoError(t, w.result(t))
			})
		})
	}
}

func TestWhoOnlyWatchesIsToldOfEachEndAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b, c := a.Client("b"), a.Client("c")
		always, _ := watch(t, b, "k") // b never asks
		for range 3 {
			lease := acquire(t, a, "k")
			wake, stop := watch(t, c, "k")
			refused(t, c, "k")
			require.False(t, woken(always))
			release(t, lease)
			release(t, acquire(t, c, "k"))
			require.True(t, woken(wake))
			require.True(t, woken(always))
			stop()
		}
	})
}

func TestBadInputToWatchIsNamed(t *testing.T) {
	l := memory.New()
	_, err := l.Watch(t.Context(), "", make(chan struct{}))
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "memory: watch: lock: invalid: key is empty")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err = l.Watch(ctx, "k", make(chan struct{}))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "enough")
}

func TestCloseWakesTheWatchesOfThatClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b, c := a.Client("b"), a.Client("c")
		acquire(t, a, "k")
		mine, _ := watch(t, b, "k")
		theirs, _ := watch(t, c, "k")
		require.NoError(t, b.Close())
		require.True(t, woken(mine))
		require.False(t, woken(theirs))
		_, err := b.Watch(t.Context(), "k", make(chan struct{}))
		require.ErrorIs(t, err, lock.ErrClosed)
	})
}

func TestAHandOffWakesThoseWhoOnlyWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := memory.New()
		b, c := a.Client("b"), a.Client("c")
		lease := acquire(t, a, "k")
		wake, _ := watch(t, c, "k")
		w := await(t, b, "k")
		require.False(t, woken(wake))
		release(t, lease)
		require.NoError(t, w.result(t))
		require.True(t, woken(wake))
		require.Equal(t, "b", refused(t, c, "k").Holder)
	})
}
