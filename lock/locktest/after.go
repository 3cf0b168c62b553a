package locktest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// What lock.ReleaseAfter promises, for a locker that offers it.
var afterCases = []testCase{
	{"ReleaseAfterKeepsTheKeyUntilThenAndNoLonger", nil, releaseAfterKeepsTheKeyUntilThenAndNoLonger},
	{"ReleaseAfterOutlastsTheLease", nil, releaseAfterOutlastsTheLease},
	{"ReleaseAfterEndsTheLease", nil, releaseAfterEndsTheLease},
	{"ATimeThatHasPassedIsAPlainRelease", nil, aTimeThatHasPassedIsAPlainRelease},
	{"TheHoldOutlivesItsProcess", []string{needPeer, needKill}, theHoldOutlivesItsProcess},
	{"AReleaseAfterwardsFreesNothing", nil, aReleaseAfterwardsFreesNothing},
	{"AFailedReleaseAfterIsNotUndone", []string{needOutage}, aFailedReleaseAfterIsNotUndone},
	{"ALostReplyOnReleaseAfterIsNotUndone", []string{needLoseReply}, aLostReplyOnReleaseAfterIsNotUndone},
	{"ReleaseAfterPastExpiryIsLost", nil, releaseAfterPastExpiryIsLost},
	{"ReleaseAfterDisturbsNoLaterHolder", []string{needBreak}, releaseAfterDisturbsNoLaterHolder},
	{"TooLongATimeIsRefusedBefore", nil, tooLongATimeIsRefusedBefore},
}

// releasesAfter skips the case unless the locker offers it, and checks that its
// limit leaves room for the suite's times.
func (c *check) releasesAfter() {
	c.Helper()
	offered := offered[lock.MaxReleaseAfterer](c, c.l, needReleaseAfter).MaxReleaseAfter()
	switch {
	case offered <= 0:
		c.skip(needReleaseAfter)
	case offered < c.long():
		c.fatalf("MaxReleaseAfter is %v, want at least Harness.LongTTL, which is %v", offered, c.long())
	}
}

// releaseAfter checks that it returns nil.
func (c *check) releaseAfter(lease lock.Lease, d time.Duration) {
	c.Helper()
	err := c.steady(func() error { return lock.ReleaseAfter(c.ctx(), lease, d) },
		func(err error) bool {
			return err == nil || errors.Is(err, lock.ErrLost) || errors.Is(err, errors.ErrUnsupported)
		})
	if err != nil {
		c.fatalf("ReleaseAfter of a lease that is held: %v", err)
	}
}

// keptUntil checks that key is refused until then, and gets free after it.
func (c *check) keptUntil(key string, until time.Time) lock.Lease {
	c.Helper()
	c.refused(c.l, key)
	c.refused(c.other(), key)
	next := c.acquireWithin(time.Until(until)+4*c.ttl()+c.bound(), c.other(), key, c.long())
	if early := time.Until(until); early > 0 {
		c.Errorf("a key was granted %v before the time until which ReleaseAfter keeps it", early)
	}
	return next
}

// releaseAfterKeepsTheKeyUntilThenAndNoLonger takes a lease whose ttl is far longer.
func releaseAfterKeepsTheKeyUntilThenAndNoLonger(c *check) {
	c.releasesAfter()
	for i, d := range []time.Duration{2 * c.ttl(), 3 * c.ttl()} {
		key := c.key(fmt.Sprint(i))
		start := time.Now()
		lease := c.acquire(c.l, key, c.long())
		granted := time.Now()
		c.releaseAfter(lease, d)
		// It can't have begun before start; if it did later, the end is later.
		next := c.keptUntil(key, start.Add(d))
		if late := time.Since(granted.Add(d)); late > 4*c.ttl()+c.h.Cleanup {
			c.Errorf("the key got free %v later than ReleaseAfter said", late)
		}
		if next.Token() <= lease.Token() {
			c.Errorf("token %d after token %d, across ReleaseAfter, want a larger one", next.Token(), lease.Token())
		}
	}
}

// releaseAfterOutlastsTheLease asks for more than the lease's own ttl.
func releaseAfterOutlastsTheLease(c *check) {
	c.releasesAfter()
	c.attempts(func(try int) string {
		key := c.key(fmt.Sprint(try))
		start := time.Now()
		lease := c.acquire(c.l, key, c.ttl())
		if err := lock.ReleaseAfter(c.ctx(), lease, 3*c.ttl()); err != nil {
			return fmt.Sprintf("ReleaseAfter within the ttl: %v", err)
		}
		c.keptUntil(key, start.Add(3*c.ttl()))
		return ""
	})
}

func releaseAfterEndsTheLease(c *check) {
	c.releasesAfter()
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	c.releaseAfter(lease, c.long())
	wantZeroExpiry(c, lease, "ReleaseAfter")
	c.lost(lease.Extend(c.ctx(), c.long()), "Extend after ReleaseAfter")
	wantZeroExpiry(c, lease, "ReleaseAfter and an Extend")
	c.refused(c.l, key)
	c.refused(c.other(), key)
}

func aTimeThatHasPassedIsAPlainRelease(c *check) {
	c.releasesAfter()
	for _, d := range []time.Duration{0, c.ttl() / 2} {
		key := c.key(d.String())
		lease := c.acquire(c.l, key, c.long())
		c.h.Advance(d + d/2)
		c.releaseAfter(lease, d)
		c.free(key)
	}
}

func theHoldOutlivesItsProcess(c *check) {
	c.releasesAfter()
	key, peer := c.key("k"), c.newPeer()
	start := time.Now()
	lease := c.acquire(peer, key, c.long())
	c.releaseAfter(lease, 3*c.ttl())
	c.h.Kill(c.t, peer)
	c.refused(c.l, key)
	next := c.acquireWithin(8*c.ttl()+c.bound(), c.l, key, c.long())
	if early := time.Until(start.Add(3 * c.ttl())); early > 0 {
		c.Errorf("a key was granted %v before the time until which ReleaseAfter of a process that died keeps it", early)
	}
	c.release(next)
}

func aReleaseAfterwardsFreesNothing(c *check) {
	c.releasesAfter()
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	c.releaseAfter(lease, c.long())
	c.release(lease)
	c.releaseAfter(lease, c.long())
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if err := lease.Release(cancelled); err != nil {
		c.Errorf("Release after a ReleaseAfter that returned nil: %v, want nil", err)
	}
	c.refused(c.l, key)
	c.refused(c.other(), key)
}

func aFailedReleaseAfterIsNotUndone(c *check) {
	c.releasesAfter()
	for i, finish := range []func(lease lock.Lease){
		c.release, func(lease lock.Lease) { c.releaseAfter(lease, c.long()) },
	} {
		key := c.key(fmt.Sprint(i))
		lease := c.acquire(c.l, key, c.long())
		c.outage(c.l, true)
		if err := lock.ReleaseAfter(c.ctx(), lease, c.long()); err == nil || errors.Is(err, lock.ErrLost) {
			c.fatalf("ReleaseAfter while the store can't be reached: got %v, want an error that is not final", show(err))
		}
		c.outage(c.l, false)
		c.lost(lease.Extend(c.ctx(), c.long()), "Extend once ReleaseAfter has begun")
		finish(lease)
		c.refused(c.l, key)
		c.refused(c.other(), key)
	}
}

func aLostReplyOnReleaseAfterIsNotUndone(c *check) {
	c.releasesAfter()
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	c.h.LoseReply(c.t, c.l)
	_ = lock.ReleaseAfter(c.ctx(), lease, c.long()) // an error, or nil if it asked again
	c.refused(c.other(), key)
	c.release(lease)
	c.refused(c.l, key)
	c.refused(c.other(), key)
}

func releaseAfterPastExpiryIsLost(c *check) {
	c.releasesAfter()
	key := c.key("k")
	lease := c.acquire(c.l, key, c.ttl())
	c.passExpiry(lease)
	err := c.steady(func() error { return lock.ReleaseAfter(c.ctx(), lease, c.long()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	c.lost(err, "ReleaseAfter past Expiry")
	wantZeroExpiry(c, lease, "ReleaseAfter past Expiry")
	c.free(key)
}

func releaseAfterDisturbsNoLaterHolder(c *check) {
	c.releasesAfter()
	key := c.key("k")
	old := c.acquire(c.l, key, c.long())
	c.h.Break(c.t, c.l, key)
	next := c.acquire(c.other(), key, c.long())
	_ = c.steady(func() error { return lock.ReleaseAfter(c.ctx(), old, 2*c.ttl()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	c.stillHolds(next, key)
	c.release(next)
	c.free(key)
}

func tooLongATimeIsRefusedBefore(c *check) {
	c.releasesAfter()
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	before := lease.Expiry()
	limiter, _ := lock.As[lock.MaxReleaseAfterer](c.l)
	for _, d := range []time.Duration{limiter.MaxReleaseAfter() + 1, -1} {
		for what, err := range map[string]error{
			"CheckReleaseAfter": lock.CheckReleaseAfter(c.l, d), "ReleaseAfter": lock.ReleaseAfter(c.ctx(), lease, d),
		} {
			if !errors.Is(err, lock.ErrInvalid) {
				c.Errorf("%s of %v: got %v, want an error matching lock.ErrInvalid", what, d, show(err))
			}
		}
	}
	if err := lock.CheckReleaseAfter(c.l, limiter.MaxReleaseAfter()); err != nil {
		c.Errorf("CheckReleaseAfter of MaxReleaseAfter: %v, want nil", err)
	}
	if !lease.Expiry().Equal(before) {
		c.Errorf("a ReleaseAfter that is refused moved Expiry by %v", lease.Expiry().Sub(before))
	}
	c.stillHolds(lease, key)
	c.release(lease)
	c.free(key)
}
