package locktest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// These cases run lock.Acquire over the locker: what it needs of TryAcquire's
// errors and of Watch shows only there.
var acquireCases = []testCase{
	{"AcquireGetsItAfterRelease", nil, acquireGetsItAfterRelease},
	{"AcquireGetsItAfterExpiry", nil, acquireGetsItAfterExpiry},
	{"AcquireTimeoutIsErrHeld", nil, acquireTimeoutIsErrHeld},
	{"ACancelledAcquireSaysBothAndLeavesNothing", nil, aCancelledAcquireSaysBothAndLeavesNothing},
	{"AcquireGoesOnOverAnOutage", []string{needOutage}, acquireGoesOnOverAnOutage},
	{"WaitersAllGetTheirTurn", nil, waitersAllGetTheirTurn},
}

// waiting runs Acquire beside the case until it is called for the result.
func (c *check) waiting(l lock.Locker, key string) func() (lock.Lease, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.bound())
	var lease lock.Lease
	var err error
	wg := c.group()
	wg.Go(func() { lease, err = lock.Acquire(ctx, l, key, c.long(), nil) })
	c.cleanup(cancel)
	return func() (lock.Lease, error) {
		wg.Wait()
		if err == nil {
			c.releaseLater(lease)
		}
		return lease, err
	}
}

func acquireGetsItAfterRelease(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	result := c.waiting(c.other(), key)
	time.Sleep(c.ttl() / 4)
	c.refused(c.l, key)
	released := time.Now()
	c.release(lease)
	next, err := result()
	switch {
	case err != nil:
		c.fatalf("Acquire of a key that was released: %v", err)
	case next.Token() <= lease.Token():
		c.Errorf("Acquire got token %d after token %d, want a larger one", next.Token(), lease.Token())
	case !c.grows(next, released.Add(c.long()/10)):
		c.Errorf("Acquire returned a lease that ends %v after the release", next.Expiry().Sub(released))
	}
	c.refused(c.l, key)
}

func acquireGetsItAfterExpiry(c *check) {
	key := c.key("k")
	expiry := c.acquire(c.l, key, c.ttl()).Expiry()
	next, err := c.waiting(c.other(), key)()
	if err != nil {
		c.fatalf("Acquire of a key whose holder does not renew: %v", err)
	}
	if early := time.Until(expiry); early > 0 {
		c.Errorf("Acquire got the lease %v before the holder's Expiry", early)
	}
	c.stillHolds(next, key)
}

func acquireTimeoutIsErrHeld(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	for _, opts := range []*lock.AcquireOptions{{Timeout: c.ttl()}, {Attempts: 3, Delay: c.ttl() / 10}} {
		err := c.steady(func() error { // a busy machine may have no answer in that time
			next, err := lock.Acquire(c.ctx(), c.other(), key, c.long(), opts)
			if err == nil {
				c.releaseLater(next)
				c.fatalf("Acquire got a key that is held")
			}
			return err
		}, func(err error) bool { return !errors.Is(err, lock.ErrUnavailable) })
		if !errors.Is(err, lock.ErrHeld) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			c.Errorf("Acquire that gave up: got %q, want an error matching lock.ErrHeld and none of a context", err)
		}
	}
	c.stillHolds(lease, key)
	c.release(lease)
	c.free(key)
}

func aCancelledAcquireSaysBothAndLeavesNothing(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	ctx, cancel := context.WithTimeout(context.Background(), c.ttl())
	defer cancel()
	next, err := lock.Acquire(ctx, c.other(), key, c.long(), nil)
	if err == nil {
		c.releaseLater(next)
		c.fatalf("Acquire got a key that is held")
	}
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, lock.ErrHeld) {
		c.Errorf("Acquire whose ctx ended: got %q, want an error matching lock.ErrHeld and context.DeadlineExceeded", err)
	}
	c.release(lease)
	c.free(key)
}

func acquireGoesOnOverAnOutage(c *check) {
	key := c.key("k")
	c.outage(c.l, true)
	result := c.waiting(c.l, key)
	c.h.Advance(c.ttl())
	c.outage(c.l, false)
	lease, err := result()
	if err != nil {
		c.fatalf("Acquire did not outlast an outage of %v: %v", c.ttl(), err)
	}
	c.stillHolds(lease, key)
}

func waitersAllGetTheirTurn(c *check) {
	const waiters = 8
	key := c.key("k")
	lockers := []lock.Locker{c.l, c.other()}
	var h history
	var inside atomic.Int64
	ctx, cancel := context.WithTimeout(context.Background(), c.bound())
	defer cancel()
	wg := c.group()
	for i := range waiters {
		wg.Go(func() {
			granted := h.ask()
			lease, err := lock.Acquire(ctx, lockers[i%2], key, c.long(), &lock.AcquireOptions{Delay: c.poll()})
			if err != nil {
				c.Errorf("waiter %d of %d: %v", i, waiters, err)
				return
			}
			c.releaseLater(lease)
			t := granted(lease.Token(), lease.Expiry())
			if n := inside.Add(1); n != 1 {
				c.Errorf("%d waiters are inside at once", n)
			}
			time.Sleep(c.poll() / 4)
			inside.Add(-1)
			t.ended = time.Now()
			c.releaseUnlessLost(lease)
		})
	}
	wg.Wait()
	h.verify(c)
}

// releaseUnlessLost is for goroutines beside the case's own: it ends nothing. A lease that
// waited is short at first, and has ended if the machine stalled before it grew.
func (c *check) releaseUnlessLost(lease lock.Lease) {
	c.Helper()
	for range 5 {
		expiry := lease.Expiry()
		err := lease.Release(context.Background())
		if err == nil || errors.Is(err, lock.ErrLost) && !time.Now().Before(expiry) {
			return
		}
		if !errors.Is(err, lock.ErrUnavailable) {
			c.Errorf("Release: %v", err)
			return
		}
	}
}
