package locktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// These cases run lock.Semaphore over the locker: its slots are keys that the
// locker must keep apart.
var semaphoreCases = []testCase{
	{"NAreAdmittedAndTheNextIsRefused", nil, nAreAdmittedAndTheNextIsRefused},
	{"TheLargerNIsNeverExceeded", nil, theLargerNIsNeverExceeded},
	{"SlotsHaveTokensOfTheirOwn", nil, slotsHaveTokensOfTheirOwn},
	{"AnySlotThatGetsFreeWakes", nil, anySlotThatGetsFreeWakes},
	{"InspectAndListTellOfSlots", nil, inspectAndListTellOfSlots},
	{"ForceReleaseBreaksOneTerm", nil, forceReleaseBreaksOneTerm},
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

func nAreAdmittedAndTheNextIsRefused(c *check) {
	key := c.key("k")
	a, b := lock.Semaphore(c.l, 3), lock.Semaphore(c.other(), 3)
	leases := c.fill(key, 3, a, b)
	for _, l := range []lock.Locker{a, b} {
		err := c.refused(l, key)
		held, ok := errors.AsType[*lock.HeldError](err)
		if ok && (held.RetryAfter < 0 || held.RetryAfter > c.long()+c.long()/20) {
			c.Errorf("RetryAfter = %v, want at most %v", held.RetryAfter, c.long())
		}
	}
	c.refused(c.l, key) // whoever asks for the key itself counts, too
	for _, lease := range leases {
		c.extend(lease, c.long())
		c.release(lease)
		next, _ := c.slot(b, key, c.long())
		if next.Key() != lease.Key() {
			c.Errorf("after the release of %q, %q was granted", lease.Key(), next.Key())
		}
		c.refused(a, key)
	}
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

func slotsHaveTokensOfTheirOwn(c *check) {
	key := c.key("k")
	l := lock.Semaphore(c.l, 2)
	last := map[string]uint64{}
	for range 5 {
		leases := c.fill(key, 2, l, lock.Semaphore(c.other(), 2))
		for _, lease := range leases {
			if lease.Token() <= last[lease.Key()] {
				c.Errorf("%q: token %d after token %d, want a larger one", lease.Key(), lease.Token(), last[lease.Key()])
			}
			last[lease.Key()] = lease.Token()
			c.release(lease)
		}
	}
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

func inspectAndListTellOfSlots(c *check) {
	l := lock.Semaphore(c.l, 2)
	inspector := offered[lock.Inspector](c, l, needInspector)
	key := c.key("k")
	inspect := func() (info lock.Info) {
		c.Helper()
		c.steady(func() (err error) {
			info, err = inspector.Inspect(c.ctx(), key)
			return err
		}, func(err error) bool { return err == nil })
		return info
	}
	if info := inspect(); info.Holder != "" || info.Key != c.slotName(key, 1) {
		c.Errorf("Inspect of a free semaphore: %+v, want its first slot without a holder", info)
	}
	tokens := map[string]uint64{}
	for _, lease := range c.fill(key, 2, l) {
		tokens[lease.Key()] = lease.Token()
	}
	same := func(info lock.Info) bool {
		token, ok := tokens[info.Key]
		return ok && info.Holder != "" && (info.Token == 0 || info.Token == token)
	}
	if info := inspect(); !same(info) {
		c.Errorf("Inspect of a full semaphore: %+v, want one of %v with a holder", info, tokens)
	}
	seen := map[string]bool{}
	c.steady(func() error {
		for info, err := range inspector.List(c.ctx(), key) {
			if err != nil {
				return err
			}
			if !same(info) {
				c.Errorf("List has %+v, want %v with holders", info, tokens)
			}
			seen[info.Key] = true
		}
		return nil
	}, func(err error) bool { return err == nil })
	if len(seen) != len(tokens) {
		c.Errorf("List has %v, want %v", seen, tokens)
	}
}

func forceReleaseBreaksOneTerm(c *check) {
	l := lock.Semaphore(c.l, 3)
	forcer := offered[lock.ForceReleaser](c, l, needForceReleaser)
	key := c.key("k")
	force := func(token uint64) {
		c.Helper()
		c.steady(func() error { return forcer.ForceRelease(c.ctx(), key, token) }, func(err error) bool { return err == nil })
	}
	leases := c.fill(key, 3, lock.Semaphore(c.other(), 3))
	token := leases[0].Token()
	force(token)
	for _, lease := range leases {
		err := c.steady(func() error { return lease.Extend(c.ctx(), c.long()) },
			func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
		if broken := lease.Token() == token; broken != (err != nil) { // two slots may have one token
			c.Errorf("Extend of %q (token %d), after the force on token %d: %v", lease.Key(), lease.Token(), token, show(err))
		}
	}
	force(0)
	c.fill(key, 3, l)
}
