package lock_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// half is one of the two stores of a Both, as one client has it.
type half struct {
	lock.Locker
	peer func(t *testing.T) half
	mem  *memory.Locker // where faults can be made; nil: nowhere
}

func memoryHalf(l *memory.Locker) half {
	return half{l, func(*testing.T) half { return memoryHalf(l.Client("peer")) }, l}
}

func recordHalf(t *testing.T, m *recordtest.Memory, pushes bool) half {
	l, err := record.New(m.Client(true, pushes), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return half{Locker: l, peer: func(t *testing.T) half { return recordHalf(t, m, pushes) }}
}

// bothHarness is the whole suite over pairs of stores, with faults in the one at faulty.
func bothHarness(faulty int, stores func(t *testing.T) [2]half) locktest.Harness {
	var mu sync.Mutex
	halves := map[lock.Locker][2]half{}
	add := func(pair [2]half) lock.Locker {
		mu.Lock()
		defer mu.Unlock()
		l := lock.Both(pair[0].Locker, pair[1].Locker)
		halves[l] = pair
		return l
	}
	of := func(l lock.Locker) [2]half {
		mu.Lock()
		defer mu.Unlock()
		return halves[l]
	}
	bad := func(l lock.Locker) *memory.Locker { return of(l)[faulty].mem }
	return locktest.Harness{
		New: func(t *testing.T) lock.Locker { return add(stores(t)) },
		Peer: func(t *testing.T, l lock.Locker) lock.Locker {
			return add([2]half{of(l)[0].peer(t), of(l)[1].peer(t)})
		},
		Delay:     func(_ *testing.T, l lock.Locker, d time.Duration) { bad(l).Delay(d) },
		LoseReply: func(_ *testing.T, l lock.Locker) { bad(l).LoseReplies(1, nil) },
		Outage: func(_ *testing.T, l lock.Locker, on bool) {
			n := 0
			if on {
				n = -1
			}
			bad(l).FailNext(n, nil)
		},
		Break: func(t *testing.T, l lock.Locker, key string) {
			for _, h := range of(l) { // an operator breaks it in both
				f, ok := lock.As[lock.ForceReleaser](h.Locker)
				require.True(t, ok)
				require.NoError(t, f.ForceRelease(t.Context(), key, 0))
			}
		},
		Kill: func(t *testing.T, l lock.Locker) {
			for _, h := range of(l) {
				require.NoError(t, lock.Close(h.Locker))
			}
		},
		// One of its own has nothing to do: those who wait stand in the old store's.
		AllowSkips: []string{"Skew", "Cut", "Repeat", "Conflict", "StaleReads", "Delete", "Waiters", "TokenRaiser", "ExtendStarter"},
	}
}

func TestBothIsALocker(t *testing.T) {
	for name, stores := range map[string]func(t *testing.T) [2]half{
		"MemoryAndMemory": func(*testing.T) [2]half { return [2]half{memoryHalf(memory.New()), memoryHalf(memory.New())} },
		"RecordAndMemory": func(t *testing.T) [2]half {
			return [2]half{recordHalf(t, recordtest.NewMemory(), true), memoryHalf(memory.New())}
		},
		"MemoryAndRecord": func(t *testing.T) [2]half {
			return [2]half{memoryHalf(memory.New()), recordHalf(t, recordtest.NewMemory(), true)}
		},
	} {
		for faulty, store := range []string{"FaultsInOld", "FaultsInNew"} {
			if stores(t)[faulty].mem == nil {
				continue
			}
			t.Run(name+store, func(t *testing.T) {
				h := bothHarness(faulty, stores)
				h.Wrap = synctest.Test
				if faulty == 1 {
					// Those who wait for the old store notice no outage of the new one:
					// TestAnOutageOfEitherStoreIsOneOfBoth has what is so then.
					h.Outage = nil
					h.AllowSkips = append(h.AllowSkips, "Outage")
				}
				if name == "RecordAndMemory" { // whose waiters pass over one that is dead after a while
					h.Kill = nil
					h.AllowSkips = append(h.AllowSkips, "Kill", "Info.Waiting")
				}
				locktest.Run(t, h)
			})
		}
	}
}
