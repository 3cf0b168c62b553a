package locktest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var expiryCases = []testCase{
	{"ExpiryIsTheRequestPlusTheTTL", nil, expiryIsTheRequestPlusTheTTL},
	{"NobodyElseBeforeExpiry", nil, nobodyElseBeforeExpiry},
	{"AnOddTTLIsHonoured", nil, anOddTTLIsHonoured},
	{"AnExtendedKeyGetsFreeInTime", nil, anExtendedKeyGetsFreeInTime},
	{"AnAbandonedKeyGetsFree", nil, anAbandonedKeyGetsFree},
	{"ADeadHoldersKeyGetsFree", []string{needPeer, needKill}, aDeadHoldersKeyGetsFree},
	{"TheWholeTTLIsHeld", []string{needWrap}, theWholeTTLIsHeld},
	{"SlowSuccessDoesNotLengthenTheLease", []string{needDelay}, slowSuccessDoesNotLengthenTheLease},
	{"NeverALeaseWithNoTimeLeft", []string{needDelay}, neverALeaseWithNoTimeLeft},
}

func expiryIsTheRequestPlusTheTTL(c *check) {
	for _, ttl := range []time.Duration{c.long(), c.long() / 2} {
		start := time.Now()
		lease := c.acquire(c.l, c.key(ttl.String()), ttl)
		expiry, now := lease.Expiry(), time.Now()
		if expiry.After(now.Add(ttl)) {
			c.Errorf("ttl %v: Expiry is %v after the reply, want at most request + ttl", ttl, expiry.Sub(now))
		}
		if expiry.Before(start.Add(ttl / 2)) {
			c.Errorf("ttl %v: Expiry is only %v after the request, want about the ttl", ttl, expiry.Sub(start))
		}
		if monotonic(now) && !monotonic(expiry) {
			c.Errorf("Expiry %v has no monotonic reading: a step of the wall clock would move it", expiry)
		}
		if again := lease.Expiry(); again.Sub(expiry).Abs() > c.ttl()/10 {
			c.Errorf("Expiry went from %v to %v with no call in between", expiry, again)
		}
	}
}

// monotonic reports whether t has a monotonic reading, which time.Now has outside
// synctest bubbles.
func monotonic(t time.Time) bool { return strings.Contains(t.String(), " m=") }

func nobodyElseBeforeExpiry(c *check) {
	key := c.key("k")
	for range 2 {
		lease := c.takeOver(c.l, key, c.ttl())
		expiry := lease.Expiry()
		next := c.takeOver(c.other(), key, c.ttl())
		if early := time.Until(expiry); early > 0 {
			c.Errorf("token %d was granted %v before the lease of token %d ended", next.Token(), early, lease.Token())
		}
	}
}

// inTime waits until key, of a lease for ttl that nobody renews, can be had, and returns
// what is wrong with the moment. A machine's stall makes attempts late, so what counts is
// when one was made that was still refused.
func (c *check) inTime(key string, lease lock.Lease, ttl, slack time.Duration) (problem string) {
	c.Helper()
	expiry, l := lease.Expiry(), c.other()
	var most time.Time // until when it may be refused; zero: it was not seen to be held
	for deadline := time.Now().Add(4*ttl + c.bound()); ; time.Sleep(c.poll()) {
		asked := time.Now()
		next, err := c.try(c.ctx(), l, key, c.ttl())
		now := time.Now()
		switch {
		case err == nil:
			if early := expiry.Sub(now); early > 0 {
				c.Errorf("token %d was granted %v before the lease before it ended", next.Token(), early)
			}
			_ = next.Release(c.ctx())
			if most.IsZero() {
				return "the lease has ended before the first attempt of another"
			}
			return ""
		case errors.Is(err, lock.ErrHeld) && most.IsZero():
			// The store may have begun to count as late as its reply was received; and one
			// whose store has no clock counts from when it has seen the hold.
			most = expiry.Add(slack + max(0, now.Sub(expiry.Add(-ttl))))
		case errors.Is(err, lock.ErrHeld) && asked.After(most):
			return fmt.Sprintf("a key is still held %v after its lease's Expiry, want at most %v: the store keeps it longer than it was asked to",
				asked.Sub(expiry), most.Sub(expiry))
		case !errors.Is(err, lock.ErrHeld) && !errors.Is(err, lock.ErrUnavailable):
			c.fatalf("TryAcquire of %.60q, whose lease ends: %v", key, err)
		}
		if now.After(deadline) {
			c.fatalf("%.60q is still not free %v after its lease's Expiry: %v", key, now.Sub(expiry), err)
		}
	}
}

// anOddTTLIsHonoured takes ttls that no unit divides: stores count in seconds, or in
// tenths of them.
func anOddTTLIsHonoured(c *check) {
	odd := c.ttl() + c.ttl()*37/100 + 3*time.Millisecond
	for _, ttl := range []time.Duration{odd, c.long() - odd} {
		start := time.Now()
		lease := c.acquire(c.l, c.key(ttl.String()), ttl)
		check := func(what string) {
			c.Helper()
			expiry, now := lease.Expiry(), time.Now()
			if expiry.After(now.Add(ttl)) || expiry.Before(start.Add(ttl-ttl/10)) {
				c.Errorf("ttl %v: %s, Expiry is %v after the request, want about the ttl and no more", ttl, what, expiry.Sub(start))
			}
		}
		check("acquired")
		start = time.Now()
		c.extend(lease, ttl)
		check("extended")
		c.release(lease)
	}
	for _, how := range []string{"acquired", "extended"} {
		c.attempts(func(try int) string {
			key := c.key(fmt.Sprint(how, try))
			lease := c.acquire(c.l, key, odd)
			if how == "extended" {
				c.h.Advance(c.ttl() / 4)
				if err := lease.Extend(c.ctx(), odd); err != nil {
					return "Extend well within the ttl: " + err.Error()
				}
			}
			return c.inTime(key, lease, odd, odd/3)
		})
	}
}

// anExtendedKeyGetsFreeInTime extends a lease that has nearly all of its time left: an
// Extend counts from now, not from the old end.
func anExtendedKeyGetsFreeInTime(c *check) {
	c.attempts(func(try int) string {
		key := c.key(fmt.Sprint(try))
		lease := c.acquire(c.l, key, c.ttl())
		for range 4 {
			if err := lease.Extend(c.ctx(), c.ttl()); err != nil {
				return "Extend within the ttl: " + err.Error()
			}
		}
		if expiry, now := lease.Expiry(), time.Now(); expiry.After(now.Add(c.ttl())) {
			c.Errorf("Expiry is %v away after Extends by %v", expiry.Sub(now), c.ttl())
		}
		return c.inTime(key, lease, c.ttl(), c.ttl()/2)
	})
}

func anAbandonedKeyGetsFree(c *check) {
	key := c.key("k")
	c.acquire(c.l, key, c.ttl())
	next := c.takeOver(c.other(), key, c.long())
	c.refused(c.l, key)
	c.release(next)
}

func aDeadHoldersKeyGetsFree(c *check) {
	key, peer := c.key("k"), c.newPeer()
	dead := c.acquire(peer, key, c.ttl())
	token := dead.Token()
	c.h.Kill(c.t, peer)
	next := c.takeOver(c.l, key, c.long())
	if next.Token() <= token {
		c.Errorf("token %d after the dead holder's %d, want a larger one", next.Token(), token)
	}
	c.refused(c.l, key)
}

// theWholeTTLIsHeld looks, where time costs nothing, whether a long ttl is cut
// to some constant.
func theWholeTTLIsHeld(c *check) {
	for _, how := range []string{"acquired", "extended"} {
		key := c.key(how)
		lease := c.acquire(c.l, key, c.long())
		if how == "extended" {
			c.h.Advance(c.ttl())
			c.extend(lease, c.long())
		}
		for i := time.Duration(1); i < 10; i++ {
			if left := time.Until(lease.Expiry()); left > c.long()/10 {
				c.refused(c.other(), key)
				c.h.Advance(c.long() / 10)
			}
		}
		if left := time.Until(lease.Expiry()); left > 0 {
			c.refused(c.other(), key)
		}
		c.passExpiry(lease)
		c.takeOver(c.other(), key, c.ttl())
	}
}

// slowSuccessDoesNotLengthenTheLease makes the store as slow as the locker bears.
func slowSuccessDoesNotLengthenTheLease(c *check) {
	slow, key := c.ttl(), c.key("probe")
	for ; ; slow /= 2 {
		if slow < c.ttl()/50 {
			c.fatalf("no request succeeds that is delayed by %v", 2*slow)
		}
		c.delay(c.l, slow)
		lease, err := c.try(c.ctx(), c.l, key, c.long())
		if err == nil && lease.Extend(c.ctx(), c.long()) == nil {
			break
		}
		c.delay(c.l, 0)
		if err == nil {
			_ = lease.Release(c.ctx())
		}
		c.free(key)
	}
	c.attempts(func(try int) string {
		key := c.key(fmt.Sprint(try))
		start := time.Now()
		lease, err := c.try(c.ctx(), c.l, key, c.long())
		took := time.Since(start)
		if err != nil {
			return fmt.Sprintf("an attempt delayed by %v failed: %v", slow, err)
		}
		if took < slow {
			c.fatalf("Harness.Delay(%v) delayed an attempt by %v only", slow, took)
		}
		if late := lease.Expiry().Sub(start.Add(c.long())); late > slow/2 {
			return fmt.Sprintf("a lease granted after %v ends %v later than request + ttl", took, late)
		}
		start = time.Now()
		if err := lease.Extend(c.ctx(), c.long()); err != nil {
			return fmt.Sprintf("an Extend delayed by %v failed: %v", slow, err)
		}
		if late := lease.Expiry().Sub(start.Add(c.long())); late > slow/2 {
			return fmt.Sprintf("a lease extended in %v ends %v later than request + ttl", time.Since(start), late)
		}
		return ""
	})
}

func neverALeaseWithNoTimeLeft(c *check) {
	key := c.key("k")
	c.delay(c.l, 2*c.ttl())
	lease, err := c.try(c.ctx(), c.l, key, c.ttl())
	if err == nil {
		c.Errorf("an attempt answered after 2 ttls was granted with %v left, want an error", time.Until(lease.Expiry()))
	}
	if errors.Is(err, lock.ErrHeld) || errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, lock.ErrUnavailable) {
		c.Errorf("an attempt answered too late failed with %q, want an error that is neither contention nor the caller's ctx", err)
	}
	c.delay(c.l, 0)
	c.takeOver(c.l, key, c.ttl())
}
