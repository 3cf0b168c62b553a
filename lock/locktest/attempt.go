package locktest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var attemptCases = []testCase{
	{"AnEndedCtxGrantsNothing", nil, anEndedCtxGrantsNothing},
	{"TheCauseOfAnEndedCtxIsMatched", nil, theCauseOfAnEndedCtxIsMatched},
	{"TheCauseOfACtxThatEndsMeanwhileIsMatched", []string{needDelay}, theCauseOfACtxThatEndsMeanwhileIsMatched},
	{"TheCtxOfTheAttemptDoesNotTouchTheLease", nil, theCtxOfTheAttemptDoesNotTouchTheLease},
	{"ErrorsComeWithoutALease", nil, errorsComeWithoutALease},
	{"TryAcquireReturnsSoonAfterItsCtx", []string{needDelay}, tryAcquireReturnsSoonAfterItsCtx},
	{"ACancelledAttemptLeavesNothingHeld", []string{needDelay}, aCancelledAttemptLeavesNothingHeld},
	{"RacingCancellationsLeaveNothingHeld", nil, racingCancellationsLeaveNothingHeld},
	{"ALostReplyLeavesNothingHeld", []string{needLoseReply}, aLostReplyLeavesNothingHeld},
	{"CleanupFreesNoLaterHolder", []string{needLoseReply}, cleanupFreesNoLaterHolder},
	{"AnOutageLeavesNothingHeld", []string{needOutage}, anOutageLeavesNothingHeld},
}

func anEndedCtxGrantsNothing(c *check) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	expired, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	key := c.key("k")
	for _, ctx := range []context.Context{cancelled, expired} {
		_, err := c.try(ctx, c.l, key, c.long())
		if err == nil {
			c.Errorf("an attempt whose ctx had ended was granted")
		} else if !errors.Is(err, ctx.Err()) {
			c.Errorf("an attempt whose ctx had ended: got %q, want an error matching %q", err, ctx.Err())
		}
		c.free(key)
	}
}

// causes are what a ctx may end with. The loss of another lease is the cause of a
// keepalive.Keeper's context.
var causes = []error{errors.New("shutting down"), fmt.Errorf("%w: another lease", lock.ErrLost)}

// wantCause checks that err is the end of ctx, by ctx.Err() and the cause, through
// the locker and through lock.Acquire.
func (c *check) wantCause(ctx context.Context, err error, what string) {
	c.Helper()
	for _, want := range []error{ctx.Err(), context.Cause(ctx)} {
		if !errors.Is(err, want) {
			c.Errorf("%s: got %v, want an error matching %q (see lock.ContextError and lock.StoreError)", what, show(err), want)
		}
	}
}

func theCauseOfAnEndedCtxIsMatched(c *check) {
	for i, cause := range causes {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(cause)
		key := c.key(fmt.Sprint(i))
		_, err := c.try(ctx, c.l, key, c.long())
		c.wantCause(ctx, err, "an attempt whose ctx had ended")
		_, err = lock.Acquire(ctx, c.l, key, c.long(), nil)
		c.wantCause(ctx, err, "an Acquire whose ctx had ended")

		// The same cause on Extend is no loss of this lease.
		lease := c.acquire(c.l, key, c.long())
		if err := lease.Extend(ctx, c.long()); err != nil {
			wantUnchanged(c, lease, lease.Expiry(), err)
			if !errors.Is(err, ctx.Err()) {
				c.Errorf("Extend whose ctx had ended: got %q, want an error matching %q", err, ctx.Err())
			}
		}
		c.stillHolds(lease, key)
		c.release(lease)
	}
}

func theCauseOfACtxThatEndsMeanwhileIsMatched(c *check) {
	slow := c.ttl()
	for i, cause := range causes {
		key := c.key(fmt.Sprint(i))
		ctx, cancel := context.WithCancelCause(context.Background())
		c.delay(c.l, slow)
		timer := time.AfterFunc(slow/20, func() { cancel(cause) }) // before a timeout of the store's own
		_, err := c.try(ctx, c.l, key, c.long())
		timer.Stop()
		cancel(nil)
		c.wantCause(ctx, err, "an attempt cut short by its ctx")
		c.delay(c.l, 0)
		c.h.Advance(slow) // what is under way may be applied only now

		lease := c.acquire(c.l, key, c.long())
		before := lease.Expiry()
		ctx, cancel = context.WithCancelCause(context.Background())
		c.delay(c.l, slow)
		timer = time.AfterFunc(slow/20, func() { cancel(cause) }) // before a timeout of the store's own
		err = lease.Extend(ctx, c.long())
		timer.Stop()
		cancel(nil)
		if err == nil {
			c.fatalf("Extend returned nil, though its ctx ended before the store could answer")
		}
		wantUnchanged(c, lease, before, err)
		if !errors.Is(err, ctx.Err()) {
			c.Errorf("Extend cut short by its ctx: got %q, want an error matching %q", err, ctx.Err())
		}
		c.delay(c.l, 0)
		c.stillHolds(lease, key)
		c.release(lease)
	}
}

func theCtxOfTheAttemptDoesNotTouchTheLease(c *check) {
	key := c.key("k")
	ctx, cancel := context.WithCancel(context.Background())
	lease, err := c.try(ctx, c.l, key, c.long())
	if err != nil {
		cancel()
		c.fatalf("TryAcquire of a free key: %v", err)
	}
	expiry := lease.Expiry()
	cancel()
	c.h.Advance(c.ttl() / 10) // whatever watches ctx has its chance
	c.refused(c.other(), key)
	if moved := lease.Expiry().Sub(expiry); moved.Abs() > c.ttl()/10 {
		c.Errorf("the end of the attempt's ctx moved Expiry by %v", moved)
	}
	c.stillHolds(lease, key)
	c.release(lease)
	c.free(key)
}

func errorsComeWithoutALease(c *check) {
	key := c.key("k")
	c.acquire(c.l, key, c.long())
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, attempt := range []struct {
		what string
		ctx  context.Context
		key  string
		ttl  time.Duration
	}{
		{"a held key", c.ctx(), key, c.long()},
		{"a held key, ctx ended", cancelled, key, c.long()},
		{"a free key, ctx ended", cancelled, c.key("free"), c.long()},
		{"an empty key", c.ctx(), "", c.long()},
		{"a ttl of 0", c.ctx(), c.key("free"), 0},
	} {
		// c.try reports a lease beside an error, typed nil pointers included.
		if _, err := c.try(attempt.ctx, c.l, attempt.key, attempt.ttl); err == nil {
			c.Errorf("TryAcquire of %s was granted", attempt.what)
		}
	}
}

func tryAcquireReturnsSoonAfterItsCtx(c *check) {
	slow := 4 * c.ttl()
	c.attempts(func(try int) (problem string) {
		key := c.key(fmt.Sprint(try))
		c.delay(c.l, slow)
		ctx, cancel := context.WithTimeout(context.Background(), c.ttl()/4)
		defer cancel()
		start := time.Now()
		_, err := c.try(ctx, c.l, key, c.long())
		if took := time.Since(start); took > slow*3/4 {
			problem = fmt.Sprintf("TryAcquire returned %v after its ctx had ended, as late as the store's answer", took-c.ttl()/4)
		}
		if err == nil {
			c.Errorf("TryAcquire was granted, though its ctx ended before the store could answer")
		} else if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, lock.ErrUnavailable) || errors.Is(err, lock.ErrHeld) {
			c.Errorf("TryAcquire cut short by its ctx: got %q, want an error matching context.DeadlineExceeded", err)
		}
		c.delay(c.l, 0)
		c.free(key)
		return problem
	})
}

func aCancelledAttemptLeavesNothingHeld(c *check) {
	slow := c.ttl()
	key := c.key("k")
	c.delay(c.l, slow)
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(slow/4, cancel)
	_, err := c.try(ctx, c.l, key, c.long())
	timer.Stop()
	cancel()
	c.delay(c.l, 0)
	switch {
	case err == nil:
		c.fatalf("an attempt was granted though its ctx ended before the store could answer")
	case !errors.Is(err, context.Canceled) && !errors.Is(err, lock.ErrUnavailable):
		c.Errorf("a cancelled attempt: got %q, want an error matching context.Canceled", err)
	}
	c.h.Advance(slow) // what is under way may be applied only now
	c.free(key)
}

func racingCancellationsLeaveNothingHeld(c *check) {
	key := c.key("k")
	for round := range 40 {
		ctx, cancel := context.WithCancel(context.Background())
		wg := c.group()
		wg.Go(func() {
			time.Sleep(time.Duration(round) * 10 * time.Microsecond)
			cancel()
		})
		lease, err := c.try(ctx, c.l, key, c.long())
		wg.Wait()
		if err == nil {
			c.release(lease)
		}
		c.free(key)
	}
}

func aLostReplyLeavesNothingHeld(c *check) {
	key := c.key("k")
	for range 2 {
		c.h.LoseReply(c.t, c.l)
		ctx, cancel := context.WithTimeout(context.Background(), c.ttl())
		start := time.Now()
		lease, err := c.try(ctx, c.l, key, c.long())
		cancel()
		if err == nil { // it asked again and knew its own
			if late := lease.Expiry().Sub(start.Add(c.long())); late > c.ttl()/2 {
				c.Errorf("Expiry is %v later than the first request + ttl", late)
			}
			c.release(lease)
		} else if errors.Is(err, lock.ErrHeld) {
			c.Errorf("an attempt whose reply was lost was refused by its own grant: %v", err)
		}
		c.free(key)
	}
}

// cleanupFreesNoLaterHolder gives the cleanup of a failed attempt time to meet the
// lease that came after it.
func cleanupFreesNoLaterHolder(c *check) {
	key := c.key("k")
	c.h.LoseReply(c.t, c.l)
	ctx, cancel := context.WithTimeout(context.Background(), c.ttl()/4)
	defer cancel()
	if lease, err := c.try(ctx, c.l, key, c.ttl()); err == nil {
		c.release(lease)
	}
	next := c.takeOver(c.l, key, c.long())
	c.h.Advance(2 * c.ttl())
	c.stillHolds(next, key)
}

func anOutageLeavesNothingHeld(c *check) {
	key := c.key("k")
	c.outage(c.l, true)
	ctx, cancel := context.WithTimeout(context.Background(), c.ttl())
	defer cancel()
	if _, err := c.try(ctx, c.l, key, c.long()); err == nil {
		c.Errorf("an attempt was granted while the store can't be reached")
	}
	c.outage(c.l, false)
	c.free(key)
}
