//go:build linux || darwin || freebsd

package file

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// age makes a file look as if it had not been written to for so long.
func age(t testing.TB, path string, by time.Duration) {
	t.Helper()
	past := time.Now().Add(-by)
	require.NoError(t, os.Chtimes(path, past, past))
}

const old = pruneAfter + time.Minute

// tidy has l look through the directory as a new one would.
func tidy(t testing.TB, l *Locker) {
	t.Helper()
	l.tidy(t.Context())
}

// put changes what key's file says.
func put(t testing.TB, l *Locker, key string, change func(*record)) {
	t.Helper()
	f, err := l.open(key)
	require.NoError(t, err)
	defer f.close()
	require.NoError(t, f.lock(t.Context()))
	r, err := f.read()
	require.NoError(t, err)
	change(&r)
	require.NoError(t, f.write(&r))
}

func TestWhatHasBeenFreeForAWeekIsPruned(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, nil)
	for i := range 50 {
		release(t, acquire(t, l, fmt.Sprint("job", i), long))
		age(t, l.keyPath(fmt.Sprint("job", i)), old)
	}
	release(t, acquire(t, l, "fresh", long))
	acquire(t, l, "held", 2*old)
	age(t, l.keyPath("held"), old)
	release(t, acquire(t, l, "damaged", long))
	require.NoError(t, os.WriteFile(l.keyPath("damaged"), []byte("x"), 0o600))
	age(t, l.keyPath("damaged"), old)
	release(t, acquire(t, l, "renamed", long))
	stray := filepath.Join(dir, keyPrefix+"stray")
	require.NoError(t, os.Rename(l.keyPath("renamed"), stray))
	age(t, stray, old)

	newLocker(t, dir, nil)
	for i := range 50 {
		require.NoFileExists(t, l.keyPath(fmt.Sprint("job", i)))
	}
	for _, path := range []string{l.keyPath("fresh"), l.keyPath("held"), l.keyPath("damaged"), stray} {
		require.FileExists(t, path)
	}
	refused(t, newLocker(t, dir, nil), "held")
}

// When it ended is not known: the week begins when it is seen.
func TestWhatEndedByItselfIsPrunedAWeekAfterItWasSeen(t *testing.T) {
	dir := t.TempDir()
	dead, other := newLocker(t, dir, nil), newLocker(t, dir, nil)
	first := acquire(t, dead, "k", 2*old)
	die(t, dead)
	rebooted := acquire(t, other, "earlier", long)
	put(t, other, "earlier", func(r *record) { r.Boot = "the boot before" })
	l := newLocker(t, dir, nil)
	for _, key := range []string{"k", "earlier"} {
		age(t, l.keyPath(key), old)
	}
	tidy(t, l)
	for _, key := range []string{"k", "earlier"} {
		require.FileExists(t, l.keyPath(key))
		age(t, l.keyPath(key), pruneAfter-time.Minute)
	}
	tidy(t, l)
	for _, key := range []string{"k", "earlier"} {
		require.FileExists(t, l.keyPath(key))
		age(t, l.keyPath(key), old)
	}
	tidy(t, l)
	for _, key := range []string{"k", "earlier"} {
		require.NoFileExists(t, l.keyPath(key))
	}
	require.Greater(t, acquire(t, l, "k", long).Token(), first.Token())
	require.Greater(t, acquire(t, l, "earlier", long).Token(), rebooted.Token())
}

// The wall clock was ahead when the keys were used, and is right now.
func TestTokensRiseOverAPrunedRecordAlsoIfTheClockWasSetBack(t *testing.T) {
	dir := t.TempDir()
	l := newLocker(t, dir, nil)
	var last uint64
	for _, key := range []string{"k", "j", "k"} {
		release(t, acquire(t, l, key, long))
		put(t, l, key, func(r *record) { r.Token += uint64(1000 * time.Hour / time.Microsecond); r.Reserved = r.Token + 7 })
		lease := acquire(t, l, key, long)
		require.Greater(t, lease.Token(), last)
		last = lease.Token()
		release(t, lease)
		age(t, l.keyPath(key), old)
		tidy(t, l)
		require.NoFileExists(t, l.keyPath(key))
	}
	for _, by := range []*Locker{l, newLocker(t, dir, nil)} {
		lease := acquire(t, by, "k", long)
		require.Greater(t, lease.Token(), last)
		last = lease.Token()
		release(t, lease)
	}
}

// A file that was made before the other one of its name was pruned, and gets the name
// only now.
func TestARecordThatWasMadeBeforeThePruningBeginsAboveIt(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	lease := acquire(t, l, "k", long)
	release(t, lease)
	age(t, l.keyPath("k"), old)
	tidy(t, l)
	require.NoFileExists(t, l.keyPath("k"))
	require.NoError(t, l.createAt(l.keyPath("k"), record{Version: version, Key: "k", Token: 1, Reserved: 1 + reserve, Boot: l.boot}))
	require.Greater(t, acquire(t, l, "k", long).Token(), lease.Token())
}

func TestATokenThatWasNeverCountedToIsNoFloor(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "k", long))
	put(t, l, "k", func(r *record) { r.Token = maxToken - reserve; r.Reserved = maxToken - 1 })
	age(t, l.keyPath("k"), old)
	tidy(t, l)
	require.FileExists(t, l.keyPath("k"))
	require.Less(t, acquire(t, l, "other", long).Token(), uint64(maxFloor))
}

func TestADamagedFloorIsNamed(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	lease := acquire(t, l, "used", long)
	require.NoError(t, os.WriteFile(l.floorPath(), []byte("x"), 0o600))
	_, err := l.TryAcquire(t.Context(), "new", long)
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, l.floorPath())
	release(t, lease)
	release(t, acquire(t, l, "used", long)) // it concerns new keys only
	require.NoError(t, os.Remove(l.floorPath()))
	acquire(t, l, "new", long)
}

// A process that opened the file before it was pruned must not take what has no name any more.
func TestWhoOpenedThePrunedFileTakesTheNextOne(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "k", long))
	early, err := l.open("k")
	require.NoError(t, err)
	defer early.close()
	age(t, l.keyPath("k"), old)
	tidy(t, l)
	require.Equal(t, errNoFile, early.lock(t.Context()))
	lease := acquire(t, l, "k", long)
	refused(t, newLocker(t, l.dir, nil), "k")
	release(t, lease)
}

// Two prune, and one is late: the name is another file's by then.
func TestWhoPrunesLateDeletesNoOtherFile(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "k", long))
	late, err := l.openAt(l.keyPath("k"), "", false)
	require.NoError(t, err)
	defer late.close()
	age(t, l.keyPath("k"), old)
	tidy(t, l)
	acquire(t, l, "k", long)
	age(t, l.keyPath("k"), old) // whatever the clock says
	late.prune(maxFloor)
	require.FileExists(t, l.keyPath("k"))
	refused(t, newLocker(t, l.dir, nil), "k")
}

func TestWhatWasUsedSinceItWasFoundStays(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "k", long))
	f, err := l.openAt(l.keyPath("k"), "", false)
	require.NoError(t, err)
	defer f.close()
	age(t, l.keyPath("k"), old)
	release(t, acquire(t, l, "k", long))
	f.prune(maxFloor)
	require.FileExists(t, l.keyPath("k"))
}

func TestWhatIsInUseIsNotPruned(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	waiter := newLocker(t, l.dir, nil)
	acquire(t, waiter, "other", long)
	release(t, acquire(t, l, "k", long))
	f, err := l.open("k")
	require.NoError(t, err)
	require.NoError(t, f.lock(t.Context()))
	age(t, l.keyPath("k"), old)
	tidy(t, l)
	require.FileExists(t, l.keyPath("k"))
	f.close()
	// Somebody waits, by what the record says.
	put(t, l, "k", func(r *record) { r.Queue = []position{waiter.position()} })
	age(t, l.keyPath("k"), old)
	tidy(t, l)
	require.FileExists(t, l.keyPath("k"))
	die(t, waiter)
	tidy(t, l)
	require.NoFileExists(t, l.keyPath("k"))
}

// Everybody acquires one key again and again, and others delete its file whenever it is free.
func TestPruningNeverMakesTwoHolders(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pruners, workers sync.WaitGroup
	var pruned atomic.Int64
	for range 2 {
		l := newLocker(t, dir, nil)
		path := l.keyPath("k")
		pruners.Go(func() {
			for ctx.Err() == nil {
				past := time.Now().Add(-old)
				_ = os.Chtimes(path, past, past)
				before, err := os.Stat(path)
				l.tidy(ctx)
				if after, afterErr := os.Stat(path); err == nil && (afterErr != nil || !os.SameFile(before, after)) {
					pruned.Add(1)
				}
			}
		})
	}
	var inside sync.Mutex
	var last uint64
	terms := 150
	if testing.Short() {
		terms = 30
	}
	for range 3 {
		l := newLocker(t, dir, nil)
		workers.Go(func() {
			for range terms {
				lease, err := lock.Acquire(t.Context(), l, "k", long, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if !inside.TryLock() {
					t.Error("two are inside")
					return
				}
				if lease.Token() <= last {
					t.Errorf("token %d after %d", lease.Token(), last)
				}
				last = lease.Token()
				inside.Unlock()
				if err := lease.Release(context.Background()); err != nil {
					t.Error(err)
				}
				time.Sleep(rand.N(2 * time.Millisecond)) // free for a moment, at a random one
			}
		})
	}
	workers.Wait()
	cancel()
	pruners.Wait()
	t.Logf("%d terms, pruned %d times", 3*terms, pruned.Load())
	require.Positive(t, pruned.Load())
}

func TestALargeDirectoryIsTidiedOnceAnHour(t *testing.T) {
	dir := t.TempDir()
	for i := range crowd + 1 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(keyPrefix, i)), nil, 0o600))
	}
	l := newLocker(t, dir, nil)
	tidy(t, l) // New's own may not have been whole
	release(t, acquire(t, l, "k", long))
	age(t, l.keyPath("k"), old)
	tidy(t, l)
	require.FileExists(t, l.keyPath("k"))
	before := time.Now().Add(-tidyEvery)
	f, err := l.openAt(l.floorPath(), "", false)
	require.NoError(t, err)
	defer f.close()
	r, err := f.read()
	require.NoError(t, err)
	r.Tidied = before.Unix()
	require.NoError(t, f.write(&r))
	tidy(t, l)
	require.NoFileExists(t, l.keyPath("k"))
}

// A process that lives for long makes many keys' files, and no new Locker.
func TestALongLivedLockerTidiesUpToo(t *testing.T) {
	l := newLocker(t, t.TempDir(), nil)
	release(t, acquire(t, l, "k", long))
	age(t, l.keyPath("k"), old)
	release(t, acquire(t, l, "j", long))
	l.tidying.Wait()
	require.FileExists(t, l.keyPath("k"), "not with each new key")
	l.mu.Lock()
	l.tidied = time.Now().Add(-tidyEvery)
	l.mu.Unlock()
	release(t, acquire(t, l, "i", long))
	l.tidying.Wait()
	require.NoFileExists(t, l.keyPath("k"))
}

func TestOldFilesOfOthersStay(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"mine", ".hidden", livePrefix + "7", "lost+found"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		age(t, path, 100*old)
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, keyPrefix+strings.Repeat("0", 64)), 0o700))
	age(t, filepath.Join(dir, keyPrefix+strings.Repeat("0", 64)), 100*old)
	l := newLocker(t, dir, nil)
	tidy(t, l)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 6, "these, and the floor: %v", entries)
}

// A directory that is too large to be looked through in the time of one New costs that
// time once an hour, and not each New.
func TestALargeDirectoryWhereNothingIsOldDoesNotSlowEachNew(t *testing.T) {
	dir := t.TempDir()
	for i := range crowd + 1 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(keyPrefix, i)), nil, 0o600))
	}
	l := newLocker(t, dir, &Options{Lazy: true})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	l.tidy(over) // it got nowhere
	r, err := l.peekAt(t.Context(), l.floorPath(), "")
	require.NoError(t, err)
	require.NotZero(t, r.Tidied)
}
