package lock_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// composition is a locker of several decorators, and what is known of it without
// asking it.
type composition struct {
	name      string // as code, outermost first
	locker    lock.Locker
	base      *memory.Locker
	full      string   // the name in the store of the key "k", without slots
	names     []string // of each lock that "k" stands for, in the store
	slots     bool
	observers []*events
}

// compose builds the decorators that order names, the first one outermost.
func compose(order string) *composition {
	c := &composition{name: "base", base: memory.New(), full: "k", names: []string{"k"}}
	c.locker = c.base
	for i, d := range slices.Backward([]byte(order)) {
		prefix := fmt.Sprintf("p%d:", i)
		switch d {
		case 'P':
			c.locker = lock.Prefix(c.locker, prefix)
			c.name = fmt.Sprintf("Prefix(%s, %q)", c.name, prefix)
		case 'S':
			c.locker = lock.Semaphore(c.locker, 2)
			c.name = fmt.Sprintf("Semaphore(%s)", c.name)
		case 'O':
			e := &events{}
			c.observers = append(c.observers, e)
			c.locker = lock.Observe(c.locker, e.receive)
			c.name = fmt.Sprintf("Observe(%s)", c.name)
		}
	}
	for i := range order { // a key goes through the outermost first
		switch order[i] {
		case 'P':
			prefix := fmt.Sprintf("p%d:", i)
			c.full = prefix + c.full
			for j := range c.names {
				c.names[j] = prefix + c.names[j]
			}
		case 'S':
			c.slots = true
			var slots []string
			for _, name := range c.names {
				for _, slot := range []string{name, name + ";slot=2"} {
					if !slices.Contains(slots, slot) { // slot 1 of slot 2 is slot 2 of slot 1
						slots = append(slots, slot)
					}
				}
			}
			c.names = slots
		}
	}
	return c
}

// orders are all of P, S and O up to this depth, repetitions included.
func orders(depth int) []string {
	all, longest := []string{""}, []string{""}
	for range depth {
		var longer []string
		for _, order := range longest {
			longer = append(longer, "P"+order, "S"+order, "O"+order)
		}
		all, longest = append(all, longer...), longer
	}
	return all
}

// inEveryOrder runs f in a bubble for each order of decorators, with a neighbour in
// the store.
func inEveryOrder(t *testing.T, f func(t *testing.T, c *composition)) {
	all := orders(3)
	require.Len(t, all, 1+3+9+27)
	for _, order := range all {
		bubble("base"+order, t, func(t *testing.T) {
			c := compose(order)
			for _, name := range []string{"neighbour", "p9:k", "p9:k;slot=2", "p0:other", "p0:other;slot=2"} {
				_, err := c.base.TryAcquire(t.Context(), name, time.Hour)
				require.NoError(t, err)
			}
			f(t, c)
		})
	}
}

// fill takes all that "k" stands for.
func (c *composition) fill(t *testing.T) []lock.Lease {
	var leases []lock.Lease
	var names []string
	for range c.names {
		lease, err := c.locker.TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err, c.name)
		leases, names = append(leases, lease), append(names, lease.Key())
	}
	require.ElementsMatch(t, c.names, names, c.name)
	return leases
}

// strip takes the slots off a name.
func strip(name string) string {
	for strings.HasSuffix(name, ";slot=2") {
		name = strings.TrimSuffix(name, ";slot=2")
	}
	return name
}

func TestDecoratorsInEveryOrderLockTheRightNames(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		leases := c.fill(t)
		for _, lease := range leases {
			info, err := c.base.Inspect(t.Context(), lease.Key())
			require.NoError(t, err)
			require.NotEmpty(t, info.Holder, c.name)
			require.Equal(t, lease.Token(), info.Token, c.name)
		}
		_, err := c.locker.TryAcquire(t.Context(), "k", time.Hour)
		held := &lock.HeldError{}
		require.ErrorAs(t, err, &held, c.name)
		require.Equal(t, c.full, held.Key, c.name)
		for _, lease := range leases {
			require.NoError(t, lease.Extend(t.Context(), 2*time.Hour))
			info, err := c.base.Inspect(t.Context(), lease.Key())
			require.NoError(t, err)
			require.Equal(t, 2*time.Hour, info.TTL, c.name)
			require.NoError(t, lease.Release(t.Context()))
			info, err = c.base.Inspect(t.Context(), lease.Key())
			require.NoError(t, err)
			require.Empty(t, info.Holder, c.name)
		}
	})
}

func TestDecoratorsInEveryOrderTellFullNames(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		leases := c.fill(t)
		_, err := lock.Acquire(t.Context(), c.locker, "k", time.Hour, &lock.AcquireOptions{Timeout: time.Second})
		require.ErrorIs(t, err, lock.ErrHeld)
		for _, lease := range leases {
			require.NoError(t, lease.Extend(t.Context(), time.Hour))
			require.NoError(t, lease.Release(t.Context()))
		}
		c.base.FailNext(1, nil)
		last, err := lock.Acquire(t.Context(), c.locker, "k", time.Hour, nil)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.ErrorIs(t, last.Release(t.Context()), lock.ErrLost)

		for _, e := range c.observers {
			count := map[lock.EventKind]int{}
			var waits []lock.Event
			for _, event := range e.take() {
				count[event.Kind]++
				require.Equal(t, c.full, strip(event.Key), c.name)
				switch {
				case event.Kind == lock.EventWait:
					waits = append(waits, event)
				case event.Token != 0:
					require.Contains(t, c.names, event.Key, c.name)
				}
			}
			require.Equal(t, len(leases), count[lock.EventExtend], c.name)
			require.Equal(t, len(leases)+1, count[lock.EventRelease], c.name)
			require.Equal(t, 1, count[lock.EventLost], c.name)
			require.Len(t, waits, 2, c.name)
			require.ErrorIs(t, waits[0].Err, lock.ErrHeld)
			require.Equal(t, c.full, waits[0].Key, c.name)
			require.Equal(t, time.Second, waits[0].Duration, c.name)
			require.NoError(t, waits[1].Err)
			require.Equal(t, last.Key(), waits[1].Key, c.name)
			require.Equal(t, last.Token(), waits[1].Token, c.name)
		}
	})
}

func TestDecoratorsInEveryOrderInspectTheRightNames(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		inspector, ok := lock.As[lock.Inspector](c.locker)
		require.True(t, ok, c.name)
		info, err := inspector.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Empty(t, info.Holder, c.name)
		require.Equal(t, c.full, strip(info.Key), c.name)

		tokens := map[string]uint64{}
		for _, lease := range c.fill(t) {
			tokens[lease.Key()] = lease.Token()
		}
		longer, err := c.base.TryAcquire(t.Context(), c.full+"er", time.Hour)
		require.NoError(t, err)
		info, err = inspector.Inspect(t.Context(), "k")
		require.NoError(t, err)
		require.Contains(t, tokens, info.Key, c.name)
		require.Equal(t, tokens[info.Key], info.Token, c.name)
		require.NotEmpty(t, info.Holder, c.name)

		slot, err := c.base.TryAcquire(t.Context(), c.full+"er;slot=2", time.Hour)
		require.NoError(t, err)
		// Keys of this locker that start with "k" as well.
		tokens[longer.Key()], tokens[slot.Key()] = longer.Token(), slot.Token()
		listed := map[string]uint64{}
		for info, err := range inspector.List(t.Context(), "k") {
			require.NoError(t, err)
			listed[info.Key] = info.Token
		}
		require.Equal(t, tokens, listed, c.name)
		for info, err := range inspector.List(t.Context(), "") {
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(info.Key, strings.TrimSuffix(c.full, "k")), "%s: %s", c.name, info.Key)
		}
	})
}

func TestDecoratorsInEveryOrderWatchTheRightNames(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		watcher, ok := lock.As[lock.Watcher](c.locker)
		require.True(t, ok, c.name)
		wake := make(chan struct{}, 1)
		stop, err := watcher.Watch(t.Context(), "k", wake)
		require.NoError(t, err)
		leases := c.fill(t)
		synctest.Wait()
		select { // spurious
		case <-wake:
		default:
		}
		for _, lease := range leases {
			require.NoError(t, lease.Release(t.Context()))
			synctest.Wait()
			select {
			case <-wake:
			default:
				require.Fail(t, "no wake", "%s: %s", c.name, lease.Key())
			}
		}
		stop()
		for _, lease := range c.fill(t) {
			require.NoError(t, lease.Release(t.Context()))
		}
		synctest.Wait()
		require.Empty(t, wake, c.name)
	})
}

func TestDecoratorsInEveryOrderForceReleaseTheRightNames(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		breaker, ok := lock.As[lock.ForceReleaser](c.locker)
		require.True(t, ok, c.name)
		leases := c.fill(t)
		require.ErrorIs(t, breaker.ForceRelease(t.Context(), "k", 1<<60), lock.ErrHeld, c.name)
		token := leases[0].Token()
		require.NoError(t, breaker.ForceRelease(t.Context(), "k", token), c.name)
		for _, lease := range leases {
			if err := lease.Extend(t.Context(), time.Hour); lease.Token() == token {
				require.ErrorIs(t, err, lock.ErrLost, c.name)
			} else {
				require.NoError(t, err, c.name)
			}
		}
		require.NoError(t, breaker.ForceRelease(t.Context(), "k", 0), c.name)
		for _, lease := range leases {
			require.ErrorIs(t, lease.Extend(t.Context(), time.Hour), lock.ErrLost, c.name)
		}
		neighbours := 0
		for _, err := range c.base.List(t.Context(), "") {
			require.NoError(t, err)
			neighbours++
		}
		require.Equal(t, 5, neighbours, c.name)
	})
}

// Without a semaphore, one who comes by the full name stands in the same queue.
func TestDecoratorsInEveryOrderHaveOneLineForAName(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		const waiters = 6
		leases := c.fill(t)
		var mu sync.Mutex // guards got
		var got []int
		next := make(chan lock.Lease, waiters)
		var wg sync.WaitGroup
		for i := range waiters {
			l, key := c.locker, "k"
			if i%2 == 1 && !c.slots {
				l, key = c.base, c.full
			}
			wg.Go(func() {
				lease, err := lock.Acquire(t.Context(), l, key, time.Hour, nil)
				if err != nil {
					t.Errorf("waiter %d: %v", i, err)
					return
				}
				mu.Lock()
				got = append(got, i)
				mu.Unlock()
				next <- lease
			})
			synctest.Wait()
		}
		lease := leases[0]
		for range waiters {
			require.NoError(t, lease.Release(t.Context()))
			lease = <-next
		}
		wg.Wait()
		require.Equal(t, []int{0, 1, 2, 3, 4, 5}, got, c.name)
	})
}

func TestDecoratorsInEveryOrderPassOnWhatHasNoKey(t *testing.T) {
	inEveryOrder(t, func(t *testing.T, c *composition) {
		checker, ok := lock.As[lock.HealthChecker](c.locker)
		require.True(t, ok, c.name)
		health, err := checker.Health(t.Context())
		require.NoError(t, err)
		require.True(t, health.HasQuorum(), c.name)
		closer, ok := lock.As[io.Closer](c.locker)
		require.True(t, ok, c.name)
		require.NoError(t, closer.Close())
		_, err = c.locker.TryAcquire(context.Background(), "k", time.Hour)
		require.ErrorIs(t, err, lock.ErrClosed, c.name)
	})
}
