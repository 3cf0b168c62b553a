//go:build linux || darwin || freebsd

package file

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// awaited is an Await of k under way.
type awaited struct {
	cancel   context.CancelCauseFunc
	refusals chan lock.HeldError // what refused received
	done     chan struct{}
	lease    lock.Lease
	err      error
}

// await has one more Await of l wait, and returns once it has a position.
func await(t *testing.T, l *Locker) *awaited {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	w := &awaited{cancel: cancel, refusals: make(chan lock.HeldError, 100), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.lease, w.err = l.Await(ctx, "k", long, func(held *lock.HeldError) { w.refusals <- *held })
	}()
	t.Cleanup(func() { cancel(nil); <-w.done })
	<-w.refusals
	queued(t, l, "k", l)
	return w
}

// hasIt waits for the lease of w, while none of the others has one.
func (w *awaited) hasIt(t *testing.T, others ...*awaited) lock.Lease {
	t.Helper()
	<-w.done
	require.NoError(t, w.err)
	for _, other := range others {
		select {
		case <-other.done:
			require.Fail(t, "another has it, too", "%v", other.err)
		default:
		}
	}
	return w.lease
}

func TestAwaitsAreServedInTheOrderInWhichTheyCame(t *testing.T) {
	dir := t.TempDir()
	a, b := newLocker(t, dir, nil), newLocker(t, dir, nil)
	a.turnTimeout, b.turnTimeout = time.Hour, time.Hour // however slow they are
	lease := acquire(t, a, "k", long)
	first, second := await(t, b), await(t, a)
	third := await(t, b) // enters the queue when the first one of b has left
	release(t, lease)
	lease = first.hasIt(t, second, third)
	for len(queueOf(t, a, "k")) < 2 {
		time.Sleep(100 * time.Microsecond)
	}
	release(t, lease)
	release(t, second.hasIt(t, third))
	release(t, third.hasIt(t))
	require.Empty(t, queueOf(t, a, "k"))
}

func TestAnAwaitIsToldWhoHoldsTheKeyAndByWhomItIsKept(t *testing.T) {
	dir := t.TempDir()
	holder, l := newLocker(t, dir, &Options{Owner: "the holder"}), newLocker(t, dir, nil)
	lease := acquire(t, holder, "k", long)
	refusals := make(chan lock.HeldError, 100)
	var all sync.WaitGroup
	for range 2 { // the second one has no position of its own
		all.Go(func() {
			got, err := l.Await(t.Context(), "k", long, func(held *lock.HeldError) { refusals <- *held })
			if err == nil {
				_ = got.Release(context.Background())
			}
		})
		held := <-refusals
		require.Equal(t, "k", held.Key)
		require.Equal(t, "the holder", held.Holder)
		require.Greater(t, held.RetryAfter, long/2)
	}
	release(t, lease)
	all.Wait()
}

// Neither another process nor another call of the one that is first in the queue.
func TestAKeyThatIsFreeBelongsToTheFirstInTheQueue(t *testing.T) {
	dir := t.TempDir()
	holder, l := newLocker(t, dir, nil), newLocker(t, dir, nil)
	lease := acquire(t, holder, "k", long)
	l.turnTimeout, holder.turnTimeout = time.Hour, time.Hour // however slow it is
	w := await(t, l)
	f, err := l.open("k")
	require.NoError(t, err)
	defer f.close()
	release(t, lease)
	for {
		r, err := f.peek(t.Context())
		require.NoError(t, err)
		if r.Life != lifeless { // it was quicker
			break
		}
		for _, other := range []*Locker{holder, l} {
			_, err := other.TryAcquire(t.Context(), "k", long)
			require.ErrorIs(t, err, lock.ErrHeld)
		}
	}
	release(t, w.hasIt(t))
}

func TestAnAwaitThatIsEndedLeavesNoPosition(t *testing.T) {
	dir := t.TempDir()
	holder, l := newLocker(t, dir, nil), newLocker(t, dir, nil)
	lease := acquire(t, holder, "k", long)
	first, second, third := await(t, l), await(t, l), await(t, l)
	gone := errors.New("gone")
	for _, w := range []*awaited{second, first, third} {
		w.cancel(gone)
		<-w.done
		require.Nil(t, w.lease)
		require.ErrorIs(t, w.err, context.Canceled)
		require.ErrorIs(t, w.err, gone)
	}
	require.Empty(t, queueOf(t, l, "k"))
	require.False(t, l.awaits.any("k"))
	release(t, lease)
	release(t, acquire(t, holder, "k", long))
}

func TestCloseEndsAwaits(t *testing.T) {
	dir := t.TempDir()
	holder, l := newLocker(t, dir, nil), newLocker(t, dir, nil)
	acquire(t, holder, "k", long)
	first, second := await(t, l), await(t, l)
	require.NoError(t, l.Close())
	for _, w := range []*awaited{first, second} {
		<-w.done
		require.ErrorIs(t, w.err, lock.ErrClosed)
	}
}

func TestBadInputToAwaitIsNamed(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	none := func(*lock.HeldError) {}
	_, err := l.Await(t.Context(), "", long, none)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = l.Await(t.Context(), "k", 0, none)
	require.ErrorIs(t, err, lock.ErrInvalid)
}
