package locktest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var errorCases = []testCase{
	{"ContentionIsErrHeldAlone", nil, contentionIsErrHeldAlone},
	{"HeldErrorTellsKeyAndTime", nil, heldErrorTellsKeyAndTime},
	{"AnOutageIsErrUnavailableAlone", []string{needOutage}, anOutageIsErrUnavailableAlone},
	{"LossIsErrLostAlone", nil, lossIsErrLostAlone},
	{"ErrorsNameTheKey", nil, errorsNameTheKey},
}

// alone checks that err matches want and nothing that means something else.
func (c *check) alone(err, want error, what string) {
	c.Helper()
	if !errors.Is(err, want) {
		c.Errorf("%s: got %v, want an error matching %q", what, show(err), want)
	}
	for _, other := range []error{
		lock.ErrHeld, lock.ErrLost, lock.ErrUnavailable, lock.ErrInvalid, lock.ErrClosed, context.Canceled, context.DeadlineExceeded,
	} {
		if other != want && errors.Is(err, other) {
			c.Errorf("%s: %q matches %q too", what, err, other)
		}
	}
}

func contentionIsErrHeldAlone(c *check) {
	key := c.key("k")
	c.acquire(c.l, key, c.long())
	c.alone(c.refused(c.l, key), lock.ErrHeld, "a held key")
	c.alone(c.refused(c.other(), key), lock.ErrHeld, "a held key")
}

func heldErrorTellsKeyAndTime(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	err := c.refused(c.other(), key)
	least := time.Until(lease.Expiry())
	held, ok := errors.AsType[*lock.HeldError](err)
	if !ok {
		c.skip(needHeldError)
	}
	if want := c.h.FullKey(key); held.Key != want {
		c.Errorf("HeldError.Key = %q, want %q", held.Key, want)
	}
	// 0 says nothing. The store may hold a little longer than the lease promises.
	slack := c.long() / 20
	if held.RetryAfter < 0 || held.RetryAfter > c.long()+slack || held.RetryAfter != 0 && held.RetryAfter < least-slack {
		c.Errorf("HeldError.RetryAfter = %v with %v of %v left, want the longest that the holder can keep it", held.RetryAfter, least, c.long())
	}
}

func anOutageIsErrUnavailableAlone(c *check) {
	key := c.key("k")
	c.outage(c.l, true)
	ctx, cancel := context.WithTimeout(context.Background(), c.bound())
	defer cancel()
	_, err := c.try(ctx, c.l, key, c.long())
	if ctx.Err() != nil {
		c.fatalf("no answer within %v while the store can't be reached", c.bound())
	}
	if err == nil {
		c.fatalf("an attempt was granted while the store can't be reached")
	}
	for _, other := range []error{lock.ErrHeld, lock.ErrLost, lock.ErrInvalid, lock.ErrClosed} {
		if errors.Is(err, other) {
			c.Errorf("an attempt while the store can't be reached: %q matches %q", err, other)
		}
	}
	if !errors.Is(err, lock.ErrUnavailable) {
		c.Errorf("an attempt while the store can't be reached: got %q, want an error matching lock.ErrUnavailable", err)
	}
	c.outage(c.l, false)
	c.free(key)
}

func lossIsErrLostAlone(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.ttl())
	c.passExpiry(lease)
	c.alone(lease.Extend(c.ctx(), c.long()), lock.ErrLost, "Extend of an expired lease")
	err := c.steady(func() error { return lease.Release(c.ctx()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	c.alone(err, lock.ErrLost, "Release of an expired lease")
}

func errorsNameTheKey(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.ttl())
	c.names(c.refusal(key), key, "a refusal")
	c.passExpiry(lease)
	c.names(lease.Extend(c.ctx(), c.ttl()), key, "the loss")
	_, err := c.try(c.ctx(), c.l, c.key("bad ttl"), 0)
	c.names(err, c.key("bad ttl"), "a bad ttl")
}

// refusal provokes one; the holder's lease may have run out on a busy machine.
func (c *check) refusal(key string) error {
	c.Helper()
	_, err := c.try(c.ctx(), c.other(), key, c.ttl())
	if err == nil {
		_, err = c.try(c.ctx(), c.other(), key, c.ttl())
	}
	return err
}

func (c *check) names(err error, key, what string) {
	c.Helper()
	if err != nil && !strings.Contains(err.Error(), key) {
		c.Errorf("the error of %s does not name the key %q: %q", what, key, err)
	}
}
