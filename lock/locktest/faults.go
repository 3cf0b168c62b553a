package locktest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// What networks and stores do beyond slow and lost replies.
var faultCases = []testCase{
	{"AnAttemptCutAtAnyRequestLeavesNothingHeld", []string{needCut}, anAttemptCutAtAnyRequestLeavesNothingHeld},
	{"ARequestThatArrivesAfterTheCleanupLeavesNothing", []string{needWrap, needDelay}, aRequestThatArrivesAfterTheCleanupLeavesNothing},
	{"ALateRequestDisturbsNoLaterHolder", []string{needWrap, needDelay}, aLateRequestDisturbsNoLaterHolder},
	{"ALateExtendRevivesNothing", []string{needDelay}, aLateExtendRevivesNothing},
	{"ASlowObserverTakesOverNoEarlier", []string{needPeer, needDelay}, aSlowObserverTakesOverNoEarlier},
	{"ANewcomerGetsADeadHoldersKey", []string{needPeer, needKill}, aNewcomerGetsADeadHoldersKey},
	{"ADoubledRequestIsOne", []string{needRepeat}, aDoubledRequestIsOne},
	{"AFalseConflictIsNoLoss", []string{needConflict}, aFalseConflictIsNoLoss},
	{"StaleReadsAreNotBelieved", []string{needPeer, needStaleReads}, staleReadsAreNotBelieved},
	{"TokensRiseThoughTheRecordIsDeleted", []string{needDelete}, tokensRiseThoughTheRecordIsDeleted},
}

// used is a key that somebody has held before: its record is there.
func (c *check) used(name string) string {
	c.Helper()
	key := c.key(name)
	c.release(c.acquire(c.other(), key, c.long()))
	return key
}

// anAttemptCutAtAnyRequestLeavesNothingHeld loses the reply of each request of an
// attempt in turn, as many as it has.
func anAttemptCutAtAnyRequestLeavesNothingHeld(c *check) {
	const most = 50 // more requests than an attempt can need
	for what, key := range map[string]string{"new": c.key("new"), "used": c.used("used")} {
		for n := 1; ; n++ {
			hit := c.h.Cut(c.t, c.l, n)
			ctx, cancel := context.WithTimeout(context.Background(), c.ttl())
			start := time.Now()
			lease, err := c.try(ctx, c.l, key, c.long())
			cancel()
			cut := hit()
			if err == nil {
				if late := lease.Expiry().Sub(start.Add(c.long())); late > c.ttl()/2 {
					c.Errorf("request %d of an attempt cut, on a %s key: Expiry is %v later than the first request + ttl", n, what, late)
				}
				c.release(lease)
			} else if errors.Is(err, lock.ErrHeld) {
				c.Errorf("request %d of an attempt cut, on a %s key that nobody holds: refused by its own grant: %v", n, what, err)
			}
			c.free(key)
			if !cut {
				break
			}
			if n == most {
				c.fatalf("Harness.Cut reports that an attempt has more than %d requests", most)
			}
		}
	}
}

// cancelled makes an attempt whose requests arrive slow later, and cancels it.
func (c *check) cancelled(key string, slow time.Duration) {
	c.Helper()
	c.delay(c.l, slow)
	ctx, cancel := context.WithTimeout(context.Background(), min(slow, c.ttl())/4)
	defer cancel()
	if _, err := c.try(ctx, c.l, key, c.long()); err == nil {
		c.fatalf("an attempt was granted though its ctx ended before the store could answer")
	}
	c.delay(c.l, 0)
}

func aRequestThatArrivesAfterTheCleanupLeavesNothing(c *check) {
	for i, slow := range []time.Duration{c.ttl(), c.h.Cleanup / 2, c.h.Cleanup, 2 * c.h.Cleanup} {
		for _, key := range []string{c.key(fmt.Sprint("new", i)), c.used(fmt.Sprint("used", i))} {
			c.cancelled(key, slow)
			c.h.Advance(2*slow + c.h.Cleanup) // whatever is under way has arrived
			c.free(key)
		}
	}
}

func aLateRequestDisturbsNoLaterHolder(c *check) {
	for i, slow := range []time.Duration{c.ttl(), c.h.Cleanup} {
		for _, key := range []string{c.key(fmt.Sprint("new", i)), c.used(fmt.Sprint("used", i))} {
			c.cancelled(key, slow)
			next := c.acquire(c.other(), key, c.long())
			for range 4 {
				c.h.Advance(slow)
				c.stillHolds(next, key)
			}
			c.release(next)
			c.free(key)
		}
	}
}

// aLateExtendRevivesNothing has an Extend arrive after the lease's end and release.
func aLateExtendRevivesNothing(c *check) {
	slow := 4 * c.ttl()
	key := c.key("k")
	lease := c.acquire(c.l, key, c.ttl())
	c.delay(c.l, slow)
	ctx, cancel := context.WithTimeout(context.Background(), c.ttl()/2)
	defer cancel()
	if err := lease.Extend(ctx, c.long()); err == nil {
		c.fatalf("Extend returned nil, though its ctx ended before the store could answer")
	}
	c.delay(c.l, 0)
	if err := c.steady(func() error { return lease.Release(c.ctx()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) }); err != nil && !errors.Is(err, lock.ErrLost) {
		c.Errorf("Release after an Extend that is under way: %v", err)
	}
	c.h.Advance(2 * slow)
	c.free(key)
	c.h.Advance(slow)
	c.free(key)
}

// aSlowObserverTakesOverNoEarlier lets a client see the holder's renewals late. One
// that counts from when it asked, and not from when it had the answer, believes that
// the holder has been silent for longer than it was.
func aSlowObserverTakesOverNoEarlier(c *check) {
	c.attempts(func(try int) string {
		key, peer := c.key(fmt.Sprint(try)), c.newPeer()
		holder := c.acquire(c.l, key, c.ttl())
		early := func(lease lock.Lease, err error) bool {
			return err == nil && lease != nil && time.Now().Before(holder.Expiry())
		}
		// The holder renews, and falls silent; the observer's first read arrives just
		// before that, and took long.
		for _, slow := range []time.Duration{c.ttl() * 6 / 10, c.ttl() * 9 / 10, c.ttl() * 3 / 10} {
			c.h.Delay(c.t, peer, slow)
			ctx, cancel := context.WithTimeout(context.Background(), 2*c.ttl())
			wg := c.group()
			var lease lock.Lease
			var err error
			wg.Go(func() { lease, err = c.try(ctx, peer, key, c.ttl()) })
			for range 4 { // renewed while that is on its way
				c.h.Advance(slow / 20)
				if failed := holder.Extend(c.ctx(), c.ttl()); failed != nil {
					cancel()
					wg.Wait()
					c.h.Delay(c.t, peer, 0)
					return "Extend well within the ttl: " + failed.Error()
				}
			}
			wg.Wait()
			cancel()
			c.h.Delay(c.t, peer, 0)
			if early(lease, err) {
				c.fatalf("a slow client was granted a key %v before its holder's Expiry", time.Until(holder.Expiry()))
			}
			for time.Now().Before(holder.Expiry()) {
				lease, err = c.try(c.ctx(), peer, key, c.ttl())
				if early(lease, err) {
					c.fatalf("a client that had seen the holder late was granted its key %v before its Expiry", time.Until(holder.Expiry()))
				}
				if err == nil {
					break
				}
				c.h.Advance(c.ttl() / 20)
			}
			if err == nil {
				c.releaseUnlessLost(lease)
			}
			_ = holder.Release(c.ctx())
			holder = c.takeOver(c.l, key, c.ttl())
		}
		return ""
	})
}

// aNewcomerGetsADeadHoldersKey asks once, as a job does that is started once a day.
func aNewcomerGetsADeadHoldersKey(c *check) {
	key, peer := c.key("k"), c.newPeer()
	dead := c.acquire(peer, key, c.ttl())
	expiry := dead.Expiry()
	c.h.Kill(c.t, peer)
	c.h.Advance(time.Until(expiry) + c.ttl()) // and nobody asks
	newcomer := c.newPeer()
	ask := func() error {
		return c.steady(func() error {
			lease, err := c.try(c.ctx(), newcomer, key, c.long())
			if err == nil {
				c.release(lease)
			}
			return err
		}, func(err error) bool { return err == nil || errors.Is(err, lock.ErrHeld) })
	}
	err := ask()
	if err == nil {
		return
	}
	held, ok := errors.AsType[*lock.HeldError](err)
	if !ok || !held.Unconfirmed || held.RetryAfter <= 0 {
		c.fatalf("a newcomer that asks once, a ttl after a dead holder's end: got %v, want a lease, or a HeldError that is Unconfirmed with RetryAfter", show(err))
	}
	c.h.Advance(held.RetryAfter)
	if err := ask(); err != nil {
		c.Errorf("a newcomer that asks again after RetryAfter (%v) of an unconfirmed holder: %v, want a lease", held.RetryAfter, show(err))
	}
}

func aDoubledRequestIsOne(c *check) {
	c.h.Repeat(c.t, c.l, true)
	c.cleanup(func() { c.h.Repeat(c.t, c.l, false) })
	key, tokens := c.key("k"), rising{c: c}
	for range 3 {
		lease, err := c.try(c.ctx(), c.l, key, c.long())
		if err != nil {
			c.fatalf("an attempt on a free key whose requests arrive twice: %v", err)
		}
		tokens.next(lease, "requests that arrive twice")
		c.refused(c.other(), key)
		c.extend(lease, c.long())
		c.refused(c.other(), key)
		c.release(lease)
		next := c.acquire(c.other(), key, c.long())
		tokens.next(next, "requests that arrive twice")
		c.h.Advance(c.ttl() / 2) // the copies have arrived
		c.stillHolds(next, key)
		c.release(next)
	}
}

// aFalseConflictIsNoLoss has the store answer as if another client had been faster.
func aFalseConflictIsNoLoss(c *check) {
	key := c.key("k")
	c.h.Conflict(c.t, c.l)
	if lease, err := c.try(c.ctx(), c.l, key, c.long()); err == nil {
		c.release(lease)
	} else if errors.Is(err, lock.ErrInvalid) || errors.Is(err, lock.ErrClosed) || errors.Is(err, lock.ErrRefused) {
		c.Errorf("an attempt that meets a false conflict: %v, want one that may be repeated", show(err))
	}
	c.free(key)

	lease := c.acquire(c.l, key, c.long())
	before := lease.Expiry()
	c.h.Conflict(c.t, c.l)
	if err := lease.Extend(c.ctx(), c.long()); err != nil {
		wantUnchanged(c, lease, before, err)
	}
	c.stillHolds(lease, key)
	c.h.Conflict(c.t, c.l)
	if err := lease.Release(c.ctx()); errors.Is(err, lock.ErrLost) {
		c.Errorf("Release that meets a false conflict: %v, though the lease was held", err)
	}
	c.release(lease)
	c.free(key)
}

func staleReadsAreNotBelieved(c *check) {
	key := c.used("k") // what an old reader sees is a free key
	mine := c.acquire(c.l, c.key("mine"), c.long())
	before := mine.Expiry()
	c.h.StaleReads(c.t, c.l, true)
	c.cleanup(func() { c.h.StaleReads(c.t, c.l, false) })
	lease := c.acquire(c.other(), key, c.long())
	for range 3 {
		if other, err := c.try(c.ctx(), c.l, key, c.long()); err == nil {
			c.fatalf("a client that reads old states was granted a key (token %d) that is held (token %d)", other.Token(), lease.Token())
		}
	}
	if err := mine.Extend(c.ctx(), c.long()); errors.Is(err, lock.ErrLost) {
		c.Errorf("a client that reads old states lost its own lease, which ends in %v: %v", time.Until(before), err)
	}
	c.h.StaleReads(c.t, c.l, false)
	c.stillHolds(lease, key)
	c.extend(mine, c.long())
	c.release(mine)
	c.release(lease)
	c.free(key)
}

func tokensRiseThoughTheRecordIsDeleted(c *check) {
	key, tokens := c.key("k"), rising{c: c}
	for range 3 {
		for range 3 {
			lease := c.acquire(c.l, key, c.long())
			tokens.next(lease, "the deletion of the key's record")
			c.release(lease)
		}
		c.h.Delete(c.t, c.l, key)
		lease := c.acquire(c.newOther(), key, c.long())
		tokens.next(lease, "the deletion of the key's record")
		c.release(lease)
		c.h.Delete(c.t, c.l, key)
	}
}

// newOther is a client that has never seen a key, where the harness has more than one.
func (c *check) newOther() lock.Locker {
	if c.h.Peer == nil {
		return c.l
	}
	return c.newPeer()
}
