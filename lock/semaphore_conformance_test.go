package lock_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// composedHarness is the whole suite over what compose makes of memory lockers.
func composedHarness(compose func(l *memory.Locker) lock.Locker, fullKey func(key string) string) locktest.Harness {
	var mu sync.Mutex
	bases := map[lock.Locker]*memory.Locker{}
	add := func(base *memory.Locker) lock.Locker {
		mu.Lock()
		defer mu.Unlock()
		l := compose(base)
		bases[l] = base
		return l
	}
	base := func(l lock.Locker) *memory.Locker {
		mu.Lock()
		defer mu.Unlock()
		return bases[l]
	}
	return locktest.Harness{
		Wrap:    synctest.Test,
		FullKey: fullKey,
		New:     func(*testing.T) lock.Locker { return add(memory.New()) },
		Peer:    func(_ *testing.T, l lock.Locker) lock.Locker { return add(base(l).Client("peer")) },
		Delay:   func(_ *testing.T, l lock.Locker, d time.Duration) { base(l).Delay(d) },
		LoseReply: func(_ *testing.T, l lock.Locker) {
			base(l).LoseReplies(1, nil)
		},
		Outage: func(_ *testing.T, l lock.Locker, on bool) {
			n := 0
			if on {
				n = -1
			}
			base(l).FailNext(n, nil)
		},
		Break: func(t *testing.T, l lock.Locker, key string) {
			for info, err := range base(l).List(t.Context(), key) {
				require.NoError(t, err)
				require.NoError(t, base(l).ForceRelease(t.Context(), info.Key, 0))
			}
		},
		Kill:       func(t *testing.T, l lock.Locker) { require.NoError(t, base(l).Close()) },
		AllowSkips: []string{"Skew", "Cut", "Repeat", "Conflict", "StaleReads", "Delete", "ExtendStarter"},
	}
}

// renaming gives refusals the name that the suite expects of leases.
type renaming struct {
	lock.Locker
	fullKey func(key string) string
}

func (r renaming) Unwrap() lock.Locker { return r.Locker }

func (r renaming) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := r.Locker.TryAcquire(ctx, key, ttl)
	if held, ok := errors.AsType[*lock.HeldError](err); ok {
		held.Key = r.fullKey(key)
	}
	return lease, err
}

func (r renaming) As(target any) bool {
	return lock.PassAwaiter(target, r.Locker, func(inner lock.Awaiter) lock.Awaiter { return renamingAwaiter{r, inner} })
}

type renamingAwaiter struct {
	r     renaming
	inner lock.Awaiter
}

func (a renamingAwaiter) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	return a.inner.Await(ctx, key, ttl, func(held *lock.HeldError) {
		held.Key = a.r.fullKey(key)
		if refused != nil {
			refused(held)
		}
	})
}

func TestASemaphoreOfOneSlotIsALocker(t *testing.T) {
	full := func(key string) string {
		if key == "k" { // the suite asks by it how much is added to a key, to know the longest
			return "k;slot=1024"
		}
		return key
	}
	locktest.Run(t, composedHarness(func(l *memory.Locker) lock.Locker {
		return &renaming{lock.Semaphore(l, 1), full}
	}, full))
}
