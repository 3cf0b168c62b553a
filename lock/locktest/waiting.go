package locktest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// These cases have several wait for one key in one client, by lock.Acquire. Those about
// order skip where the locker has no lock.Waiters.
var waitingCases = []testCase{
	{"WaitersGetItInTheOrderInWhichTheyCame", nil, waitersGetItInTheOrderInWhichTheyCame},
	{"WhoLeavesTheLineDelaysNobody", nil, whoLeavesTheLineDelaysNobody},
	{"OneOfAllWaitersAsks", nil, oneOfAllWaitersAsks},
	{"WaitersOfOtherClientsGetTheirTurnToo", nil, waitersOfOtherClientsGetTheirTurnToo},
	{"AnIdleWaiterThatHearsNewsAsksNothing", nil, anIdleWaiterThatHearsNewsAsksNothing},
}

// counted counts the attempts of the waiters that come through it.
type counted struct {
	lock.Locker
	attempts atomic.Int64
	answered atomic.Int64 // those that have ended
}

func (l *counted) Unwrap() lock.Locker { return l.Locker }

func (l *counted) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	l.attempts.Add(1)
	defer l.answered.Add(1)
	return l.Locker.TryAcquire(ctx, key, ttl)
}

// As lets Acquire stand in the store's own queue. A request there counts as one attempt,
// which is answered when it is refused or ends.
func (l *counted) As(target any) bool {
	return lock.PassAwaiter(target, l.Locker, func(inner lock.Awaiter) lock.Awaiter { return countedAwaiter{l, inner} })
}

type countedAwaiter struct {
	l     *counted
	inner lock.Awaiter
}

func (a countedAwaiter) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	a.l.attempts.Add(1)
	defer a.l.answered.Add(1)
	return a.inner.Await(ctx, key, ttl, func(held *lock.HeldError) {
		a.l.answered.Add(1)
		refused(held)
	})
}

// inLine is one waiter.
type inLine struct {
	by     *counted
	cancel context.CancelFunc
	done   chan struct{}
	lease  lock.Lease
	err    error
}

// stand has one more wait for key, and returns when it has its position: Acquire says why it
// waits then, by what the store has answered to it or to the one before.
func (c *check) stand(l lock.Locker, key string) *inLine {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*c.bound())
	w := &inLine{by: &counted{Locker: l}, cancel: cancel, done: make(chan struct{})}
	waits := make(chan struct{})
	stands := sync.OnceFunc(func() { close(waits) })
	c.group().Go(func() {
		defer close(w.done)
		w.lease, w.err = lock.Acquire(ctx, w.by, key, c.long(), &lock.AcquireOptions{Delay: c.poll(), OnWait: func(error) { stands() }})
		if w.err == nil {
			c.releaseLater(w.lease)
		}
	})
	c.cleanup(cancel) // before the group's own is waited for
	select {
	case <-waits:
	case <-w.done:
	case <-time.After(c.bound()):
		c.fatalf("a waiter has had no answer for %v", c.bound())
	}
	return w
}

// line has a holder of key and n waiters behind it.
func (c *check) line(key string, n int) (lock.Lease, []*inLine) {
	c.Helper()
	lease := c.acquire(c.other(), key, c.long())
	ways := []func() (lock.Locker, string){ // to the same key
		func() (lock.Locker, string) { return c.l, key },
		func() (lock.Locker, string) { return lock.Prefix(c.l, key[:4]), key[4:] },
		func() (lock.Locker, string) { return lock.Observe(c.l, func(lock.Event) {}), key },
	}
	var waiters []*inLine
	for i := range n {
		l, name := ways[i%len(ways)]()
		waiters = append(waiters, c.stand(l, name))
	}
	for _, w := range waiters[1:] {
		if w.by.attempts.Load() > 0 {
			c.skip(needWaiters)
		}
	}
	return lease, waiters
}

// got waits for a waiter to have the lease.
func (c *check) got(w *inLine, which int) lock.Lease {
	c.Helper()
	select {
	case <-w.done:
	case <-time.After(c.bound()):
		c.fatalf("waiter %d is not served %v after it should be", which, c.bound())
	}
	if w.err != nil {
		c.fatalf("waiter %d: %v", which, w.err)
	}
	return w.lease
}

// handOver releases lease, for which w is next. By then w has asked in vain, so that it
// has to learn of the release.
func (c *check) handOver(lease lock.Lease, w *inLine, which int) lock.Lease {
	c.Helper()
	time.Sleep(c.ttl() / 20)
	c.release(lease)
	return c.got(w, which)
}

func waitersGetItInTheOrderInWhichTheyCame(c *check) {
	lease, waiters := c.line(c.key("k"), 7)
	for i, w := range waiters {
		lease = c.handOver(lease, w, i)
		for j, other := range waiters[i+1:] {
			select {
			case <-other.done:
				c.fatalf("waiter %d ended (%v) while waiter %d holds", i+1+j, show(other.err), i)
			default:
			}
		}
	}
	c.release(lease)
}

func whoLeavesTheLineDelaysNobody(c *check) {
	key := c.key("k")
	lease, waiters := c.line(key, 6)
	// Who leaves says what the store said to the first, so that must have been answered.
	for deadline := time.Now().Add(c.bound()); waiters[0].by.answered.Load() == 0; time.Sleep(c.poll()) {
		if time.Now().After(deadline) {
			c.fatalf("the first waiter has had no answer for %v", c.bound())
		}
	}
	time.Sleep(c.poll())
	leavers := []int{3, 0, 5}
	for _, i := range leavers {
		w := waiters[i]
		w.cancel()
		select {
		case <-w.done:
		case <-time.After(c.bound()):
			c.fatalf("waiter %d does not leave the line when its ctx ends", i)
		}
		if !errors.Is(w.err, context.Canceled) || !errors.Is(w.err, lock.ErrHeld) {
			c.Errorf("waiter %d, which left: got %v, want an error matching context.Canceled and lock.ErrHeld", i, show(w.err))
		}
	}
	for i, w := range waiters {
		if !slices.Contains(leavers, i) {
			lease = c.handOver(lease, w, i)
		}
	}
	c.release(lease)
	c.free(key)
}

func oneOfAllWaitersAsks(c *check) {
	key := c.key("k")
	lease, waiters := c.line(key, 10)
	time.Sleep(c.ttl() / 2)
	for i, w := range waiters[1:] {
		if n := w.by.attempts.Load(); n > 0 {
			c.Errorf("waiter %d asked the store %d times before its turn", i+1, n)
		}
	}
	for _, w := range waiters {
		w.cancel()
	}
	for i, w := range waiters {
		select {
		case <-w.done:
		case <-time.After(c.bound()):
			c.fatalf("waiter %d does not leave the line when its ctx ends", i)
		}
	}
	c.stillHolds(lease, key)
}

// Between clients there is no order to go by: nobody is left out.
func waitersOfOtherClientsGetTheirTurnToo(c *check) {
	key := c.key("k")
	lease := c.acquire(c.other(), key, c.long())
	var waiters []*inLine
	for range 3 {
		waiters = append(waiters, c.stand(c.l, key), c.stand(c.other(), key))
	}
	left := slices.Clone(waiters)
	for len(left) > 0 {
		c.release(lease)
		begun, next := time.Now(), -1
		for next < 0 {
			next = slices.IndexFunc(left, func(w *inLine) bool {
				select {
				case <-w.done:
					return true
				default:
					return false
				}
			})
			if time.Since(begun) > c.bound() {
				c.fatalf("nobody has the lock %v after its release, while %d wait", c.bound(), len(left))
			}
			time.Sleep(c.poll() / 10)
		}
		lease = c.got(left[next], slices.Index(waiters, left[next]))
		left = slices.Delete(left, next, next+1)
	}
	c.release(lease)
}

func anIdleWaiterThatHearsNewsAsksNothing(c *check) {
	offered[lock.Watcher](c, c.l, needWatcher)
	key := c.key("k")
	lease := c.acquire(c.other(), key, c.long())
	w := c.stand(c.l, key)
	time.Sleep(c.ttl() / 2) // its watch stands
	before := w.by.attempts.Load()
	for range 4 {
		c.extend(lease, c.long())
		time.Sleep(c.ttl() / 4)
	}
	// It would have asked 50 times by polling. A busy connection may be lost.
	if n := w.by.attempts.Load() - before; n > 10 {
		c.Errorf("a waiter that receives notifications asked the store %d times in %v, while nothing happened", n, c.ttl())
	}
	c.release(lease)
	c.release(c.got(w, 0))
}
