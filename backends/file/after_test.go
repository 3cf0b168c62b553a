//go:build linux || darwin || freebsd

package file

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// A kernel lock would be gone with the process: the record says how long.
func TestAKeptHoldOutlivesItsProcess(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "hold", dir, "1s")
	p.token()
	require.Equal(t, "<nil>", p.ask("keep"))
	p.kill()
	l := newLocker(t, dir, nil)
	held := refused(t, l, "k")
	require.Greater(t, held.RetryAfter, 50*time.Minute)
	info, err := l.Inspect(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, held.Holder, info.Holder)
	require.NoError(t, l.ForceRelease(t.Context(), "k", info.Token))
	lease := acquire(t, l, "k", long)
	die(t, l)
	acquire(t, newLocker(t, dir, nil), "k", long) // the next term is no kept one
	require.Greater(t, lease.Token(), info.Token)
}

// Who follows a process that reports until when it holds goes on when it has ended.
func TestAHoldUntilExpiryOutlivesItsLockerAndNotItsRelease(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, &Options{UntilExpiry: true})
	lease := acquire(t, l, "k", long)
	require.NoError(t, lease.Extend(t.Context(), time.Hour))
	die(t, l)
	other := newLocker(t, dir, nil)
	require.Greater(t, refused(t, other, "k").RetryAfter, 50*time.Minute)

	l = newLocker(t, dir, &Options{UntilExpiry: true})
	lease = acquire(t, l, "another", long)
	require.NoError(t, lease.Release(t.Context()))
	acquire(t, other, "another", long)
}

func TestAKeptHoldEndsByItself(t *testing.T) {
	dir := t.TempDir()
	holder := newLocker(t, dir, nil)
	start := time.Now()
	lease := acquire(t, holder, "k", long)
	const d = 2 * time.Second // far less than the ttl
	require.NoError(t, lock.ReleaseAfter(t.Context(), lease, d))
	die(t, holder)
	next, err := lock.Acquire(t.Context(), newLocker(t, dir, nil), "k", long, nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(start), d)
	require.Less(t, time.Since(start), long, "its waiter knows when")
	require.Greater(t, next.Token(), lease.Token())
}

func TestWhoWaitsWhileAHoldBecomesAKeptOneIsNotWokenByADeath(t *testing.T) {
	dir := t.TempDir()
	holder := newLocker(t, dir, nil)
	lease := acquire(t, holder, "k", long)
	lockers, wakes, _ := waiting(t, dir, "k", 1, nil)
	require.NoError(t, lock.ReleaseAfter(t.Context(), lease, time.Hour))
	die(t, holder)
	refused(t, lockers[0], "k")
	require.NoError(t, newLocker(t, dir, nil).ForceRelease(t.Context(), "k", 0))
	woken(t, wakes[0])
	acquire(t, lockers[0], "k", long)
}

func TestAKeptHoldIsNotPruned(t *testing.T) {
	dir := t.TempDir()
	holder := newLocker(t, dir, nil)
	require.NoError(t, lock.ReleaseAfter(t.Context(), acquire(t, holder, "k", long), 2*old))
	die(t, holder)
	l := newLocker(t, dir, nil)
	age(t, l.keyPath("k"), old)
	tidy(t, l)
	require.Greater(t, refused(t, l, "k").RetryAfter, old)
}

func TestAKeptHoldIsOverAfterABoot(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, nil)
	require.NoError(t, lock.ReleaseAfter(t.Context(), acquire(t, l, "k", long), time.Hour))
	after := newLocker(t, dir, nil)
	after.boot = "the next one"
	acquire(t, after, "k", long)
}

// By the record's clock, that is: a lease would not ask.
func TestAHoldThatIsOverIsNotKept(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	for name, end := range map[string]func(*record){
		"expired": func(r *record) { r.Expiry = int64(l.clock.Now()) },
		"broken":  func(r *record) { r.clear() },
		"another": func(r *record) { r.Token++ },
	} {
		t.Run(name, func(t *testing.T) {
			lease := acquire(t, l, name, long)
			put(t, l, name, end)
			require.ErrorIs(t, lock.ReleaseAfter(t.Context(), lease, time.Hour), lock.ErrLost)
			put(t, l, name, func(r *record) { require.False(t, r.Kept) })
		})
	}
}
