package locktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// These cases are for lockers that queue by themselves. The clients that wait are
// peers, where the harness has them: as other processes would be.
var awaitCases = []testCase{
	{"AFreeKeyIsGrantedAtOnce", nil, aFreeKeyIsGrantedAtOnce},
	{"TheKeyIsHandedOverInTheOrderInWhichTheyCame", nil, theKeyIsHandedOverInTheOrderInWhichTheyCame},
	{"AnAttemptThatComesLaterIsRefused", nil, anAttemptThatComesLaterIsRefused},
	{"ADeadWaiterCostsNothing", []string{needPeer, needKill}, aDeadWaiterCostsNothing},
	{"AHungWaiterCostsABoundedTime", []string{needPeer, needOutage}, aHungWaiterCostsABoundedTime},
	{"AWaitThatIsEndedLeavesNothing", nil, aWaitThatIsEndedLeavesNothing},
	{"NothingIsGrantedAfterTheEnd", nil, nothingIsGrantedAfterTheEnd},
	{"ALeaseThatWaitedGetsTheWholeTTL", nil, aLeaseThatWaitedGetsTheWholeTTL},
	{"NobodyElseBeforeTheExpiryOfALeaseThatWaited", nil, nobodyElseBeforeTheExpiryOfALeaseThatWaited},
	{"RefusedTellsWhoHoldsUntilTheEnd", nil, refusedTellsWhoHoldsUntilTheEnd},
	{"RefusedMayBeNil", nil, refusedMayBeNil},
	{"AnOutageEndsTheWait", []string{needPeer, needOutage}, anOutageEndsTheWait},
	{"InspectCountsThoseWhoWait", nil, inspectCountsThoseWhoWait},
	{"BadInputToAwaitIsInvalid", nil, badInputToAwaitIsInvalid},
}

func aFreeKeyIsGrantedAtOnce(c *check) {
	key := c.key("k")
	tokens := rising{c: c}
	for range 3 {
		start := time.Now()
		w := c.await(c.l, key, c.long())
		lease := c.handed(w, "a free key")
		if len(w.reported) > 0 && !c.busy() {
			c.Errorf("refused was called for a free key, with %v", w.reported[0])
		}
		if lease.Key() != c.h.FullKey(key) {
			c.Errorf("lease.Key() = %.60q, want %.60q", lease.Key(), c.h.FullKey(key))
		}
		if most := start.Add(c.long() + time.Since(start)); lease.Expiry().After(most) {
			c.Errorf("Expiry is %v after it may be at most", lease.Expiry().Sub(most))
		}
		tokens.next(lease, "an Await")
		c.stillHolds(lease, key)
		c.release(lease)
	}
	c.free(key)
}

// busy reports whether time is live: then a release may be slow to be seen.
func (c *check) busy() bool { return c.h.Wrap == nil }

func theKeyIsHandedOverInTheOrderInWhichTheyCame(c *check) {
	// A store on several nodes may let one overtake in a split vote.
	c.attempts(func(try int) string {
		key := c.key("k" + string(rune('0'+try)))
		tokens := rising{c: c}
		lease := c.acquire(c.other(), key, c.long())
		tokens.next(lease, "")
		var waits []*queued
		for _, l := range c.clients(5) {
			waits = append(waits, c.queue(l, key, c.long()))
		}
		problem := ""
		for len(waits) > 0 {
			c.release(lease)
			next := waits[0]
			for deadline := time.Now().Add(c.bound()); !next.isOver(); time.Sleep(c.poll() / 10) {
				for _, w := range waits[1:] {
					if w.isOver() {
						next, problem = w, "one that came later has the key first"
					}
				}
				if time.Now().After(deadline) {
					c.fatalf("nobody has the key %v after its release, while %d stand in the queue", c.bound(), len(waits))
				}
			}
			lease = c.handed(next, "a hand-off")
			tokens.next(lease, "a hand-off")
			left := waits[:0:0]
			for _, w := range waits {
				if w != next {
					left = append(left, w)
				}
			}
			waits = left
		}
		c.release(lease)
		c.free(key)
		return problem
	})
}

func anAttemptThatComesLaterIsRefused(c *check) {
	c.attempts(func(try int) string {
		key := c.key("k" + string(rune('0'+try)))
		clients := c.clients(2)
		lease := c.acquire(c.other(), key, c.long())
		w := c.queue(clients[1], key, c.long())
		c.release(lease)
		barged, err := c.try(c.ctx(), c.l, key, c.long())
		problem := ""
		if err == nil {
			problem = "an attempt got the key that has a queue"
			c.release(barged)
		}
		next := c.handed(w, "the first in the queue")
		c.stillHolds(next, key)
		c.release(next)
		return problem
	})
}

func aDeadWaiterCostsNothing(c *check) {
	key := c.key("k")
	offered[lock.Awaiter](c, c.l, needAwaiter)
	lease := c.acquire(c.other(), key, c.long())
	doomed := c.newPeer()
	c.queue(doomed, key, c.long())
	w := c.queue(c.l, key, c.long())
	c.h.Kill(c.t, doomed)
	start := time.Now()
	c.release(lease)
	next := c.handed(w, "the one behind a waiter that died")
	if took := time.Since(start); !c.busy() && took > c.ttl()/10 {
		c.Errorf("the hand-off took %v with a dead waiter ahead", took)
	}
	c.stillHolds(next, key)
}

func aHungWaiterCostsABoundedTime(c *check) {
	key := c.key("k")
	offered[lock.Awaiter](c, c.l, needAwaiter)
	lease := c.acquire(c.other(), key, c.long())
	hung := c.newPeer()
	first := c.queue(hung, key, c.long())
	w := c.queue(c.l, key, c.long())
	c.outage(hung, true)
	c.release(lease)
	next := c.handed(w, "the one behind a waiter that hangs")
	first.cancel(nil)
	c.over(first, "the one that hung")
	c.outage(hung, false)
	c.stillHolds(next, key)
	c.release(next)
	c.free(key)
}

func aWaitThatIsEndedLeavesNothing(c *check) {
	key := c.key("k")
	clients := c.clients(3)
	lease := c.acquire(c.other(), key, c.long())
	var waits []*queued
	for _, l := range clients {
		waits = append(waits, c.queue(l, key, c.long()))
	}
	enough := errors.New("enough")
	for _, i := range []int{0, 2} { // the first and the last
		waits[i].cancel(enough)
		c.over(waits[i], "a wait whose ctx ended")
		err := waits[i].err
		if !errors.Is(err, context.Canceled) || !errors.Is(err, enough) {
			c.fatalf("Await whose ctx ended: got %v, want an error matching context.Canceled and its cause", show(err))
		}
	}
	c.stillHolds(lease, key)
	c.release(lease)
	next := c.handed(waits[1], "the one between two that left")
	c.stillHolds(next, key)
	c.release(next)
	c.free(key)

	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(enough)
	late, err := offered[lock.Awaiter](c, c.l, needAwaiter).Await(ctx, key, c.long(), func(*lock.HeldError) {})
	if !errors.Is(err, enough) {
		c.Errorf("Await with a ctx that had ended: got %v, want an error matching its cause", show(err))
	}
	if err == nil {
		c.releaseLater(late)
	}
	c.free(key)
}

// Whatever meets the end of ctx: a grant that is on its way is returned or handed back.
func nothingIsGrantedAfterTheEnd(c *check) {
	clients := c.clients(2)
	for i := range 15 {
		key := c.key("k" + string(rune('a'+i)))
		lease := c.acquire(c.other(), key, c.long())
		w := c.queue(clients[i%2], key, c.long())
		wg := c.group()
		wg.Go(func() { c.releaseUnlessLost(lease) })
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 100 * time.Microsecond)
			w.cancel(nil)
		})
		wg.Wait()
		c.over(w, "a wait that ends as the key gets free")
		switch {
		case w.err == nil:
			c.release(w.lease)
		case !errors.Is(w.err, context.Canceled):
			c.fatalf("Await whose ctx ended: got %v, want an error matching context.Canceled", show(w.err))
		}
		c.free(key)
	}
}

func aLeaseThatWaitedGetsTheWholeTTL(c *check) {
	clients := c.clients(2)
	c.attempts(func(try int) string {
		key := c.key(fmt.Sprint(try))
		lease := c.acquire(c.other(), key, c.long())
		w := c.queue(clients[1], key, c.long())
		time.Sleep(c.ttl()) // which is not the lease's time
		c.release(lease)
		next := c.handed(w, "a hand-off")
		before := next.Expiry()
		for deadline := time.Now().Add(c.bound()); time.Until(before) < c.long()/2; time.Sleep(c.poll()) {
			if time.Now().After(deadline) {
				c.fatalf("a lease that waited has %v of %v left, and has not grown for %v", time.Until(before), c.long(), c.bound())
			}
			expiry := next.Expiry()
			switch {
			case !time.Now().Before(before): // it is short at first: by a stall it ends
				return "a lease that waited ended before it had the time that was asked for"
			case expiry.Before(before):
				c.fatalf("Expiry moved %v earlier by itself", before.Sub(expiry))
			case time.Until(expiry) > c.long():
				c.fatalf("Expiry is %v away, want %v at most", time.Until(expiry), c.long())
			}
			before = expiry
		}
		c.stillHolds(next, key)
		c.release(next)
		c.free(key)
		return ""
	})
}

func nobodyElseBeforeTheExpiryOfALeaseThatWaited(c *check) {
	key := c.key("k")
	clients := c.clients(2)
	lease := c.acquire(c.other(), key, c.long())
	w := c.queue(clients[1], key, c.ttl())
	c.release(lease)
	next := c.handed(w, "a hand-off")
	for {
		expiry := next.Expiry() // the last one that is seen before the key can be had
		third, err := c.try(c.ctx(), c.other(), key, c.long())
		if err != nil {
			if time.Since(w.began) > 4*c.ttl()+c.bound() {
				c.fatalf("a key whose holder does not renew is not free: %v", err)
			}
			time.Sleep(c.poll() / 4)
			continue
		}
		if early := time.Until(expiry); early > 0 {
			c.Errorf("another got the key %v before the Expiry of a lease that waited", early)
		}
		c.stillHolds(third, key)
		return
	}
}

func refusedTellsWhoHoldsUntilTheEnd(c *check) {
	key := c.key("k")
	clients := c.clients(2)
	lease := c.acquire(c.other(), key, c.long())
	w := c.queue(clients[1], key, c.long())
	time.Sleep(c.ttl() / 2)
	c.release(lease)
	c.release(c.handed(w, "a hand-off"))
	gone := c.queue(clients[1], c.heldKey(), c.long())
	gone.cancel(nil)
	c.over(gone, "a wait that was ended")
	time.Sleep(c.ttl() / 2)
	for _, w := range []*queued{w, gone} {
		w.mu.Lock()
		reported, overlap, late := w.reported, w.overlap, w.late
		w.mu.Unlock()
		for _, held := range reported {
			switch {
			case held == nil:
				c.fatalf("refused was called with nil")
			case w != gone && held.Key != c.h.FullKey(key):
				c.Errorf("refused was called with the key %.60q, want %.60q", held.Key, c.h.FullKey(key))
			}
		}
		if overlap {
			c.Errorf("two calls of refused at once")
		}
		if late {
			c.Errorf("refused was called after Await had returned")
		}
	}
}

// A caller who waits without a word of who holds the key meanwhile has nothing to give.
func refusedMayBeNil(c *check) {
	awaiter := offered[lock.Awaiter](c, c.l, needAwaiter)
	key := c.key("k")
	await := func() *queued {
		return c.startAwait(func(ctx context.Context, w *queued) (lease lock.Lease, err error) {
			defer func() { // it would end the program of the tests
				if p := recover(); p != nil {
					lease, err = nil, fmt.Errorf("panic: %v", p)
				}
			}()
			return awaiter.Await(ctx, key, c.long(), nil)
		})
	}
	held := c.handed(await(), "Await of a free key with a nil refused")
	w := await()
	time.Sleep(2 * c.poll()) // so that it stands in the queue, as a rule
	c.release(held)
	c.stillHolds(c.handed(w, "Await with a nil refused"), key)
	w = await()
	time.Sleep(2 * c.poll())
	w.cancel(nil)
	c.over(w, "Await with a nil refused whose ctx ended")
	if !errors.Is(w.err, context.Canceled) {
		c.Errorf("Await with a nil refused, whose ctx ended: got %v, want an error matching %q", show(w.err), context.Canceled)
	}
}

// heldKey is a key of its own that is held.
func (c *check) heldKey() string {
	key := c.key("held")
	c.acquire(c.other(), key, c.long())
	return key
}

func anOutageEndsTheWait(c *check) {
	key := c.key("k")
	offered[lock.Awaiter](c, c.l, needAwaiter)
	lease := c.acquire(c.other(), key, c.long())
	away := c.newPeer()
	w := c.queue(away, key, c.long())
	c.outage(away, true)
	c.over(w, "a wait in an outage")
	if !errors.Is(w.err, lock.ErrUnavailable) || errors.Is(w.err, context.Canceled) || errors.Is(w.err, context.DeadlineExceeded) {
		c.Errorf("Await in an outage: got %v, want an error matching lock.ErrUnavailable, and none of a context", show(w.err))
	}
	c.outage(away, false)
	c.release(lease)
	c.free(key)
}

func badInputToAwaitIsInvalid(c *check) {
	awaiter := offered[lock.Awaiter](c, c.l, needAwaiter)
	for _, bad := range []struct {
		key string
		ttl time.Duration
	}{{"", c.long()}, {"\xff", c.long()}, {c.key("k"), 0}, {c.key("k"), lock.MaxTTL + 1}} {
		lease, err := awaiter.Await(c.ctx(), bad.key, bad.ttl, func(*lock.HeldError) {})
		if !errors.Is(err, lock.ErrInvalid) {
			c.Errorf("Await of %.60q for %v: got %v, want an error matching lock.ErrInvalid", bad.key, bad.ttl, show(err))
		}
		if err == nil {
			c.releaseLater(lease)
		}
	}
}

// What is counted may lag behind: it is for operators, and nothing is decided by it.
func inspectCountsThoseWhoWait(c *check) {
	offered[lock.Awaiter](c, c.l, needAwaiter)
	inspector := offered[lock.Inspector](c, c.l, needInspector)
	key := c.key("k")
	counts := func(want int) {
		c.Helper()
		var info lock.Info
		var err error
		for end := time.Now().Add(c.bound()); time.Now().Before(end); time.Sleep(c.poll()) {
			if info, err = inspector.Inspect(c.ctx(), key); err == nil && (info.Waiting > 0) == (want > 0) {
				return
			}
		}
		if want > 0 && err == nil && slices.Contains(c.h.AllowSkips, needWaiting) {
			c.skip(needWaiting) // its queue is not where it is counted
		}
		c.fatalf("Info.Waiting = %d (error %v) with %d waiting, for %v", info.Waiting, show(err), want, c.bound())
	}
	lease := c.acquire(c.other(), key, c.long())
	counts(0)
	w := c.queue(c.l, key, c.long())
	counts(1)
	w.cancel(nil)
	c.over(w, "a wait whose ctx ended")
	counts(0)
	c.release(lease)
}
