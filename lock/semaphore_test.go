package lock_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestASemaphoreRefusesBadInputBeforeAnyIO(t *testing.T) {
	for says, c := range map[string]struct {
		n   int
		key string
	}{
		"0 slots, want 1 to 1024":    {0, "k"},
		"-1 slots, want 1 to 1024":   {-1, "k"},
		"1025 slots, want 1 to 1024": {1025, "k"},
		"key is empty":               {1, ""},
		"has 503 bytes, want at most 502, which leaves room for the slot": {1, strings.Repeat("k", 503)},
	} {
		f := &fakeLocker{}
		all := &everything{Locker: f}
		l := lock.Semaphore(all, c.n)
		_, err := l.TryAcquire(t.Context(), c.key, ttl)
		require.ErrorIs(t, err, lock.ErrInvalid)
		require.ErrorContains(t, err, says)
		w, _ := lock.As[lock.Watcher](l)
		_, err = w.Watch(t.Context(), c.key, nil)
		require.ErrorIs(t, err, lock.ErrInvalid)
		in, _ := lock.As[lock.Inspector](l)
		_, err = in.Inspect(t.Context(), c.key)
		require.ErrorIs(t, err, lock.ErrInvalid)
		fr, _ := lock.As[lock.ForceReleaser](l)
		require.ErrorIs(t, fr.ForceRelease(t.Context(), c.key, 0), lock.ErrInvalid)
		require.Empty(t, f.attempts)
		require.Empty(t, all.asked)
	}
	l := lock.Semaphore(memory.New(), lock.MaxSlots)
	for range lock.MaxSlots { // the longest key has room for every slot
		lease, err := l.TryAcquire(t.Context(), strings.Repeat("k", 502), ttl)
		require.NoError(t, err)
		require.NoError(t, lock.Check(lease.Key(), ttl))
	}
}

// everything offers all that a locker can, by function fields that are called with
// the key; what was asked is kept.
type everything struct {
	lock.Locker
	watch   func(key string) error
	inspect func(key string) (lock.Info, error)
	list    []lock.Info
	listErr error
	force   func(key string, token uint64) error

	asked   []string
	stopped []string
}

func (e *everything) Watch(_ context.Context, key string, _ chan<- struct{}) (func(), error) {
	e.asked = append(e.asked, key)
	if e.watch != nil {
		if err := e.watch(key); err != nil {
			return nil, err
		}
	}
	return func() { e.stopped = append(e.stopped, key) }, nil
}

func (e *everything) Inspect(_ context.Context, key string) (lock.Info, error) {
	e.asked = append(e.asked, key)
	return e.inspect(key)
}

func (e *everything) List(context.Context, string) iter.Seq2[lock.Info, error] {
	return func(yield func(lock.Info, error) bool) {
		for _, info := range e.list {
			if !yield(info, nil) {
				return
			}
		}
		if e.listErr != nil {
			yield(lock.Info{}, e.listErr)
		}
	}
}

func (e *everything) ForceRelease(_ context.Context, key string, token uint64) error {
	e.asked = append(e.asked, key)
	return e.force(key, token)
}

func TestASemaphoreAdmitsNAndRefusesTheNext(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		store := memory.New()
		l := lock.Semaphore(lock.Prefix(store, "a:"), 3)
		var keys []string
		var leases []lock.Lease
		for i := range 3 {
			lease, err := l.TryAcquire(t.Context(), "k", time.Duration(3-i)*time.Minute)
			require.NoError(t, err)
			keys, leases = append(keys, lease.Key()), append(leases, lease)
		}
		slices.Sort(keys)
		require.Equal(t, []string{"a:k", "a:k;slot=2", "a:k;slot=3"}, keys)
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.EqualError(t, err, `lock: acquire a slot of "k": all 3 are held: lock: "a:k" is held by this process, free in 1m0s at the latest unless renewed`)
		refusal, ok := errors.AsType[*lock.HeldError](err)
		require.True(t, ok)
		require.Equal(t, &lock.HeldError{Key: "a:k", Holder: "this process", RetryAfter: time.Minute}, refusal)

		other, err := l.TryAcquire(t.Context(), "other", ttl) // keys have slots of their own
		require.NoError(t, err)
		require.NoError(t, other.Release(t.Context()))
		require.NoError(t, leases[1].Release(t.Context()))
		again, err := l.TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		require.Equal(t, leases[1].Key(), again.Key())
		require.Greater(t, again.Token(), leases[1].Token())
	})
}

// An operator who brings a limit in does so one client after the other.
func TestAHolderWithoutASemaphoreCountsAsOne(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		l := memory.New()
		two := lock.Semaphore(l.Client("new"), 2)
		plain, err := l.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		second, err := two.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		require.Equal(t, "k;slot=2", second.Key())
		_, err = two.TryAcquire(t.Context(), "k", time.Hour)
		require.ErrorIs(t, err, lock.ErrHeld, "a third")
		require.NoError(t, plain.Release(t.Context()))
		first, err := two.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		require.Equal(t, "k", first.Key())
		require.Greater(t, first.Token(), plain.Token(), "they fence the same resource")
		_, err = l.TryAcquire(t.Context(), "k", time.Hour)
		require.ErrorIs(t, err, lock.ErrHeld, "a third")
	})
}

// Clients of every kind at once: never more of them than the largest n, also if
// their keys look like slots.
func TestClientsWithAnyLimitOrNoneNeverExceedTheLargest(t *testing.T) {
	for _, limits := range [][]int{{0, 1}, {0, 2}, {2, 0, 3}, {1, 4, 0, 2}} {
		l, largest := memory.New(), 1
		for _, n := range limits {
			largest = max(largest, n)
		}
		holders := 0
		for again := true; again; {
			again = false
			for _, n := range limits {
				client := lock.Locker(l)
				if n > 0 {
					client = lock.Semaphore(l, n)
				}
				if _, err := client.TryAcquire(t.Context(), "k", ttl); err == nil {
					holders, again = holders+1, true
				}
			}
		}
		require.Equal(t, largest, holders, limits)
	}
}

func TestSlotsOfDifferentKeysAreDifferentLocks(t *testing.T) {
	store := memory.New()
	single := lock.Semaphore(store, 12)
	seen := map[string]string{}
	for _, key := range []string{"k", "k1", ";slot=", "k;slot=", "k;slot", "k;slot=01", "k;slot=0", "k;slot=1", "k;slot=1025", "K"} {
		for slot := range 12 {
			lease, err := single.TryAcquire(t.Context(), key, ttl)
			require.NoError(t, err, "%s %d", key, slot)
			require.NotContains(t, seen, lease.Key())
			seen[lease.Key()] = key
			of, n := lock.SlotOf(lease.Key())
			require.Equal(t, key, of)
			require.LessOrEqual(t, n, 12)
		}
	}
	require.Len(t, seen, 10*12)
}

func TestAKeyThatIsNamedLikeASlotCostsASlotAndAdmitsNobodyMore(t *testing.T) {
	l := memory.New()
	_, err := l.TryAcquire(t.Context(), "k;slot=2", ttl)
	require.NoError(t, err)
	two := lock.Semaphore(l, 2)
	lease, err := two.TryAcquire(t.Context(), "k", ttl)
	require.NoError(t, err)
	require.Equal(t, "k", lease.Key())
	_, err = two.TryAcquire(t.Context(), "k", ttl)
	require.ErrorIs(t, err, lock.ErrHeld)
}

func TestSlotOfReadsANameFromItsEnd(t *testing.T) {
	type of struct {
		key  string
		slot int
	}
	for name, want := range map[string]of{
		"k": {"k", 1}, "": {"", 1}, "k;slot=2": {"k", 2}, "a:k;slot=1024": {"a:k", 1024}, "k;slot=2;slot=3": {"k;slot=2", 3},
		"k;slot=1": {"k;slot=1", 1}, "k;slot=0": {"k;slot=0", 1}, "k;slot=": {"k;slot=", 1}, "k;slot=02": {"k;slot=02", 1},
		"k;slot=+2": {"k;slot=+2", 1}, "k;slot=1025": {"k;slot=1025", 1}, "k;slot=2x": {"k;slot=2x", 1}, "k;slot=-2": {"k;slot=-2", 1},
		"k;slot=99999999999999999999": {"k;slot=99999999999999999999", 1}, ";slot=2": {";slot=2", 1},
	} {
		key, slot := lock.SlotOf(name)
		require.Equal(t, want, of{key, slot}, name)
	}
}

func TestSemaphoreCallersBeginAtARandomSlot(t *testing.T) {
	first := map[string]bool{}
	for range 200 {
		lease, err := lock.Semaphore(memory.New(), 4).TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		first[lease.Key()] = true
	}
	require.Len(t, first, 4) // not by chance in 10^24 runs
}

func TestARefusalOfAllSlotsTellsTheFirstThatGetsFree(t *testing.T) {
	unknown := &lock.HeldError{Key: "k", Holder: "unknown"}
	for name, c := range map[string]struct {
		refusals map[string]error
		want     lock.HeldError
	}{
		"the shortest": {map[string]error{
			"k":        &lock.HeldError{Key: "full:k", Holder: "a", RetryAfter: 3 * time.Second},
			"k;slot=2": &lock.HeldError{Key: "full:k;slot=2", Holder: "b", RetryAfter: time.Second},
			"k;slot=3": &lock.HeldError{Key: "full:k;slot=3", Holder: "c", RetryAfter: 2 * time.Second},
		}, lock.HeldError{Key: "full:k", Holder: "b", RetryAfter: time.Second}},
		"0 is not the shortest": {map[string]error{
			"k": unknown, "k;slot=2": &lock.HeldError{Key: "k;slot=2", Holder: "b", RetryAfter: time.Second}, "k;slot=3": unknown,
		}, lock.HeldError{Key: "k", Holder: "b", RetryAfter: time.Second}},
		"no time is known": {map[string]error{
			"k": unknown, "k;slot=2": unknown, "k;slot=3": lock.ErrHeld,
		}, lock.HeldError{Key: "k", Holder: "unknown"}},
		"nothing is known": {map[string]error{
			"k": lock.ErrHeld, "k;slot=2": lock.ErrHeld, "k;slot=3": lock.ErrHeld,
		}, lock.HeldError{Key: "k"}},
	} {
		for range 20 { // from every slot on
			l := lock.Semaphore(byKey(func(key string) error { return c.refusals[key] }), 3)
			_, err := l.TryAcquire(t.Context(), "k", ttl)
			held, ok := errors.AsType[*lock.HeldError](err)
			require.True(t, ok)
			require.Equal(t, c.want, *held, name)
		}
	}
}

// Holders of many processes with different n, at random: never more at once than
// the largest, and each slot's tokens rise.
func TestClientsThatDisagreeOnNNeverExceedTheLargerOne(t *testing.T) {
	for range 20 {
		bubble("", t, func(t *testing.T) {
			var mu sync.Mutex // guards all below
			inside, most := 0, 0
			perSlot := map[string]uint64{}
			store := memory.New()
			var wg sync.WaitGroup
			for i, n := range []int{1, 2, 3, 5, 5, 5, 5, 5, 5, 5} {
				l := lock.Semaphore(store.Client(fmt.Sprint(i)), n)
				for range 3 {
					wg.Go(func() {
						for range 5 {
							lease, err := lock.Acquire(t.Context(), l, "k", time.Minute, nil)
							if err != nil {
								t.Errorf("n=%d: %v", n, err)
								return
							}
							mu.Lock()
							inside++
							most = max(most, inside)
							if lease.Token() <= perSlot[lease.Key()] {
								t.Errorf("%s: token %d after %d", lease.Key(), lease.Token(), perSlot[lease.Key()])
							}
							perSlot[lease.Key()] = lease.Token()
							mu.Unlock()
							time.Sleep(time.Millisecond)
							mu.Lock()
							inside--
							mu.Unlock()
							if err := lease.Release(t.Context()); err != nil {
								t.Errorf("release: %v", err)
							}
						}
					})
				}
			}
			wg.Wait()
			require.Equal(t, 5, most)
			require.Len(t, perSlot, 5)
		})
	}
}
