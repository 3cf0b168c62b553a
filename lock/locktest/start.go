package locktest

import (
	"errors"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// What lock.ExtendStarter promises, for a locker whose leases offer it.
var startCases = []testCase{
	{"AStartedExtendIsAnExtend", nil, aStartedExtendIsAnExtend},
	{"WhatExtendWouldRefuseIsNotStarted", nil, whatExtendWouldRefuseIsNotStarted},
	{"AStartedExtendOfATakenHoldIsALoss", []string{needBreak}, aStartedExtendOfATakenHoldIsALoss},
	{"AStartedExtendInAnOutageSaysNothing", []string{needOutage}, aStartedExtendInAnOutageSaysNothing},
	{"AStoppedExtendSaysNothing", []string{needDelay}, aStoppedExtendSaysNothing},
	{"AReleaseEndsAStartedExtend", []string{needDelay}, aReleaseEndsAStartedExtend},
}

// started is what done of one started extend got.
type started struct {
	over chan struct{} // closed at the first outcome

	mu     sync.Mutex // guards all below
	calls  int
	expiry time.Time
	err    error
}

func newStarted() *started { return &started{over: make(chan struct{})} }

// Extended implements lock.ExtendDone.
func (s *started) Extended(expiry time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls++; s.calls == 1 {
		s.expiry, s.err = expiry, err
		close(s.over)
	}
}

func (s *started) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// once checks that done was called once, and no more.
func (c *check) once(s *started, what string) {
	c.Helper()
	time.Sleep(c.poll()) // for a second call
	if n := s.count(); n != 1 {
		c.Errorf("%s: done was called %d times, want once", what, n)
	}
}

// outcome waits for what s gets.
func (c *check) outcome(s *started, what string) (time.Time, error) {
	c.Helper()
	select {
	case <-s.over:
	case <-time.After(c.bound()):
		c.fatalf("%s: done was not called for %v", what, c.bound())
	}
	c.once(s, what)
	return s.expiry, s.err
}

// startable acquires key for LongTTL, and skips the case unless extends of the lease can be
// started.
func (c *check) startable(l lock.Locker, key string) lock.ExtendStarter {
	c.Helper()
	lease, ok := c.acquire(l, key, c.long()).(lock.ExtendStarter)
	if !ok {
		c.skip(needExtendStarter)
	}
	s := newStarted()
	if !lease.StartExtend(c.long(), 0, s) { // so it is with NewLease over a term that can't
		c.skip(needExtendStarter)
	}
	c.outcome(s, "StartExtend of a lease that was just acquired")
	return lease
}

// start starts an extend.
func (c *check) start(lease lock.ExtendStarter, ttl time.Duration) *started {
	c.Helper()
	s := newStarted()
	if !lease.StartExtend(ttl, 0, s) {
		c.fatalf("StartExtend of a lease that is held returned false (expiry in %v)", time.Until(lease.Expiry()))
	}
	return s
}

func aStartedExtendIsAnExtend(c *check) {
	c.release(c.startable(c.l, c.key("k")))
	c.attempts(func(int) string {
		lease, ok := c.acquire(c.l, c.key("k"), c.ttl()).(lock.ExtendStarter)
		if !ok {
			c.fatalf("one lease is a lock.ExtendStarter, and the next one is not")
		}
		before, token := lease.Expiry(), lease.Token()
		s := newStarted()
		if !lease.StartExtend(c.long(), 0, s) {
			_ = lease.Release(c.ctx())
			return "StartExtend well within the ttl returned false"
		}
		expiry, err := c.outcome(s, "StartExtend")
		if err != nil {
			_ = lease.Release(c.ctx())
			return "StartExtend well within the ttl: " + err.Error()
		}
		if now := lease.Expiry(); !expiry.Equal(now) {
			c.Errorf("done got the expiry %v, and the lease has %v", expiry, now)
		}
		if moved := expiry.Sub(before); moved < c.long()/2 {
			c.Errorf("StartExtend from %v to %v moved Expiry by %v", c.ttl(), c.long(), moved)
		}
		if left := time.Until(expiry); left > c.long() {
			c.Errorf("Expiry is %v away after StartExtend by %v", left, c.long())
		}
		if lease.Token() != token {
			c.Errorf("StartExtend changed the token from %d to %d", token, lease.Token())
		}
		for !time.Now().After(before) {
			c.h.Advance(time.Until(before) + c.ttl())
		}
		c.stillHolds(lease, lease.Key())
		c.release(lease)
		return ""
	})
}

func whatExtendWouldRefuseIsNotStarted(c *check) {
	lease := c.startable(c.l, c.key("k"))
	refused := func(what string, ttl, margin time.Duration) {
		c.Helper()
		s := newStarted()
		if lease.StartExtend(ttl, margin, s) {
			c.Errorf("StartExtend %s returned true", what)
		}
		time.Sleep(c.poll())
		if n := s.count(); n > 0 {
			c.Errorf("StartExtend %s returned false, and called done", what)
		}
	}
	refused("for 0", 0, 0)
	refused("for more than MaxTTL", lock.MaxTTL+1, 0)
	refused("with no more left than the margin", c.long(), time.Until(lease.Expiry())+c.long())
	c.stillHolds(lease, lease.Key())
	c.release(lease)
	refused("of a released lease", c.long(), 0)
	c.free(c.key("k"))
	lease = c.startable(c.l, c.key("k"))
	c.extend(lease, c.ttl())
	c.passExpiry(lease)
	refused("of an expired lease", c.long(), 0)
	if err := lease.Extend(c.ctx(), c.long()); !errors.Is(err, lock.ErrLost) {
		c.Errorf("Extend of an expired lease: got %v, want an error matching lock.ErrLost", show(err))
	}
}

func aStartedExtendOfATakenHoldIsALoss(c *check) {
	key := c.key("k")
	lease := c.startable(c.l, key)
	c.h.Break(c.t, c.l, key)
	next := c.acquire(c.other(), key, c.long())
	err := c.steady(func() error {
		s := newStarted()
		if !lease.StartExtend(c.long(), 0, s) { // it knows by now: Extend says why
			return lease.Extend(c.ctx(), c.long())
		}
		_, err := c.outcome(s, "StartExtend of a hold that was taken away")
		if !errors.Is(err, lock.ErrLost) && lease.Expiry().IsZero() {
			c.Errorf("StartExtend of a hold that was taken away: done got %s, and the lease is lost", show(err))
		}
		return err
	}, func(err error) bool { return !errors.Is(err, lock.ErrUnavailable) })
	c.lost(err, "StartExtend of a hold that was taken away")
	if expiry := lease.Expiry(); !expiry.IsZero() {
		c.Errorf("Expiry is %v after a definite loss, want the zero time", expiry)
	}
	c.stillHolds(next, key)
}

// unchanged checks that an outcome says nothing of the lease.
func (c *check) unchanged(lease lock.Lease, before time.Time, err error, what string) {
	c.Helper()
	if err == nil || errors.Is(err, lock.ErrLost) {
		c.Errorf("%s: done got %s, want an error that says nothing of the lease", what, show(err))
	}
	if expiry := lease.Expiry(); !expiry.Equal(before) {
		c.Errorf("%s: Expiry moved from %v to %v", what, before, expiry)
	}
}

func aStartedExtendInAnOutageSaysNothing(c *check) {
	lease := c.startable(c.l, c.key("k"))
	before := lease.Expiry()
	c.outage(c.l, true)
	s := c.start(lease, c.long())
	_, err := c.outcome(s, "StartExtend in an outage")
	c.outage(c.l, false)
	c.unchanged(lease, before, err, "StartExtend in an outage")
	c.stillHolds(lease, lease.Key())
}

func aStoppedExtendSaysNothing(c *check) {
	lease := c.startable(c.l, c.key("k"))
	before := lease.Expiry()
	c.delay(c.l, 2*c.bound()) // longer than the outcome is waited for
	s := c.start(lease, c.long())
	lease.StopExtend()
	_, err := c.outcome(s, "StopExtend of a slow extend")
	c.unchanged(lease, before, err, "StopExtend")
	c.delay(c.l, 0)
	c.stillHolds(lease, lease.Key())
	lease.StopExtend() // there is none
	c.stillHolds(lease, lease.Key())
}

func aReleaseEndsAStartedExtend(c *check) {
	key := c.key("k")
	lease := c.startable(c.l, key)
	slow := c.ttl() / 10
	c.delay(c.l, slow)
	s := c.start(lease, c.long())
	c.release(lease)
	c.outcome(s, "StartExtend before a Release")
	c.delay(c.l, 0)
	c.free(key)
	c.h.Advance(4 * slow) // what was under way may be applied only now
	c.free(key)
}
