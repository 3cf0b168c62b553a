package locktest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// check is what one run of a case works with. Its methods that take no error
// end the case if what they want does not come.
type check struct {
	reporter
	t       *testing.T // for hooks only
	h       *Harness
	l       lock.Locker
	prefix  string  // makes keys the case's own, on a shared store too
	missing *string // set if the case skips

	wantNoLeaks bool
	peer        lock.Locker

	mu       sync.Mutex // guards cleanups
	cleanups []func()
}

func (c *check) fatalf(format string, args ...any) {
	c.Helper()
	c.Errorf(format, args...)
	c.FailNow()
}

// skip ends the case for lack of something that the locker does not offer.
func (c *check) skip(need string) {
	c.Helper()
	*c.missing = need
	skip(c.reporter, c.h, need)
}

// cleanup has f run at the end of the case, last first, before what the hooks
// have registered with t.Cleanup.
func (c *check) cleanup(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleanups = append(c.cleanups, f)
}

func (c *check) runCleanups() {
	for {
		c.mu.Lock()
		n := len(c.cleanups)
		if n == 0 {
			c.mu.Unlock()
			return
		}
		f := c.cleanups[n-1]
		c.cleanups = c.cleanups[:n-1]
		c.mu.Unlock()
		f()
	}
}

// group is for goroutines beside the case's own: it ends only after them, also
// when it fails.
func (c *check) group() *sync.WaitGroup {
	wg := new(sync.WaitGroup)
	c.cleanup(wg.Wait)
	return wg
}

func (c *check) ttl() time.Duration  { return c.h.TTL }
func (c *check) long() time.Duration { return c.h.LongTTL }

// bound is how long the suite waits for what must happen, and shorter than
// LongTTL, so that expiry can't pass for it: what is due within Cleanup, with as
// much again for a busy machine.
func (c *check) bound() time.Duration { return 2 * c.h.Cleanup }

// key is a plain name that no other case uses.
func (c *check) key(name string) string { return c.prefix + name }

// other is the peer, or the locker itself where the harness has none.
func (c *check) other() lock.Locker {
	if c.peer == nil {
		c.peer = c.l
		if c.h.Peer != nil {
			c.peer = c.newPeer()
		}
	}
	return c.peer
}

func (c *check) newPeer() lock.Locker {
	c.Helper()
	p := c.h.Peer(c.t, c.l)
	if p == nil {
		c.fatalf("Harness.Peer returned nil")
	}
	return p
}

// ctx bounds one call, so that a locker that hangs fails and does not stop the suite.
func (c *check) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), c.bound())
	c.cleanup(cancel)
	return ctx
}

// delay and outage set a fault that ends with the case.
func (c *check) delay(l lock.Locker, d time.Duration) {
	c.h.Delay(c.t, l, d)
	if d != 0 {
		c.cleanup(func() { c.h.Delay(c.t, l, 0) })
	}
}

func (c *check) outage(l lock.Locker, on bool) {
	c.h.Outage(c.t, l, on)
	if on {
		c.cleanup(func() { c.h.Outage(c.t, l, false) })
	}
}

// try makes one attempt and checks what must hold of each.
func (c *check) try(ctx context.Context, l lock.Locker, key string, ttl time.Duration) (lock.Lease, error) {
	c.Helper()
	lease, err := l.TryAcquire(ctx, key, ttl)
	switch {
	case err != nil && lease != nil:
		c.Errorf("TryAcquire of %.60q returned a lease beside the error %q, want nil", key, err)
		c.releaseLater(lease)
		return nil, err
	case err == nil && lease == nil:
		c.Errorf("TryAcquire of %.60q returned neither a lease nor an error", key)
		return nil, errNoAnswer
	case err == nil:
		c.releaseLater(lease)
	}
	return lease, err
}

var errNoAnswer = errors.New("no lease and no error")

func (c *check) releaseLater(lease lock.Lease) {
	c.cleanup(func() { _ = lease.Release(context.Background()) })
}

// acquire takes a key that is free, or is about to be: an attempt of before may
// still be cleaned up after, and a busy machine may time out.
func (c *check) acquire(l lock.Locker, key string, ttl time.Duration) lock.Lease {
	c.Helper()
	return c.acquireWithin(c.bound(), l, key, ttl)
}

func (c *check) acquireWithin(bound time.Duration, l lock.Locker, key string, ttl time.Duration) lock.Lease {
	c.Helper()
	deadline := time.Now().Add(bound)
	for {
		lease, err := c.try(c.ctx(), l, key, ttl)
		if err == nil {
			if want := c.h.FullKey(key); lease.Key() != want {
				c.Errorf("lease.Key() = %.60q, want %.60q", lease.Key(), want)
			}
			return lease
		}
		if !errors.Is(err, lock.ErrHeld) && !errors.Is(err, lock.ErrUnavailable) {
			c.fatalf("TryAcquire of %.60q, which nobody holds: %v", key, err)
		}
		if time.Now().After(deadline) {
			c.fatalf("%.60q is still not free %v after it should be: %v", key, bound, err)
		}
		time.Sleep(c.poll())
	}
}

// poll is the pause between two looks at the store.
func (c *check) poll() time.Duration { return max(c.ttl()/50, time.Millisecond) }

// free checks that key, which had been taken for LongTTL, is not held any more.
func (c *check) free(key string) {
	c.Helper()
	c.release(c.acquire(c.other(), key, c.long()))
}

// refused checks that key is held, and returns the refusal.
func (c *check) refused(l lock.Locker, key string) error {
	c.Helper()
	return c.steady(func() error {
		lease, err := c.try(c.ctx(), l, key, c.long())
		if err == nil {
			c.fatalf("%.60q was granted again (token %d) while it is held", key, lease.Token())
		}
		if !errors.Is(err, lock.ErrHeld) && !errors.Is(err, lock.ErrUnavailable) {
			c.fatalf("TryAcquire of %.60q, which is held: got %q, want an error matching lock.ErrHeld", key, err)
		}
		return err
	}, func(err error) bool { return errors.Is(err, lock.ErrHeld) })
}

// extend checks that Extend returns nil.
func (c *check) extend(lease lock.Lease, ttl time.Duration) {
	c.Helper()
	err := c.steady(func() error { return lease.Extend(c.ctx(), ttl) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	if err != nil {
		c.fatalf("Extend of a lease that is held: %v", err)
	}
}

// release checks that Release returns nil.
func (c *check) release(lease lock.Lease) {
	c.Helper()
	err := c.steady(func() error { return lease.Release(c.ctx()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	if err != nil {
		c.fatalf("Release of a lease that is held: %v", err)
	}
}

// steady repeats a request that may fail on a busy machine, until its result is
// a definite one.
func (c *check) steady(request func() error, definite func(error) bool) error {
	c.Helper()
	deadline := time.Now().Add(c.bound())
	for {
		err := request()
		if definite(err) {
			return err
		}
		if time.Now().After(deadline) {
			c.fatalf("no definite answer in %v: %v", c.bound(), err)
		}
		time.Sleep(c.poll())
	}
}

// stillHolds checks that lease, taken for LongTTL, excludes others and can be extended.
func (c *check) stillHolds(lease lock.Lease, key string) {
	c.Helper()
	c.refused(c.other(), key)
	c.refused(c.l, key)
	c.extend(lease, c.long())
}

// lost checks that err says that the lease is over.
func (c *check) lost(err error, what string, args ...any) {
	c.Helper()
	if !errors.Is(err, lock.ErrLost) {
		c.Errorf("%s: got %v, want an error matching lock.ErrLost", fmt.Sprintf(what, args...), show(err))
	}
}

// grows reports whether lease is held until then: one that waited in the store's queue
// may start with less, and take the rest by itself.
func (c *check) grows(lease lock.Lease, until time.Time) bool {
	for deadline := time.Now().Add(c.bound()); lease.Expiry().Before(until); time.Sleep(c.poll()) {
		if now := time.Now(); !now.Before(lease.Expiry()) || now.After(deadline) {
			return false
		}
	}
	return true
}

// passExpiry lets time pass until lease is over.
func (c *check) passExpiry(lease lock.Lease) {
	expiry := lease.Expiry()
	for !time.Now().After(expiry) {
		c.h.Advance(time.Until(expiry) + time.Millisecond)
	}
}

// takeOver waits until key, whose holder does not renew, can be had.
func (c *check) takeOver(l lock.Locker, key string, ttl time.Duration) lock.Lease {
	c.Helper()
	return c.acquireWithin(4*c.ttl()+c.bound(), l, key, ttl)
}

// attempts runs f up to three times, until it returns "". It is for cases that a
// stall of the machine can spoil without the locker being wrong; one that is
// wrong fails each time.
func (c *check) attempts(f func(try int) (problem string)) {
	c.Helper()
	var problem string
	for try := range 3 {
		if problem = f(try); problem == "" {
			return
		}
	}
	c.fatalf("%s (three times in a row)", problem)
}

func show(err error) string {
	if err == nil {
		return "nil"
	}
	return fmt.Sprintf("%.500q", err.Error())
}
