package locktest

import (
	"context"
	"errors"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// What lock.RaiseToken promises, for a locker whose leases offer it.
var raiseCases = []testCase{
	{"LaterTokensAreAboveARaisedOne", nil, laterTokensAreAboveARaisedOne},
	{"ARaisedTokenSurvivesExpiry", nil, aRaisedTokenSurvivesExpiry},
	{"ARaisedTokenSurvivesForce", []string{needBreak}, aRaisedTokenSurvivesForce},
	{"RaisingChangesNothingElse", nil, raisingChangesNothingElse},
	{"RaisingNeverLowers", nil, raisingNeverLowers},
	{"ALostLeaseRaisesNothing", []string{needBreak}, aLostLeaseRaisesNothing},
	{"AReleasedLeaseRaisesNothing", nil, aReleasedLeaseRaisesNothing},
	{"ALostReplyOnRaisingLosesNothing", []string{needLoseReply}, aLostReplyOnRaisingLosesNothing},
	{"RaisingInAnOutageSaysNothing", []string{needOutage}, raisingInAnOutageSaysNothing},
	{"RaisingEndsWithItsContext", nil, raisingEndsWithItsContext},
	{"TooLargeATokenIsRefused", nil, tooLargeATokenIsRefused},
}

// raisable acquires key, and skips the case unless the lease's token can be raised.
func (c *check) raisable(l lock.Locker, key string) lock.Lease {
	c.Helper()
	lease := c.acquire(l, key, c.long())
	switch err := lock.RaiseToken(c.ctx(), lease, 0); {
	case errors.Is(err, errors.ErrUnsupported):
		c.skip(needTokenRaiser)
	case err != nil:
		c.Errorf("RaiseToken to 0, which asks for nothing: %v", err)
	}
	return lease
}

// far is how much a case raises a token.
const far = 1_000_000

// raise checks that it returns nil, and the token.
func (c *check) raise(lease lock.Lease, least uint64) {
	c.Helper()
	err := c.steady(func() error { return lock.RaiseToken(c.ctx(), lease, least) },
		func(err error) bool { return !errors.Is(err, lock.ErrUnavailable) })
	if err != nil {
		c.fatalf("RaiseToken of a lease that is held: %v", err)
	}
	if lease.Token() < least {
		c.Errorf("Token is %d after RaiseToken to %d", lease.Token(), least)
	}
}

func (c *check) above(next lock.Lease, least uint64) {
	c.Helper()
	if next.Token() <= least {
		c.Errorf("token %d after a lease whose token was raised to %d, want a larger one", next.Token(), least)
	}
}

func laterTokensAreAboveARaisedOne(c *check) {
	key := c.key("k")
	lease := c.raisable(c.l, key)
	for range 3 {
		least := lease.Token() + far
		c.raise(lease, least)
		c.raise(lease, least) // as one that is sent twice
		c.release(lease)
		lease = c.acquire(c.other(), key, c.long())
		c.above(lease, least)
	}
	c.release(lease)
	lease = c.acquire(c.l, key, c.long())
	lower := lease.Token()
	c.release(lease)
	c.above(c.acquire(c.other(), key, c.long()), lower)
}

func aRaisedTokenSurvivesExpiry(c *check) {
	key := c.key("k")
	c.release(c.raisable(c.l, key))
	c.attempts(func(int) string {
		lease := c.takeOver(c.l, key, c.ttl())
		least := lease.Token() + far
		if err := lock.RaiseToken(c.ctx(), lease, least); err != nil {
			return "RaiseToken of a lease that was just acquired: " + err.Error()
		}
		next := c.takeOver(c.other(), key, c.long())
		c.above(next, least)
		c.release(next)
		return ""
	})
}

func aRaisedTokenSurvivesForce(c *check) {
	key := c.key("k")
	lease := c.raisable(c.l, key)
	// Where that takes the record away, the count begins anew above the clock: a raise by
	// fewer tokens than microseconds have passed is made up for.
	least := lease.Token() + 1000
	c.raise(lease, least)
	c.h.Advance(10 * time.Millisecond)
	c.h.Break(c.t, c.l, key)
	c.above(c.acquire(c.other(), key, c.long()), least)
}

func raisingChangesNothingElse(c *check) {
	key := c.key("k")
	lease := c.raisable(c.l, key)
	expiry := lease.Expiry()
	least := lease.Token() + far
	c.raise(lease, least)
	token := lease.Token()
	if now := lease.Expiry(); now.Before(expiry) {
		c.Errorf("RaiseToken moved Expiry from %v to %v", expiry, now)
	}
	if in, ok := lock.As[lock.Inspector](c.l); ok {
		info, err := in.Inspect(c.ctx(), key)
		if err == nil && info.Token != token {
			c.Errorf("Inspect shows token %d, want %d, to which it was raised", info.Token, token)
		}
	}
	c.stillHolds(lease, key)
	c.raise(lease, token+1)
	c.stillHolds(lease, key)
	c.release(lease)
	if err := lease.Release(c.ctx()); err != nil {
		c.Errorf("a second Release: %v", err)
	}
	c.free(key)
}

func raisingNeverLowers(c *check) {
	key := c.key("k")
	lease := c.raisable(c.l, key)
	c.raise(lease, lease.Token()+far)
	token := lease.Token()
	for _, least := range []uint64{token, token - 1, 1, 0} {
		if err := lock.RaiseToken(c.ctx(), lease, least); err != nil {
			c.Errorf("RaiseToken to %d of a lease with token %d: %v", least, token, err)
		}
	}
	if lease.Token() != token {
		c.Errorf("Token went from %d to %d", token, lease.Token())
	}
	c.release(lease)
	c.above(c.acquire(c.other(), key, c.long()), token)
}

func aLostLeaseRaisesNothing(c *check) {
	key := c.key("k")
	lease := c.raisable(c.l, key)
	c.h.Break(c.t, c.l, key)
	next := c.acquire(c.other(), key, c.long())
	token := next.Token()
	// A store may know of the loss by its token only, or that nothing was raised.
	if err := lock.RaiseToken(c.ctx(), lease, token+far); err == nil {
		c.Errorf("RaiseToken of a lease that another has taken returned nil")
	}
	if next.Token() != token {
		c.Errorf("it changed the next holder's token from %d to %d", token, next.Token())
	}
	c.stillHolds(next, key)
	c.release(next)
	c.above(c.acquire(c.other(), key, c.long()), token)
}

func aReleasedLeaseRaisesNothing(c *check) {
	key := c.key("k")
	lease := c.raisable(c.l, key)
	c.release(lease)
	c.lost(lock.RaiseToken(c.ctx(), lease, lease.Token()+far), "RaiseToken after Release")
	c.free(key)
}

func aLostReplyOnRaisingLosesNothing(c *check) {
	key := c.key("k")
	lease := c.raisable(c.l, key)
	for range 2 {
		least := lease.Token() + far
		c.h.LoseReply(c.t, c.l)
		ctx, cancel := context.WithTimeout(context.Background(), c.ttl()/4)
		if err := lock.RaiseToken(ctx, lease, least); errors.Is(err, lock.ErrLost) {
			c.Errorf("RaiseToken with its reply lost: %v", err)
		}
		cancel()
		c.stillHolds(lease, key)
		c.raise(lease, least)
		c.stillHolds(lease, key)
	}
	token := lease.Token()
	c.h.LoseReply(c.t, c.l)
	ctx, cancel := context.WithTimeout(context.Background(), c.ttl()/4)
	_ = lock.RaiseToken(ctx, lease, token+far) // and then it is released, whatever became of that
	cancel()
	c.release(lease)
	c.above(c.acquire(c.other(), key, c.long()), token)
}

func raisingInAnOutageSaysNothing(c *check) {
	key := c.key("k")
	lease := c.raisable(c.l, key)
	expiry, token := lease.Expiry(), lease.Token()
	c.outage(c.l, true)
	err := lock.RaiseToken(c.ctx(), lease, token+far)
	c.outage(c.l, false)
	if err == nil || errors.Is(err, lock.ErrLost) {
		c.Errorf("RaiseToken in an outage: got %s, want an error that says nothing of the lease", show(err))
	}
	if lease.Expiry().Before(expiry) {
		c.Errorf("it moved Expiry")
	}
	if lease.Token() != token {
		c.Errorf("Token is %d after RaiseToken failed, want %d", lease.Token(), token)
	}
	c.stillHolds(lease, key)
	c.raise(lease, token+far)
	c.release(lease)
}

func raisingEndsWithItsContext(c *check) {
	key := c.key("k")
	lease := c.raisable(c.l, key)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := lock.RaiseToken(ctx, lease, lease.Token()+far); !errors.Is(err, context.Canceled) {
		c.Errorf("RaiseToken with a ctx that has ended: got %s, want an error matching context.Canceled", show(err))
	}
	c.stillHolds(lease, key)
}

func tooLargeATokenIsRefused(c *check) {
	key := c.key("k")
	lease := c.raisable(c.l, key)
	token := lease.Token()
	if err := lock.RaiseToken(c.ctx(), lease, lock.MaxRaise+1); !errors.Is(err, lock.ErrInvalid) {
		c.Errorf("RaiseToken to more than MaxRaise: got %s, want an error matching lock.ErrInvalid", show(err))
	}
	if lease.Token() != token {
		c.Errorf("it moved Token from %d to %d", token, lease.Token())
	}
	c.stillHolds(lease, key)
	c.release(lease)
	c.above(c.acquire(c.other(), key, c.long()), token)
}
