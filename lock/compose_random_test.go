package lock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// holds checks what clients are given of one key.
type holds struct {
	t    *testing.T
	most int // readers, or holders of a semaphore

	mu    sync.Mutex // guards all below
	given []given
	token uint64 // the last of a holder that is alone
	count int
}

type given struct {
	lease lock.Lease
	alone bool
}

func (h *holds) give(lease lock.Lease, alone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if !now.Before(lease.Expiry()) {
		h.t.Errorf("a lease was returned with no time left: it ended at %v, and it is %v", lease.Expiry(), now)
	}
	var live []given
	for _, g := range h.given {
		if now.Before(g.lease.Expiry()) {
			live = append(live, g)
			if alone || g.alone {
				h.t.Errorf("token %d was granted beside token %d, %v before its end", lease.Token(), g.lease.Token(), g.lease.Expiry().Sub(now))
			}
		}
	}
	if len(live) >= h.most {
		h.t.Errorf("%d holders, want %d at most: %s is given", len(live)+1, h.most, described(lease, now))
		for _, g := range live {
			h.t.Logf("held: %s", described(g.lease, now))
		}
	}
	if alone && lease.Token() <= h.token {
		h.t.Errorf("token %d after token %d", lease.Token(), h.token)
	}
	if alone {
		h.token = lease.Token()
	}
	h.given = append(live, given{lease, alone})
	h.count++
}

func described(l lock.Lease, now time.Time) string {
	return fmt.Sprintf("%s, token %d, for %v", l.Key(), l.Token(), l.Expiry().Sub(now))
}

func (h *holds) granted() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// Clients take, keep and free one key at random, through stores that are slow, lose replies
// and fail at random. Whatever the composition, leases never overlap, tokens rise, and in the
// end nothing is left.
func TestRandomClientsOfCompositionsKeepWhatTheyPromise(t *testing.T) {
	rw := func(l lock.Locker, i int) (lock.Locker, bool) {
		made, err := rwlock.New(l, 2)
		require.NoError(t, err)
		if i%2 == 0 {
			return made.Readers(), false
		}
		return made.Writer(), true
	}
	for name, compose := range map[string]func(a, b *memory.Locker, i int) (l lock.Locker, alone bool){
		"Store": func(a, _ *memory.Locker, _ int) (lock.Locker, bool) { return a, true },
		"Both": func(a, b *memory.Locker, i int) (lock.Locker, bool) {
			if i == 3 {
				return a, true // it has not moved yet
			}
			return lock.Both(a, b), true
		},
		"ReadersAndWriters":       func(a, _ *memory.Locker, i int) (lock.Locker, bool) { return rw(a, i) },
		"ReadersAndWritersOfBoth": func(a, b *memory.Locker, i int) (lock.Locker, bool) { return rw(lock.Both(a, b), i) },
		"Semaphore":               func(a, _ *memory.Locker, _ int) (lock.Locker, bool) { return lock.Semaphore(a, 2), false },
		"SemaphoreOfBoth":         func(a, b *memory.Locker, _ int) (lock.Locker, bool) { return lock.Semaphore(lock.Both(a, b), 2), false },
	} {
		for seed := range uint64(8) {
			t.Run(fmt.Sprint(name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := &holds{t: t, most: 2}
					ctx, stop := context.WithCancel(t.Context())
					a, b := memory.New(), memory.New()
					var stores []*memory.Locker
					var clients sync.WaitGroup
					for i := range 8 { // two goroutines of four processes
						process := i % 4
						if i < 4 {
							stores = append(stores, a.Client(fmt.Sprint("a", i)), b.Client(fmt.Sprint("b", i)))
						}
						l, alone := compose(stores[2*process], stores[2*process+1], process)
						rng := rand.New(rand.NewPCG(seed, uint64(i)))
						clients.Go(func() {
							for ctx.Err() == nil {
								useOnce(ctx, h, l, alone, rng)
							}
						})
					}
					trouble(stores, rand.New(rand.NewPCG(seed, 100)), 3*time.Minute)
					before := h.granted()
					// Nobody keeps the key for much longer than ten seconds: chance alone can't leave so few.
					time.Sleep(3 * time.Minute)
					after := h.granted()
					stop()
					clients.Wait()
					require.Greater(t, after, before+10, "when all is well again")
					time.Sleep(10 * time.Second) // leases whose release was cut short
					for _, store := range []*memory.Locker{a, b} {
						for info := range store.List(t.Context(), "") {
							t.Errorf("left: %+v", info)
						}
					}
				})
			})
		}
	}
}

// useOnce tries to take the key, and does one thing with it.
func useOnce(ctx context.Context, h *holds, l lock.Locker, alone bool, rng *rand.Rand) {
	random := func(most time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(most))) }
	ttl := time.Second + random(4*time.Second)
	bounded, cancel := context.WithTimeout(ctx, random(8*time.Second))
	defer cancel()
	var lease lock.Lease
	var err error
	switch rng.IntN(4) {
	case 0:
		lease, err = l.TryAcquire(bounded, "k", ttl)
	case 1:
		lease, err = lock.Acquire(bounded, l, "k", ttl, &lock.AcquireOptions{Attempts: 3})
	default:
		lease, err = lock.Acquire(bounded, l, "k", ttl, nil)
	}
	if err != nil {
		if !errors.Is(err, lock.ErrHeld) && !errors.Is(err, lock.ErrUnavailable) && bounded.Err() == nil {
			h.t.Error(err)
		}
		time.Sleep(random(300 * time.Millisecond))
		return
	}
	h.give(lease, alone)
	switch rng.IntN(4) {
	case 0:
		if k, err := keepalive.Start(ctx, lease, ttl, nil); err == nil {
			select {
			case <-k.Context().Done():
			case <-time.After(random(10 * time.Second)):
			}
			lease = k
		}
	case 1:
		for range 3 {
			time.Sleep(ttl / 3)
			_ = lease.Extend(ctx, time.Millisecond+random(2*time.Second))
		}
	case 2:
		time.Sleep(random(6 * time.Second)) // longer than its ttl, at times
	case 3:
		_ = lock.ReleaseAfter(ctx, lease, random(4*time.Second))
	}
	_ = lease.Release(ctx)
}

// trouble makes the stores misbehave at random for d, and then no more.
func trouble(stores []*memory.Locker, rng *rand.Rand, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second)))) {
		store := stores[rng.IntN(len(stores))]
		switch rng.IntN(4) {
		case 0:
			store.Delay(time.Duration(rng.Int64N(int64(1500 * time.Millisecond))))
		case 1:
			store.Delay(0)
		case 2:
			store.FailNext(rng.IntN(4), nil)
		case 3:
			store.LoseReplies(rng.IntN(4), nil)
		}
	}
	for _, store := range stores {
		store.Delay(0)
		store.FailNext(0, nil)
		store.LoseReplies(0, nil)
	}
}
