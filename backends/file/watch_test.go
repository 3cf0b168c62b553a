//go:build linux || darwin || freebsd

package file

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// unnotified makes l go without the kernel's notifications.
func unnotified(t *testing.T, l *Locker) {
	t.Helper()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	n, err := openPolling()
	require.NoError(t, err)
	l.hub.begin(n)
}

func woken(t *testing.T, wake <-chan struct{}) {
	t.Helper()
	select {
	case <-wake:
	case <-time.After(soon):
		require.FailNow(t, "no wake")
	}
}

// waiting puts lockers into the queue of key, which is held.
func waiting(t *testing.T, dir string, key string, n int, prepare func(*testing.T, *Locker)) (lockers []*Locker, wakes []chan struct{}, stops []func()) {
	t.Helper()
	for range n {
		l := newLocker(t, dir, nil)
		if prepare != nil {
			prepare(t, l)
		}
		wake := make(chan struct{}, 1)
		stop, err := l.Watch(t.Context(), key, wake)
		require.NoError(t, err)
		t.Cleanup(stop)
		refused(t, l, key)
		lockers, wakes, stops = append(lockers, l), append(wakes, wake), append(stops, stop)
	}
	return lockers, wakes, stops
}

func TestLockersAreServedInTheOrderInWhichTheyCame(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *Locker){"with notifications": nil, "without": unnotified} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			holder := newLocker(t, dir, nil)
			lease := acquire(t, holder, "k", long)
			lockers, wakes, _ := waiting(t, dir, "k", 4, prepare)
			var want []position
			for _, l := range lockers {
				want = append(want, l.position())
			}
			for i, l := range lockers {
				require.Equal(t, want[i:], queueOf(t, holder, "k"))
				release(t, lease)
				woken(t, wakes[i])
				lease = acquire(t, l, "k", long)
			}
			require.Empty(t, queueOf(t, holder, "k"))
		})
	}
}

func TestNobodyBargesInBeforeTheFirstInTheQueue(t *testing.T) {
	dir := t.TempDir()
	hour := func(_ *testing.T, l *Locker) { l.turnTimeout = time.Hour } // no pause of this process ends it
	holder, other := newLocker(t, dir, nil), newLocker(t, dir, nil)
	hour(t, holder)
	hour(t, other)
	lease := acquire(t, holder, "k", long)
	lockers, _, _ := waiting(t, dir, "k", 2, hour)
	release(t, lease)
	require.Greater(t, refused(t, holder, "k").RetryAfter, 50*time.Minute, "the one who just had it")
	refused(t, other, "k")
	refused(t, lockers[1], "k")
	acquire(t, lockers[0], "k", long)
}

func TestAWaiterThatLeavesIsOutOfTheLine(t *testing.T) {
	dir := t.TempDir()
	holder := newLocker(t, dir, nil)
	lease := acquire(t, holder, "k", long)
	lockers, wakes, stops := waiting(t, dir, "k", 3, nil)
	stops[1]()
	stops[1]()
	require.Equal(t, []position{lockers[0].position(), lockers[2].position()}, queueOf(t, holder, "k"))
	release(t, lease)
	woken(t, wakes[0])
	stops[0]() // while the key is reserved for it
	woken(t, wakes[2])
	acquire(t, lockers[2], "k", long)
	require.Empty(t, queueOf(t, holder, "k"))
}

func TestDeadWaitersArePassedOver(t *testing.T) {
	dir := t.TempDir()
	holder := newLocker(t, dir, nil)
	lease := acquire(t, holder, "k", long)
	lockers, _, _ := waiting(t, dir, "k", 3, nil)
	die(t, lockers[0])
	die(t, lockers[1])
	release(t, lease)
	require.Equal(t, []position{lockers[2].position()}, queueOf(t, holder, "k"))
}

func TestALockerThatLostItsPlaceAsksForAnother(t *testing.T) {
	dir := t.TempDir()
	holder := newLocker(t, dir, nil)
	lease := acquire(t, holder, "k", long)
	lockers, wakes, _ := waiting(t, dir, "k", 1, nil)
	f, err := holder.open("k")
	require.NoError(t, err)
	defer f.close()
	require.NoError(t, f.lock(t.Context()))
	r, err := f.read()
	require.NoError(t, err)
	r.Queue = nil // by those for whom its turn timeout was over
	require.NoError(t, f.write(&r))
	f.close()
	f.locked = false
	woken(t, wakes[0])
	refused(t, lockers[0], "k")
	require.Len(t, queueOf(t, holder, "k"), 1)
	release(t, lease)
}

func TestNewsOfARecordThatWasDeletedGoOnWithTheNextOne(t *testing.T) {
	dir := t.TempDir()
	holder := newLocker(t, dir, nil)
	acquire(t, holder, "k", long)
	lockers, wakes, _ := waiting(t, dir, "k", 1, nil)
	require.NoError(t, os.Remove(holder.keyPath("k")))
	woken(t, wakes[0])
	lease := acquire(t, holder, "k", long)
	refused(t, lockers[0], "k")
	select { // what was left of the first file
	case <-wakes[0]:
	default:
	}
	release(t, lease)
	woken(t, wakes[0])
	acquire(t, lockers[0], "k", long)
}

func TestCloseWakesWaiters(t *testing.T) {
	dir := t.TempDir()
	acquire(t, newLocker(t, dir, nil), "k", long)
	l := newLocker(t, dir, nil)
	result := make(chan error, 1)
	go func() {
		_, err := lock.Acquire(context.Background(), l, "k", long, nil)
		result <- err
	}()
	queued(t, l, "k", nil)
	require.NoError(t, l.Close())
	select {
	case err := <-result:
		require.ErrorIs(t, err, lock.ErrClosed)
	case <-time.After(soon):
		require.FailNow(t, "it still waits")
	}
	_, err := l.Watch(t.Context(), "k", make(chan struct{}))
	require.ErrorIs(t, err, lock.ErrClosed)
}

func TestTheGoroutineEndsSoonAfterTheLastWatch(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	for _, key := range []string{"a", "b"} {
		stop, err := l.Watch(t.Context(), key, make(chan struct{}))
		require.NoError(t, err)
		stop()
	}
	ended := make(chan struct{})
	go func() {
		l.hub.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(soon):
		require.FailNow(t, "it still runs")
	}
	require.Nil(t, l.hub.notifier)
	require.Nil(t, l.hub.keys)
	stop, err := l.Watch(t.Context(), "a", make(chan struct{})) // and begins anew
	require.NoError(t, err)
	stop()
}

func TestALineThatIsTooLongLosesItsEnd(t *testing.T) {
	l := newLocker(t, t.TempDir(), &Options{Owner: strings.Repeat(`"`, maxOwner)})
	for _, key := range []string{"k", strings.Repeat("\x01", lock.MaxKeyLen)} {
		lease := acquire(t, l, key, long)
		f, err := l.open(key)
		require.NoError(t, err)
		require.NoError(t, f.lock(t.Context()))
		r, err := f.read()
		require.NoError(t, err)
		for i := range 1000 {
			r.Queue = append(r.Queue, position(fmt.Sprintf("%d.ABCDEFGHIJKL", i)))
		}
		require.NoError(t, f.write(&r))
		f.close()
		left := queueOf(t, l, key)
		require.Less(t, len(left), 1000)
		if key == "k" {
			require.Greater(t, len(left), 100)
			require.Equal(t, r.Queue[:len(left)], left)
		}
		release(t, lease) // they are gone
		require.Empty(t, queueOf(t, l, key))
	}
}

func TestBadInputToWatchIsNamed(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	_, err := l.Watch(t.Context(), "", make(chan struct{}))
	require.ErrorIs(t, err, lock.ErrInvalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.Watch(ctx, "k", make(chan struct{}))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, os.RemoveAll(l.dir))
	_, err = l.Watch(t.Context(), "k", make(chan struct{}))
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, l.dir)
}
