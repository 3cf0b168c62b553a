package locktest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var extendCases = []testCase{
	{"ExtendMovesExpiry", nil, extendMovesExpiry},
	{"ExtendKeepsOthersOut", nil, extendKeepsOthersOut},
	{"AShorterExtendIsHonoured", nil, aShorterExtendIsHonoured},
	{"AnExpiredLeaseIsLostThoughNobodyTookIt", nil, anExpiredLeaseIsLostThoughNobodyTookIt},
	{"AnotherHolderIsNotExtended", nil, anotherHolderIsNotExtended},
	{"AKeyThatAnotherFreedIsNotRetaken", nil, aKeyThatAnotherFreedIsNotRetaken},
	{"ExtendAfterReleaseIsLost", nil, extendAfterReleaseIsLost},
	{"ExtendDuringReleaseIsLost", []string{needDelay}, extendDuringReleaseIsLost},
	{"ExtendRacingReleaseLeavesNothingHeld", nil, extendRacingReleaseLeavesNothingHeld},
	{"ATakenHoldIsLost", []string{needBreak}, aTakenHoldIsLost},
	{"LossIsFinal", nil, lossIsFinal},
	{"AFailedExtendSaysNothing", []string{needOutage}, aFailedExtendSaysNothing},
	{"AnEndedCtxSaysNothing", nil, anEndedCtxSaysNothing},
	{"ExtendReturnsSoonAfterItsCtx", []string{needDelay}, extendReturnsSoonAfterItsCtx},
	{"AnAnswerAfterExpiryIsLost", []string{needDelay}, anAnswerAfterExpiryIsLost},
	{"ALostReplySaysNothing", []string{needLoseReply}, aLostReplySaysNothing},
	{"ALostReplyOfAShorterExtendKeepsOthersOut", []string{needLoseReply}, aLostReplyOfAShorterExtendKeepsOthersOut},
}

func extendMovesExpiry(c *check) {
	lease := c.acquire(c.l, c.key("k"), c.long()/2)
	before, token := lease.Expiry(), lease.Token()
	c.extend(lease, c.long())
	expiry, now := lease.Expiry(), time.Now()
	if !expiry.After(before.Add(c.long() / 10)) {
		c.Errorf("Extend from %v to %v moved Expiry by %v", c.long()/2, c.long(), expiry.Sub(before))
	}
	if expiry.After(now.Add(c.long())) {
		c.Errorf("Expiry is %v away after an Extend by %v", expiry.Sub(now), c.long())
	}
	if monotonic(now) && !monotonic(expiry) {
		c.Errorf("Expiry %v has no monotonic reading after Extend", expiry)
	}
	if lease.Token() != token {
		c.Errorf("Extend changed the token from %d to %d", token, lease.Token())
	}
}

func extendKeepsOthersOut(c *check) {
	c.attempts(func(try int) string {
		key := c.key(fmt.Sprint(try))
		lease := c.acquire(c.l, key, c.ttl())
		first := lease.Expiry()
		for range 3 {
			c.h.Advance(c.ttl() / 4)
			if err := lease.Extend(c.ctx(), c.ttl()); err != nil {
				return "Extend well within the ttl: " + err.Error()
			}
		}
		expiry := lease.Expiry()
		if !expiry.After(first) {
			c.Errorf("three times Extend left Expiry where it was")
		}
		c.takeOver(c.other(), key, c.ttl())
		if early := time.Until(expiry); early > 0 {
			c.Errorf("an extended lease was granted to another %v before its Expiry", early)
		}
		return ""
	})
}

func aShorterExtendIsHonoured(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	c.extend(lease, c.ttl())
	expiry, now := lease.Expiry(), time.Now()
	if expiry.After(now.Add(c.ttl())) {
		c.Errorf("Expiry is %v away after an Extend by %v, want call + ttl, earlier than before", expiry.Sub(now), c.ttl())
	}
	for time.Now().Before(expiry) {
		start := time.Now()
		lease, err := c.try(c.ctx(), c.other(), key, c.ttl())
		if err == nil && time.Now().Before(expiry) {
			c.fatalf("token %d was granted %v before the shortened lease ended", lease.Token(), expiry.Sub(start))
		}
		c.h.Advance(c.ttl() / 10)
	}
	c.lost(lease.Extend(c.ctx(), c.ttl()), "Extend after the shortened Expiry")
}

func anExpiredLeaseIsLostThoughNobodyTookIt(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.ttl())
	c.passExpiry(lease)
	c.lost(lease.Extend(c.ctx(), c.long()), "Extend of an expired lease that nobody took")
	wantZeroExpiry(c, lease, "the loss")
	c.free(key)
}

func anotherHolderIsNotExtended(c *check) {
	key := c.key("k")
	old := c.acquire(c.l, key, c.ttl())
	c.passExpiry(old)
	next := c.takeOver(c.other(), key, c.long())
	expiry := next.Expiry()
	c.lost(old.Extend(c.ctx(), c.long()), "Extend of a lease that another has taken over")
	if moved := next.Expiry().Sub(expiry); moved.Abs() > c.ttl()/10 {
		c.Errorf("Extend of the old lease moved the next one's Expiry by %v", moved)
	}
	c.stillHolds(next, key)
}

func aKeyThatAnotherFreedIsNotRetaken(c *check) {
	key := c.key("k")
	old := c.acquire(c.l, key, c.ttl())
	c.passExpiry(old)
	c.release(c.takeOver(c.other(), key, c.long()))
	c.lost(old.Extend(c.ctx(), c.long()), "Extend of a lease after another came and went")
	c.free(key)
}

func extendAfterReleaseIsLost(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	c.release(lease)
	c.lost(lease.Extend(c.ctx(), c.long()), "Extend after Release")
	c.free(key)
	next := c.acquire(c.other(), key, c.long())
	c.lost(lease.Extend(c.ctx(), c.long()), "Extend after Release and another's grant")
	c.stillHolds(next, key)
}

// extendDuringReleaseIsLost holds a Release up at the store.
func extendDuringReleaseIsLost(c *check) {
	slow := c.ttl()
	c.attempts(func(try int) string {
		key := c.key(fmt.Sprint(try))
		lease := c.acquire(c.l, key, c.long())
		c.delay(c.l, slow)
		wg := c.group()
		wg.Go(func() { _ = lease.Release(c.ctx()) })
		time.Sleep(slow / 4)
		err := lease.Extend(c.ctx(), c.long())
		wg.Wait()
		c.delay(c.l, 0)
		if !errors.Is(err, lock.ErrLost) {
			return "Extend once Release has begun: got " + show(err) + ", want an error matching lock.ErrLost"
		}
		c.release(lease) // it may have timed out
		c.free(key)
		return ""
	})
}

func extendRacingReleaseLeavesNothingHeld(c *check) {
	key := c.key("k")
	for round := range 20 {
		lease := c.acquire(c.l, key, c.long())
		wg := c.group()
		for i := range 4 {
			wg.Go(func() {
				time.Sleep(time.Duration((round*7+i*13)%20) * 10 * time.Microsecond)
				err := lease.Extend(c.ctx(), c.long())
				if err != nil && !errors.Is(err, lock.ErrLost) && !errors.Is(err, lock.ErrUnavailable) {
					c.Errorf("Extend racing Release: got %q, want nil or an error matching lock.ErrLost", err)
				}
			})
		}
		time.Sleep(time.Duration(round%10) * 20 * time.Microsecond)
		c.release(lease)
		c.lost(lease.Extend(c.ctx(), c.long()), "Extend after Release has returned")
		wantZeroExpiry(c, lease, "Release")
		wg.Wait()
		wantZeroExpiry(c, lease, "Release and an Extend beside it")
		c.free(key)
	}
}

func aTakenHoldIsLost(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	c.h.Break(c.t, c.l, key)
	err := c.steady(func() error { return lease.Extend(c.ctx(), c.long()) },
		func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
	c.lost(err, "Extend of a hold that was taken away")
	wantZeroExpiry(c, lease, "the loss")
	next := c.acquire(c.other(), key, c.long())
	c.lost(lease.Extend(c.ctx(), c.long()), "Extend of a lost lease")
	c.stillHolds(next, key)
}

func lossIsFinal(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.ttl())
	c.passExpiry(lease)
	for range 2 {
		c.lost(lease.Extend(c.ctx(), c.long()), "Extend of an expired lease")
	}
	for range 2 {
		err := c.steady(func() error { return lease.Release(c.ctx()) },
			func(err error) bool { return err == nil || errors.Is(err, lock.ErrLost) })
		c.lost(err, "Release of a lost lease")
		c.lost(lease.Extend(c.ctx(), c.long()), "Extend of a lost lease")
		wantZeroExpiry(c, lease, "the loss")
	}
}

func aFailedExtendSaysNothing(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long()/2)
	before := lease.Expiry()
	c.outage(c.l, true)
	ctx, cancel := context.WithTimeout(context.Background(), c.ttl())
	defer cancel()
	err := lease.Extend(ctx, c.long())
	if err == nil {
		c.fatalf("Extend succeeded while the store can't be reached")
	}
	wantUnchanged(c, lease, before, err)
	c.outage(c.l, false)
	c.stillHolds(lease, key)
	if !lease.Expiry().After(before) {
		c.Errorf("Expiry did not move when the Extend was repeated")
	}
}

func anEndedCtxSaysNothing(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long())
	before := lease.Expiry()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := lease.Extend(ctx, c.long()); err != nil {
		wantUnchanged(c, lease, before, err)
		if !errors.Is(err, context.Canceled) {
			c.Errorf("Extend with a cancelled ctx: got %q, want an error matching context.Canceled", err)
		}
	}
	c.stillHolds(lease, key)
}

func extendReturnsSoonAfterItsCtx(c *check) {
	slow := 4 * c.ttl()
	c.attempts(func(try int) (problem string) {
		key := c.key(fmt.Sprint(try))
		lease := c.acquire(c.l, key, c.long())
		before := lease.Expiry()
		c.delay(c.l, slow)
		ctx, cancel := context.WithTimeout(context.Background(), c.ttl()/4)
		defer cancel()
		start := time.Now()
		err := lease.Extend(ctx, c.long())
		if took := time.Since(start); took > slow*3/4 {
			problem = fmt.Sprintf("Extend returned %v after its ctx had ended, as late as the store's answer", took-c.ttl()/4)
		}
		if err == nil {
			c.fatalf("Extend returned nil, though its ctx ended before the store could answer")
		}
		wantUnchanged(c, lease, before, err)
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, lock.ErrUnavailable) {
			c.Errorf("Extend cut short by its ctx: got %q, want an error matching context.DeadlineExceeded", err)
		}
		c.delay(c.l, 0)
		c.stillHolds(lease, key)
		c.release(lease)
		c.free(key)
		return problem
	})
}

func anAnswerAfterExpiryIsLost(c *check) {
	lease := c.acquire(c.l, c.key("k"), c.ttl())
	c.delay(c.l, 2*c.ttl())
	err := lease.Extend(c.ctx(), c.long())
	c.delay(c.l, 0)
	if err == nil {
		c.fatalf("Extend returned nil with an answer that came after the old Expiry")
	}
	c.passExpiry(lease) // where Extend gave up before
	c.lost(lease.Extend(c.ctx(), c.long()), "Extend after one that was answered too late")
	wantZeroExpiry(c, lease, "an answer after Expiry")
}

func aLostReplySaysNothing(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, c.long()/2)
	before := lease.Expiry()
	c.h.LoseReply(c.t, c.l)
	ctx, cancel := context.WithTimeout(context.Background(), c.ttl())
	defer cancel()
	if err := lease.Extend(ctx, c.long()); err != nil { // nil: asked again, and has an answer
		wantUnchanged(c, lease, before, err)
	}
	c.stillHolds(lease, key)
	c.release(lease)
	c.free(key)
}

// A shorter extend may have been applied although it failed. The lease keeps its old Expiry,
// so nobody else may get the key before that.
func aLostReplyOfAShorterExtendKeepsOthersOut(c *check) {
	key := c.key("k")
	lease := c.acquire(c.l, key, 4*c.ttl())
	c.h.LoseReply(c.t, c.l)
	ctx, cancel := context.WithTimeout(context.Background(), c.ttl())
	defer cancel()
	err := lease.Extend(ctx, c.ttl()/2)
	for time.Now().Before(lease.Expiry()) {
		got, tried := c.try(c.ctx(), c.other(), key, c.ttl())
		if early := time.Until(lease.Expiry()); tried == nil && early > 0 {
			c.fatalf("token %d was granted %v before the Expiry of a lease whose Extend by less had ended in %v", got.Token(), early, err)
		}
		c.h.Advance(c.ttl() / 4)
	}
}

// wantUnchanged checks that an Extend that failed with err left the lease as it was.
func wantUnchanged(c *check, lease lock.Lease, expiry time.Time, err error) {
	c.Helper()
	if errors.Is(err, lock.ErrLost) {
		c.Errorf("a failed Extend matches lock.ErrLost though the lease is within its Expiry: %q", err)
	}
	if moved := lease.Expiry().Sub(expiry); moved.Abs() > c.ttl()/10 {
		c.Errorf("a failed Extend (%q) moved Expiry by %v, want the old one kept", err, moved)
	}
}

func wantZeroExpiry(c *check, lease lock.Lease, after string) {
	c.Helper()
	if expiry := lease.Expiry(); !expiry.IsZero() {
		c.Errorf("Expiry is %v away after %s, want the zero time", time.Until(expiry), after)
	}
}
