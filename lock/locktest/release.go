package locktest

import (
	"context"
	"errors"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var releaseCases = []testCase{
	{"ReleaseFreesTheKey", nil, releaseFreesTheKey},
	{"ReleaseIsIdempotent", nil, releaseIsIdempotent},
	{"ConcurrentReleasesAgree", nil, concurrentReleasesAgree},
	{"AnEndedCtxDoesNotStopRelease", nil, anEndedCtxDoesNotStopRelease},
	{"RepeatedReleaseFreesNoLaterHolder", nil, repeatedReleaseFreesNoLaterHolder},
	{"LateReleaseFreesNoLaterHolder", nil, lateReleaseFreesNoLaterHolder},
	{"ReleasePastExpiryIsLost", nil, releasePastExpiryIsLost},
	{"ReleaseOfATakenHoldFreesNoLaterHolder", []string{needBreak}, releaseOfATakenHoldFreesNoLaterHolder},
	{"AFailedReleaseCanBeRepeated", []string{needOutage}, aFailedReleaseCanBeRepeated},
	{"ALostReplyOnReleaseFreesNoLaterHolder", []string{needLoseReply}, aLostReplyOnReleaseFreesNoLaterHolder},
	{"ReleaseRemovesWhatALostExtendLeft", []string{needLoseReply}, releaseRemovesWhatALostExtendLeft},
	{"ReleaseIsBoundedWhereTheStoreHangs", []string{needWrap, needDelay}, releaseIsBoundedWhereTheStoreHangs},
}

func releaseFreesTheKey(c *check) {
	key := c.key("k")
	for range 3 {
		lease := c.acquire(c.l, key, c.long())
		c.release(lease)
		wantZeroExpiry(c, lease, "Release")
		next := c.acquire(c.other(), key, c.long())
		c.refused(c.l, key)
		c.release(next)
	}
}

func releaseIsIdempotent(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.ttl())
	err := lease.Release(c.ctx())
	for range 3 {
		if again := lease.Release(c.ctx()); errors.Is(err, lock.ErrLost) {
			c.lost(again, "Release after one that ended in ErrLost")
		} else if err == nil && again != nil {
			c.Errorf("Release after one that returned nil: %v, want nil", again)
		}
	}
	c.h.Advance(2 * c.ttl())
	if again := lease.Release(c.ctx()); err == nil && again != nil {
		c.Errorf("Release after one that returned nil, past the ttl: %v, want nil", again)
	}
}

func concurrentReleasesAgree(c *check) {
	key := c.key("k")
	for range 5 {
		lease := c.acquire(c.l, key, c.long())
		wg := c.group()
		for range 8 {
			wg.Go(func() {
				if err := lease.Release(c.ctx()); err != nil && !errors.Is(err, lock.ErrUnavailable) {
					c.Errorf("one of 8 Releases at the same time: %v, want nil", err)
				}
			})
		}
		wg.Wait()
		c.release(lease)
		c.free(key)
	}
}

func anEndedCtxDoesNotStopRelease(c *check) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	expired, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	key := c.key("k")
	for _, ctx := range []context.Context{cancelled, expired} {
		lease := c.acquire(c.l, key, c.long())
		err := c.steady(func() error { return lease.Release(ctx) }, func(err error) bool {
			return !errors.Is(err, lock.ErrUnavailable)
		})
		if err != nil {
			c.Errorf("Release with a ctx that has ended (%v): %v, want nil", ctx.Err(), err)
		}
		c.free(key)
	}
}

func repeatedReleaseFreesNoLaterHolder(c *check) {
	key := c.key("k")
	old := c.acquire(c.l, key, c.long())
	c.release(old)
	for _, l := range []lock.Locker{c.other(), c.l} {
		next := c.acquire(l, key, c.long())
		if err := old.Release(c.ctx()); err != nil {
			c.Errorf("repeated Release: %v, want nil as before", err)
		}
		c.stillHolds(next, key)
		c.release(next)
	}
}

func lateReleaseFreesNoLaterHolder(c *check) {
	key := c.key("k")
	for _, l := range []lock.Locker{c.other(), c.l} {
		old := c.acquire(c.l, key, c.ttl())
		c.passExpiry(old)
		next := c.takeOver(l, key, c.long())
		err := c.steady(func() error { return old.Release(c.ctx()) },
			func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
		c.lost(err, "Release of an expired lease that another has taken over")
		c.stillHolds(next, key)
		c.release(next)
	}
}

func releasePastExpiryIsLost(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.ttl())
	c.passExpiry(lease)
	for range 2 {
		err := c.steady(func() error { return lease.Release(c.ctx()) },
			func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
		c.lost(err, "Release past Expiry")
		wantZeroExpiry(c, lease, "Release past Expiry")
	}
	c.free(key)
}

func releaseOfATakenHoldFreesNoLaterHolder(c *check) {
	key := c.key("k")
	old := c.acquire(c.l, key, c.long())
	c.h.Break(c.t, c.l, key)
	next := c.acquire(c.other(), key, c.long())
	release := func() error {
		return c.steady(func() error { return old.Release(c.ctx()) },
			func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	}
	first, second := release(), release()
	if (first == nil) != (second == nil) {
		c.Errorf("Release of a hold that was taken away: first %v, then %v, want a final result", show(first), show(second))
	}
	c.stillHolds(next, key)
}

func aFailedReleaseCanBeRepeated(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	c.outage(c.l, true)
	if err := lease.Release(c.ctx()); err == nil || errors.Is(err, lock.ErrLost) {
		c.fatalf("Release while the store can't be reached: got %v, want an error that is not final", show(err))
	}
	c.lost(lease.Extend(c.ctx(), c.long()), "Extend after Release has begun")
	c.outage(c.l, false)
	c.refused(c.other(), key)
	c.release(lease)
	c.free(key)
}

func aLostReplyOnReleaseFreesNoLaterHolder(c *check) {
	key := c.key("k")
	old := c.acquire(c.l, key, c.long())
	c.h.LoseReply(c.t, c.l)
	_ = old.Release(c.ctx()) // an error, or nil if it asked again
	c.release(old)           // nobody else came: that it is free is no loss

	old = c.acquire(c.l, key, c.long())
	c.h.LoseReply(c.t, c.l)
	_ = old.Release(c.ctx())
	next := c.acquire(c.other(), key, c.long())
	// A store may not be able to tell that old was released before.
	_ = c.steady(func() error { return old.Release(c.ctx()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	c.stillHolds(next, key)
}

// releaseRemovesWhatALostExtendLeft has the store believe in a long lease that
// the holder never learned of.
func releaseRemovesWhatALostExtendLeft(c *check) {
	c.attempts(func(try int) string {
		key := c.key(string(rune('a' + try)))
		lease := c.acquire(c.l, key, c.ttl())
		c.h.LoseReply(c.t, c.l)
		ctx, cancel := context.WithTimeout(context.Background(), c.ttl()/2)
		defer cancel()
		err := lease.Extend(ctx, c.long())
		switch {
		case errors.Is(err, lock.ErrLost):
			return "Extend within the ttl: " + err.Error()
		case err == nil: // it asked again and has an answer: nothing is left to lose
			c.release(lease)
		default:
			c.passExpiry(lease)
			c.lost(lease.Release(c.ctx()), "Release past Expiry")
		}
		c.free(key)
		return ""
	})
}

func releaseIsBoundedWhereTheStoreHangs(c *check) {
	slow := 2 * c.bound()
	lease := c.acquire(c.l, c.key("k"), c.long())
	c.delay(c.l, slow)
	start := time.Now()
	_ = lease.Release(context.Background())
	if took := time.Since(start); took > c.bound() {
		c.Errorf("Release on a store that hangs for %v took %v, want at most about Harness.Cleanup, %v", slow, took, c.h.Cleanup)
	}
	c.delay(c.l, 0)
	c.h.Advance(slow) // so that what hangs ends
}
