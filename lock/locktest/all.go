package locktest

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// These cases run lock.AcquireAll over the locker, and its Set as a lease.
var allCases = []testCase{
	{"CallersInOppositeOrdersAllGetThrough", nil, callersInOppositeOrdersAllGetThrough},
	{"NothingIsHeldWhileItWaits", nil, nothingIsHeldWhileItWaits},
	{"ARefusedAcquireAllLeavesNothingHeld", nil, aRefusedAcquireAllLeavesNothingHeld},
	{"ACancelledAcquireAllLeavesNothingHeld", nil, aCancelledAcquireAllLeavesNothingHeld},
	{"AnExtendOfASetKeepsOthersFromAllKeys", nil, anExtendOfASetKeepsOthersFromAllKeys},
	{"ASetIsLostWithOneMember", []string{needBreak}, aSetIsLostWithOneMember},
	{"ReleaseOfASetFreesAllThoughOneIsLost", []string{needBreak}, releaseOfASetFreesAllThoughOneIsLost},
}

func (c *check) keys() []string { return []string{c.key("a"), c.key("b"), c.key("c")} }

// acquireAll gets all keys, which nobody holds.
func (c *check) acquireAll(l lock.Locker, keys []string, ttl time.Duration) *lock.Set {
	c.Helper()
	set, err := lock.AcquireAll(c.ctx(), l, keys, ttl, nil)
	if err != nil {
		c.fatalf("AcquireAll of keys that nobody holds: %v", err)
	}
	c.releaseLater(set)
	for i, lease := range set.Leases() {
		if want := c.h.FullKey(keys[i]); lease.Key() != want {
			c.Errorf("member %d is %q, want %q", i, lease.Key(), want)
		}
	}
	return set
}

func callersInOppositeOrdersAllGetThrough(c *check) {
	keys := c.keys()
	lockers := []lock.Locker{c.l, c.other()}
	var inside atomic.Int64
	ctx, cancel := context.WithTimeout(context.Background(), 3*c.bound())
	defer cancel()
	wg := c.group()
	for i := range 4 {
		mine := slices.Clone(keys)
		if i%2 == 1 {
			slices.Reverse(mine)
		}
		wg.Go(func() {
			for range 3 {
				begun := time.Now()
				set, err := lock.AcquireAll(ctx, lockers[i/2], mine, c.long(), &lock.AcquireOptions{Delay: c.poll()})
				if err != nil {
					c.Errorf("caller %d: %v", i, err)
					return
				}
				c.releaseLater(set)
				if n := inside.Add(1); n != 1 {
					c.Errorf("%d callers have the same keys at once", n)
				}
				if set.Expiry().Before(begun.Add(c.long() / 2)) {
					c.Errorf("a Set ends %v after AcquireAll began, want at least half of its ttl of %v", set.Expiry().Sub(begun), c.long())
				}
				time.Sleep(c.poll() / 4)
				inside.Add(-1)
				c.releaseUnlessLost(set)
			}
		})
	}
	wg.Wait()
}

func nothingIsHeldWhileItWaits(c *check) {
	keys := c.keys()
	holder := c.acquire(c.other(), keys[1], c.long())
	ctx, cancel := context.WithTimeout(context.Background(), 2*c.bound())
	defer cancel()
	done := make(chan error, 1)
	c.group().Go(func() {
		set, err := lock.AcquireAll(ctx, c.l, keys, c.long(), nil)
		if err == nil {
			c.releaseUnlessLost(set)
		}
		done <- err
	})
	time.Sleep(c.ttl() / 4)
	for _, key := range []string{keys[0], keys[2]} {
		c.free(key)
	}
	c.release(holder)
	if err := <-done; err != nil {
		c.Errorf("AcquireAll of a key that was released: %v", err)
	}
}

func aRefusedAcquireAllLeavesNothingHeld(c *check) {
	keys := c.keys()
	holder := c.acquire(c.other(), keys[2], c.long())
	for _, opts := range []*lock.AcquireOptions{{Attempts: 2, Delay: c.poll()}, {Timeout: c.ttl() / 2}} {
		set, err := lock.AcquireAll(c.ctx(), c.l, keys, c.long(), opts)
		if err == nil {
			c.releaseLater(set)
			c.fatalf("AcquireAll got a key that is held")
		}
		if !errors.Is(err, lock.ErrHeld) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			c.Errorf("AcquireAll that gave up: got %q, want an error matching lock.ErrHeld and none of a context", err)
		}
		c.free(keys[0])
		c.free(keys[1])
	}
	c.stillHolds(holder, keys[2])
}

func aCancelledAcquireAllLeavesNothingHeld(c *check) {
	keys := c.keys()
	for i := range 20 { // cut short anywhere
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*25*time.Microsecond)
		set, err := lock.AcquireAll(ctx, c.l, keys, c.long(), nil)
		switch {
		case err == nil:
			c.release(set)
		case !errors.Is(err, context.DeadlineExceeded):
			c.Errorf("AcquireAll whose ctx ended: got %q, want an error matching context.DeadlineExceeded", err)
		}
		cancel()
	}
	for _, key := range keys {
		c.free(key)
	}
}

func anExtendOfASetKeepsOthersFromAllKeys(c *check) {
	keys := c.keys()
	var set *lock.Set
	c.attempts(func(int) string {
		set = c.acquireAll(c.l, keys, c.ttl())
		begun, old := time.Now(), set.Expiry()
		err := c.steady(func() error { return set.Extend(c.ctx(), c.long()) },
			func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
		switch {
		case err != nil:
			return "a Set ran out before it was extended: " + err.Error()
		case set.Expiry().Before(begun.Add(c.long() / 2)):
			c.Errorf("Extend of a Set by %v left %v", c.long(), set.Expiry().Sub(begun))
		}
		for !time.Now().After(old) {
			c.h.Advance(time.Until(old) + time.Millisecond)
		}
		return ""
	})
	for _, key := range keys {
		c.refused(c.other(), key)
	}
	c.release(set)
	for _, key := range keys {
		c.free(key)
	}
}

func aSetIsLostWithOneMember(c *check) {
	keys := c.keys()
	set := c.acquireAll(c.l, keys, c.long())
	c.h.Break(c.t, c.l, keys[1])
	err := c.steady(func() error { return set.Extend(c.ctx(), c.long()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	c.lost(err, "Extend of a Set of which one key was taken away")
	if expiry := set.Expiry(); !expiry.IsZero() {
		c.Errorf("a lost Set has %v left, want the zero time", time.Until(expiry))
	}
}

func releaseOfASetFreesAllThoughOneIsLost(c *check) {
	keys := c.keys()
	set := c.acquireAll(c.l, keys, c.long())
	c.h.Break(c.t, c.l, keys[0])
	next := c.acquire(c.other(), keys[0], c.long())
	err := c.steady(func() error { return set.Extend(c.ctx(), c.long()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	c.lost(err, "Extend of a Set of which another has one key now")
	for range 2 {
		err := c.steady(func() error { return set.Release(c.ctx()) },
			func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
		c.lost(err, "Release of a Set that is lost")
	}
	c.free(keys[1])
	c.free(keys[2])
	c.stillHolds(next, keys[0])
}
