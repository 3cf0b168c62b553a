package locktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// These cases run what lock composes of lockers, as far as it takes a real store to show
// it: names that meet in the store, and callers that contend for several keys. All else
// about Prefix, Observe, Semaphore and AcquireAll is shown by lock's own tests, on fake
// time and with every order of faults.
var compositionCases = []testCase{
	{"APrefixedKeyIsTheFullName", nil, aPrefixedKeyIsTheFullName},
	{"TheLargerNIsNeverExceeded", nil, theLargerNIsNeverExceeded},
	{"AnySlotThatGetsFreeWakes", nil, anySlotThatGetsFreeWakes},
	{"CallersInOppositeOrdersAllGetThrough", nil, callersInOppositeOrdersAllGetThrough},
	{"ACancelledAcquireAllLeavesNothingHeld", nil, aCancelledAcquireAllLeavesNothingHeld},
}

func aPrefixedKeyIsTheFullName(c *check) {
	prefix := c.key("tenant:")
	short, full := "k", prefix+"k"
	outer := lock.Prefix(lock.Prefix(c.l, prefix[:5]), prefix[5:])
	for _, l := range []lock.Locker{lock.Prefix(c.l, prefix), outer} {
		lease := c.acquire(c.other(), full, c.long())
		err := c.refused(l, short)
		if held, ok := errors.AsType[*lock.HeldError](err); ok && held.Key != c.h.FullKey(full) {
			c.Errorf("HeldError.Key = %q, want %q", held.Key, c.h.FullKey(full))
		}
		c.release(lease)

		c.steady(func() error {
			var err error
			lease, err = c.try(c.ctx(), l, short, c.long())
			return err
		}, func(err error) bool { return err == nil })
		if lease.Key() != c.h.FullKey(full) {
			c.Errorf("lease.Key() = %q, want %q", lease.Key(), c.h.FullKey(full))
		}
		c.stillHolds(lease, full)
		c.release(lease)
		c.free(full)
	}
}

// slot acquires a slot, whose name must be one of those of key, and returns its
// number too.
func (c *check) slot(l lock.Locker, key string, ttl time.Duration) (lock.Lease, int) {
	c.Helper()
	var lease lock.Lease
	c.steady(func() (err error) { // a slot may be kept for one who waits, for a moment
		lease, err = c.try(c.ctx(), l, key, ttl)
		if err != nil && !errors.Is(err, lock.ErrHeld) && !errors.Is(err, lock.ErrUnavailable) {
			c.fatalf("TryAcquire of a semaphore with a free slot: %v", err)
		}
		return err
	}, func(err error) bool { return err == nil })
	for n := range lock.MaxSlots {
		if lease.Key() == c.slotName(key, n+1) {
			return lease, n + 1
		}
	}
	c.fatalf("lease.Key() = %q, want the name of a slot, such as %q", lease.Key(), c.slotName(key, 2))
	return nil, 0
}

func (c *check) slotName(key string, slot int) string {
	if slot == 1 { // is the key itself
		return c.h.FullKey(key)
	}
	return c.h.FullKey(fmt.Sprintf("%s;slot=%d", key, slot))
}

// fill takes all n slots of key, for LongTTL, by both lockers in turn.
func (c *check) fill(key string, n int, lockers ...lock.Locker) []lock.Lease {
	c.Helper()
	var leases []lock.Lease
	var slots []int
	for i := range n {
		lease, slot := c.slot(lockers[i%len(lockers)], key, c.long())
		if slot > n || slices.Contains(slots, slot) {
			c.fatalf("slot %d was granted while %d of %d are held: %d", slot, i, n, slots)
		}
		leases, slots = append(leases, lease), append(slots, slot)
	}
	return leases
}

func theLargerNIsNeverExceeded(c *check) {
	key := c.key("k")
	sizes := []lock.Locker{c.l, lock.Semaphore(c.other(), 3), lock.Semaphore(c.l, 2), lock.Semaphore(c.other(), 3)}
	var mu sync.Mutex // guards inside
	inside := map[string]bool{}
	ctx, cancel := context.WithTimeout(context.Background(), c.bound())
	defer cancel()
	wg := c.group()
	for i := range 8 {
		wg.Go(func() {
			for range 2 {
				lease, err := lock.Acquire(ctx, sizes[i%len(sizes)], key, c.long(), &lock.AcquireOptions{Delay: c.poll()})
				if err != nil {
					c.Errorf("waiter %d: %v", i, err)
					return
				}
				c.releaseLater(lease)
				mu.Lock()
				if inside[lease.Key()] || len(inside) == 3 {
					c.Errorf("%q was granted while these are held: %v", lease.Key(), inside)
				}
				inside[lease.Key()] = true
				mu.Unlock()
				time.Sleep(c.poll() / 4)
				mu.Lock()
				delete(inside, lease.Key())
				mu.Unlock()
				c.releaseUnlessLost(lease)
			}
		})
	}
	wg.Wait()
}

func anySlotThatGetsFreeWakes(c *check) {
	key := c.key("k")
	l := lock.Semaphore(c.l, 3)
	wake := make(chan struct{}, 1)
	leases := c.fill(key, 3, lock.Semaphore(c.other(), 3))
	c.watch(c.ctx(), l, key, wake)
	for _, lease := range leases {
		c.release(lease)
		c.awake(wake, l, key, "the release of a slot")
		c.slot(l, key, c.long()) // so that only the next one can be had then
	}
}

func (c *check) keys() []string { return []string{c.key("a"), c.key("b"), c.key("c")} }

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
