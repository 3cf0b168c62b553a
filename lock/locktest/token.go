package locktest

import (
	"context"
	"errors"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var tokenCases = []testCase{
	{"TokensAreConstantAndNotZero", nil, tokensAreConstantAndNotZero},
	{"TokensRiseAcrossRelease", nil, tokensRiseAcrossRelease},
	{"TokensRiseAcrossExpiry", nil, tokensRiseAcrossExpiry},
	{"TokensRiseAcrossLoss", []string{needBreak}, tokensRiseAcrossLoss},
	{"TokensRiseAcrossFailedAttempts", nil, tokensRiseAcrossFailedAttempts},
	{"TokensRiseAcrossLostReplies", []string{needLoseReply}, tokensRiseAcrossLostReplies},
	{"TokensRiseAcrossClients", []string{needPeer}, tokensRiseAcrossClients},
	{"TokensIgnoreNeighbours", nil, tokensIgnoreNeighbours},
}

func tokensAreConstantAndNotZero(c *check) {
	lease := c.acquire(c.l, c.key("k"), c.ttl())
	token := lease.Token()
	if token == 0 {
		c.Errorf("Token is 0, want 1 or more")
	}
	same := func(when string) {
		c.Helper()
		if now := lease.Token(); now != token {
			c.Errorf("Token went from %d to %d %s", token, now, when)
		}
	}
	_ = lease.Extend(c.ctx(), c.ttl())
	same("by Extend")
	c.passExpiry(lease)
	same("by expiry")
	_ = lease.Release(c.ctx())
	same("by Release")
	c.acquire(c.other(), c.key("k"), c.ttl())
	same("by another's grant")
}

// rising checks each lease's token against the one before.
type rising struct {
	c    *check
	last uint64
}

func (r *rising) next(lease lock.Lease, after string) {
	r.c.Helper()
	if token := lease.Token(); token <= r.last {
		r.c.Errorf("token %d after token %d, across %s, want a larger one", token, r.last, after)
	} else {
		r.last = token
	}
}

func tokensRiseAcrossRelease(c *check) {
	key, tokens := c.key("k"), rising{c: c}
	for i := range 10 {
		l := c.l
		if i%2 == 1 {
			l = c.other()
		}
		lease := c.acquire(l, key, c.long())
		tokens.next(lease, "a release")
		c.release(lease)
	}
}

func tokensRiseAcrossExpiry(c *check) {
	key, tokens := c.key("k"), rising{c: c}
	tokens.next(c.acquire(c.l, key, c.ttl()), "nothing")
	tokens.next(c.takeOver(c.other(), key, c.ttl()), "an expiry")
	last := c.takeOver(c.l, key, c.ttl())
	tokens.next(last, "an expiry")
	c.passExpiry(last)
	_ = last.Release(c.ctx())
	tokens.next(c.takeOver(c.l, key, c.long()), "an expiry and a late release")
}

func tokensRiseAcrossLoss(c *check) {
	key, tokens := c.key("k"), rising{c: c}
	for range 3 {
		lease := c.acquire(c.l, key, c.long())
		tokens.next(lease, "a hold taken away")
		c.h.Break(c.t, c.l, key)
		next := c.acquire(c.other(), key, c.long())
		tokens.next(next, "a hold taken away")
		_ = lease.Extend(c.ctx(), c.long())
		_ = lease.Release(c.ctx())
		c.stillHolds(next, key)
		c.release(next)
	}
}

func tokensRiseAcrossFailedAttempts(c *check) {
	key, tokens := c.key("k"), rising{c: c}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for range 3 {
		lease := c.acquire(c.l, key, c.long())
		tokens.next(lease, "refused and cancelled attempts")
		for range 3 {
			c.refused(c.other(), key)
		}
		c.extend(lease, c.long())
		c.release(lease)
		_, _ = c.try(cancelled, c.l, key, c.long())
	}
}

func tokensRiseAcrossLostReplies(c *check) {
	key, tokens := c.key("k"), rising{c: c}
	for range 3 {
		c.h.LoseReply(c.t, c.l)
		ctx, cancel := context.WithTimeout(context.Background(), c.ttl()/4)
		lease, err := c.try(ctx, c.l, key, c.long())
		cancel()
		if err == nil {
			tokens.next(lease, "a lost reply")
			c.release(lease)
		}
		lease = c.acquire(c.l, key, c.long())
		tokens.next(lease, "a lost reply")
		c.h.LoseReply(c.t, c.l)
		ctx, cancel = context.WithTimeout(context.Background(), c.ttl()/4)
		if err := lease.Extend(ctx, c.long()); errors.Is(err, lock.ErrLost) {
			c.Errorf("Extend with its reply lost: %v", err)
		}
		cancel()
		c.release(lease)
	}
}

func tokensRiseAcrossClients(c *check) {
	key, tokens := c.key("k"), rising{c: c}
	for range 5 {
		peer := c.newPeer() // has never seen the key
		lease := c.acquire(peer, key, c.long())
		tokens.next(lease, "a change of clients")
		c.release(lease)
	}
}

// tokensIgnoreNeighbours uses keys whose names a store might use beside a key.
func tokensIgnoreNeighbours(c *check) {
	key, tokens := c.key("k"), rising{c: c}
	neighbours := []string{
		key + ":fence", key + ":token", key + ":lock", key + ".lock", key + ".token", key + ".tmp",
		key + "/token", key + "~", "fence:" + key, "token:" + key, "lock:" + key, "lockkeeper:fence:" + key,
	}
	use := func() {
		for _, name := range neighbours {
			lease := c.acquire(c.l, name, c.long())
			c.refused(c.other(), name)
			c.release(lease)
		}
	}
	for range 3 {
		use()
		lease := c.acquire(c.l, key, c.long())
		tokens.next(lease, "leases of keys with similar names")
		use()
		c.stillHolds(lease, key)
		c.release(lease)
	}
	short := time.Now()
	for _, name := range neighbours[:3] {
		c.acquire(c.l, name, c.ttl())
	}
	c.h.Advance(time.Until(short.Add(2 * c.ttl())))
	tokens.next(c.acquire(c.l, key, c.long()), "the expiry of keys with similar names")
}
