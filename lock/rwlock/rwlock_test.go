package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

const ttl = 10 * time.Second

func newLock(t *testing.T, l lock.Locker, n int) *rwlock.Lock {
	t.Helper()
	rw, err := rwlock.New(l, n)
	require.NoError(t, err)
	return rw
}

// hold is a lease as its holder saw it: from its grant to its release or expiry.
type hold struct {
	who          string
	write        bool
	token        uint64
	asked        time.Time
	begin, until time.Time
}

// check says what a history of holds has of two that must not be, with at most n readers.
func check(holds []hold, n int) (wrong []string) {
	slices.SortFunc(holds, func(x, y hold) int { return x.begin.Compare(y.begin) })
	for i, h := range holds {
		readers := 1
		for _, o := range holds[:i] {
			if !o.until.After(h.begin) { // it was over: the order of tokens
				if (h.write || o.write) && o.token >= h.token {
					wrong = append(wrong, fmt.Sprintf("%+v came before %+v, with a larger token", o, h))
				}
				continue
			}
			switch {
			case h.write || o.write:
				wrong = append(wrong, fmt.Sprintf("%+v and %+v overlap", o, h))
			default:
				readers++
			}
		}
		if readers > n && !h.write {
			wrong = append(wrong, fmt.Sprintf("%d readers at %v, want %d", readers, h.begin, n))
		}
	}
	return wrong
}

func TestTheCheckSeesWhatMustNotBe(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	good := []hold{
		{who: "r1", token: 1, begin: at(0), until: at(5)}, {who: "r2", token: 2, begin: at(1), until: at(6)},
		{who: "w", write: true, token: 3, begin: at(6), until: at(8)},
	}
	require.Empty(t, check(slices.Clone(good), 2))
	require.Len(t, check(slices.Clone(good), 1), 1)
	bad := slices.Clone(good)
	bad[2].begin = at(5)
	require.Len(t, check(bad, 2), 1)
	bad = slices.Clone(good)
	bad[2].token = 2
	require.Len(t, check(bad, 2), 1)
}

// Sixteen clients read and write, some of them with another number of readers, some
// leave their lease to run out, some give up while they wait.
func TestHistoriesOfReadersAndWriters(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			store := memory.New()
			var mu sync.Mutex
			var holds []hold
			var wg sync.WaitGroup
			for c := range 16 {
				rng := rand.New(rand.NewPCG(seed, uint64(c)))
				who := fmt.Sprint("client-", c)
				rw := newLock(t, store.Client(who), 2+c%3)
				wg.Go(func() {
					for range 20 {
						time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
						write := rng.IntN(4) == 0
						l := rw.Readers()
						if write {
							l = rw.Writer()
						}
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rng.IntN(60))*time.Second)
						asked := time.Now()
						var lease lock.Lease
						var err error
						if rng.IntN(4) == 0 {
							lease, err = l.TryAcquire(ctx, "k", ttl)
						} else {
							lease, err = lock.Acquire(ctx, l, "k", ttl, nil)
						}
						cancel()
						if err != nil {
							if !errors.Is(err, lock.ErrHeld) && !errors.Is(err, context.DeadlineExceeded) {
								t.Errorf("%s: %v", who, err)
							}
							continue
						}
						h := hold{who: who, write: write, token: lease.Token(), asked: asked, begin: time.Now(), until: lease.Expiry()}
						if rng.IntN(10) > 0 { // else it crashes
							time.Sleep(time.Duration(rng.Int64N(int64(ttl / 2))))
							if rng.IntN(3) == 0 {
								if err := lease.Extend(t.Context(), ttl); err != nil {
									t.Errorf("%s: extend: %v", who, err)
								}
								time.Sleep(time.Duration(rng.Int64N(int64(ttl / 2))))
							}
							h.until = time.Now()
							if err := lease.Release(t.Context()); err != nil {
								t.Errorf("%s: release: %v", who, err)
							}
						}
						mu.Lock()
						holds = append(holds, h)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			require.Empty(t, check(holds, 4))
			writers := 0
			for _, h := range holds {
				if h.write {
					writers++
				}
			}
			require.Greater(t, writers, 20)
			require.Greater(t, len(holds)-writers, 80)

			time.Sleep(2 * ttl) // all that was left has run out
			l, err := newLock(t, store, 1).Writer().TryAcquire(t.Context(), "k", ttl)
			require.NoError(t, err)
			require.NoError(t, l.Release(t.Context()))
			for info, err := range store.List(t.Context(), "") {
				require.NoError(t, err)
				t.Errorf("%s is still held", info.Key)
			}
		})
	}
}

// A writer waits for those that are in, and for nobody who comes after it; so does a
// reader: what came later is served later, but for readers that share.
func TestNeitherReadersNorWritersStarve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var mu sync.Mutex
		var holds []hold
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		for c := range 16 {
			write := c < 4
			rw := newLock(t, store.Client(fmt.Sprint(c)), 8)
			l := rw.Readers()
			if write {
				l = rw.Writer()
			}
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(7, uint64(c)))
				for ctx.Err() == nil {
					asked := time.Now()
					lease, err := lock.Acquire(ctx, l, "k", ttl, nil)
					if err != nil {
						break
					}
					begin := time.Now()
					time.Sleep(time.Second + time.Duration(rng.Int64N(int64(time.Second))))
					mu.Lock()
					holds = append(holds, hold{fmt.Sprint(c), write, lease.Token(), asked, begin, time.Now()})
					mu.Unlock()
					require.NoError(t, lease.Release(t.Context()))
				}
			})
		}
		wg.Wait()
		require.Empty(t, check(slices.Clone(holds), 8))
		terms := map[string]int{}
		for _, h := range holds {
			terms[h.who]++
			for _, o := range holds {
				if o.who != h.who && o.asked.After(h.asked) && o.begin.Before(h.begin) {
					t.Errorf("%+v was overtaken by %+v", h, o)
				}
			}
		}
		require.Len(t, terms, 16)
		least, most := 1<<30, 0
		for _, n := range terms {
			least, most = min(least, n), max(most, n)
		}
		require.LessOrEqual(t, most-least, 2, "terms of each: %v", terms)
	})
}

func TestAPlainLockOfTheKeyKeepsReadersAndWritersOut(t *testing.T) {
	store := memory.New()
	rw := newLock(t, store.Client("rw"), 4)
	plain, err := store.Client("plain").TryAcquire(t.Context(), "k", ttl)
	require.NoError(t, err)
	for _, l := range []lock.Locker{rw.Readers(), rw.Writer()} {
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrHeld)
		held, ok := errors.AsType[*lock.HeldError](err)
		require.True(t, ok)
		require.Equal(t, "k", held.Key)
		require.Equal(t, "plain", held.Holder)
	}
	require.NoError(t, plain.Release(t.Context()))
}

func TestALostPlaceIsALostWriter(t *testing.T) {
	store := memory.New()
	lease, err := newLock(t, store, 4).Writer().TryAcquire(t.Context(), "k", ttl)
	require.NoError(t, err)
	require.NoError(t, store.ForceRelease(t.Context(), "k;readers;slot=7", 0))
	require.ErrorIs(t, lease.Extend(t.Context(), ttl), lock.ErrLost)
	require.Zero(t, lease.Expiry())
	require.ErrorIs(t, lease.Release(t.Context()), lock.ErrLost)
	for info := range store.List(t.Context(), "") {
		t.Errorf("%s is left", info.Key)
	}
}

func TestAWriterThatGivesUpLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		rw := newLock(t, store, 4)
		reader, err := rw.Readers().TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = lock.Acquire(ctx, rw.Writer(), "k", ttl, nil) // longer than its ttl: what it has is extended
		require.ErrorIs(t, err, context.DeadlineExceeded)
		names := 0
		for range store.List(t.Context(), "") {
			names++
		}
		require.Equal(t, 1, names, "the reader's place")
		require.NoError(t, reader.Release(t.Context()))
	})
}

func TestAReadersLeaseIsKeptAndLostLikeAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		rw := newLock(t, store, 4)
		require.NoError(t, keepalive.Do(t.Context(), rw.Readers(), "k", ttl, func(ctx context.Context) error {
			time.Sleep(time.Hour)
			require.NoError(t, ctx.Err())
			require.NotZero(t, lock.TokenOf(ctx, "k"))
			_, err := rw.Writer().TryAcquire(ctx, "k", ttl)
			require.ErrorIs(t, err, lock.ErrHeld)
			return nil
		}, nil))
		_, err := rw.Writer().TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
	})
}

func TestWhatCanNotBeIsRefusedBeforeTheStoreIsAsked(t *testing.T) {
	for _, n := range []int{0, -1, rwlock.MaxReaders + 1} {
		_, err := rwlock.New(memory.New(), n)
		require.ErrorIs(t, err, lock.ErrInvalid)
	}
	_, err := rwlock.New(nil, 1)
	require.ErrorIs(t, err, lock.ErrInvalid)
	rw := newLock(t, memory.New(), 4)
	long := string(make([]byte, 500))
	for _, l := range []lock.Locker{rw.Readers(), rw.Writer()} {
		for _, key := range []string{"", long} {
			_, err := l.TryAcquire(t.Context(), key, ttl)
			require.ErrorIs(t, err, lock.ErrInvalid)
		}
		_, err = l.TryAcquire(t.Context(), "k", 0)
		require.ErrorIs(t, err, lock.ErrInvalid)
		_, ok := lock.As[lock.Inspector](l)
		require.True(t, ok)
		_, ok = lock.As[lock.HealthChecker](l)
		require.True(t, ok)
		_, ok = lock.As[io.Closer](l)
		require.True(t, ok)
		_, ok = lock.As[lock.ForceReleaser](l)
		require.False(t, ok, "it would break the gate alone")
	}
}

// It waits for longer than its ttl, and what it has is extended meanwhile.
func TestAWriterKeepsItsPositionHoweverLongAReaderIsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		rw := newLock(t, store.Client("first"), 4)
		reader, err := rw.Readers().TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		start := time.Now()
		time.AfterFunc(10*time.Minute, func() { require.NoError(t, reader.Release(t.Context())) })
		time.AfterFunc(5*time.Minute, func() {
			_, err := newLock(t, store.Client("late"), 4).Readers().TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrHeld)
		})
		writer, err := lock.Acquire(t.Context(), newLock(t, store.Client("writer"), 4).Writer(), "k", ttl, nil)
		require.NoError(t, err)
		require.Equal(t, 10*time.Minute, time.Since(start))
		require.Equal(t, ttl, time.Until(writer.Expiry()).Round(time.Second))
	})
}

func TestAReadersPlaceIsKnownByItsNameAndToken(t *testing.T) {
	store := memory.New()
	rw := newLock(t, store, 3)
	for range 3 {
		lease, err := rw.Readers().TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		key, ok := rwlock.ReaderOf(lease.Key())
		require.True(t, ok, lease.Key())
		require.Equal(t, "k", key)
		info, err := store.Inspect(t.Context(), lease.Key())
		require.NoError(t, err)
		require.Equal(t, info.Token, rwlock.PlaceToken(lease))
		require.NoError(t, lease.Release(t.Context()))
	}
	writer, err := rw.Writer().TryAcquire(t.Context(), "k", ttl)
	require.NoError(t, err)
	require.Equal(t, writer.Token(), rwlock.PlaceToken(writer))
	for _, name := range []string{"k", "k;slot=2", ";readers", ";readers;slot=2", "k;readers;slot=17", "k;readers;slot=02", "k;readersx"} {
		_, ok := rwlock.ReaderOf(name)
		require.False(t, ok, name)
	}
}
