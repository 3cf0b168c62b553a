package keepalive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// tick does what the timer was armed for. There is one timer for the deadline and
// the renewals; while a renewal is under way it stands for the deadline alone.
func (k *Keeper) tick() {
	k.mu.Lock()
	if k.start(time.Now()) {
		return
	}
	now := time.Now()
	left := k.expire(now)
	switch {
	case k.lost != nil:
		first := !k.reported
		k.reported = true
		ended := k.leaveOutage(false)
		late := k.stopLate(time.Time{})
		k.unlock()
		if late != nil {
			k.stop(late)
		}
		if ended != nil {
			ended()
		}
		if first {
			k.opts.log.Error("lease lost", "key", k.Key(), "token", k.Token(), "err", k.lost)
			if k.opts.onLost != nil {
				k.opts.onLost(k, k.lost)
			}
		}
	case k.released:
		k.unlock()
	case k.renewal != nil || now.Before(k.due) || k.drained(now):
		late := k.stopLate(now)
		k.arm(now, left)
		k.unlock()
		if late != nil {
			k.stop(late)
		}
	default:
		k.renew(now, left)
	}
}

// stopLate is the renewal under way if it was started and has to be stopped: because it has
// reached its end, or at once, where now is the zero time. It notes that it is stopped. mu is
// held.
func (k *Keeper) stopLate(now time.Time) *renewal {
	r := k.renewal
	if r == nil || r.cancel != nil || r.stopped || !now.IsZero() && now.Before(r.end) {
		return nil
	}
	r.stopped = true
	return r
}

// bound is for how long one try may take: half of what is left, since a connection that
// hangs must leave time for another try on a fresh one; but at least a 64th of the ttl, if
// that is left, or tries would end up too short for any answer.
func (k *Keeper) bound(left time.Duration) time.Duration { return max(left/2, min(left, k.ttl/64)) }

// start starts a renewal if one is due and the lease is an ExtendStarter, and reports whether
// it did. It is called with mu held; it has unlocked it if it returns true, and mu is held if
// false. It takes no goroutine, since a process may keep many leases. After false, tick does
// what there is to do.
func (k *Keeper) start(now time.Time) bool {
	lease, ok := k.lease.(lock.ExtendStarter)
	// (Of a lease that may grow by itself the Expiry is read first, which tick does.)
	if !ok || k.lost != nil || k.released || k.renewal != nil || k.short || now.Before(k.due) || k.drained(now) {
		return false
	}
	// This goes by the deadline that was last set. StartExtend checks that the lease itself
	// has more than margin left, also after a suspension.
	left := k.deadline().Sub(now)
	if left <= 0 {
		return false
	}
	bound, margin := k.bound(left), k.margin
	r := &renewal{bound: bound, end: now.Add(bound)}
	k.renewal = r
	k.arm(now, left)
	k.unlock()

	started := lease.StartExtend(k.ttl, margin, (*renewing)(k))

	k.mu.Lock()
	if !started {
		k.renewal = nil
		if r.done != nil {
			close(r.done) // a Release that waits for it
		}
		return false
	}
	late := k.released && k.renewal == r // it may have been stopped before it was started
	k.unlock()
	if late {
		lease.StopExtend()
	}
	return true
}

// stop ends a renewal that is under way.
func (k *Keeper) stop(r *renewal) {
	if r.cancel != nil {
		r.cancel()
	} else if lease, ok := k.lease.(lock.ExtendStarter); ok {
		lease.StopExtend()
	}
}

// renewing is a Keeper as what receives the outcome of a renewal that was started.
type renewing Keeper

// Extended implements [lock.ExtendDone]. It must be quick: the goroutine that calls it has the
// store's other answers to give out.
func (r *renewing) Extended(expiry time.Time, err error) {
	k := (*Keeper)(r)
	if err != nil {
		go k.concluded(expiry, err) // it logs; Release waits for it
		return
	}
	k.concluded(expiry, nil)
}

// renew makes one try. It is called with mu held, and unlocks it.
func (k *Keeper) renew(now time.Time, left time.Duration) {
	bound := k.bound(left)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.inner), bound)
	k.renewal = &renewal{bound: bound, cancel: cancel, done: make(chan struct{})}
	k.arm(now, left)
	k.unlock()

	err := k.lease.Extend(ctx, k.ttl)
	if err != nil && ctx.Err() != nil {
		err = hideContext(err, bound)
	}
	cancel()
	expiry := time.Time{}
	if err == nil {
		expiry = k.lease.Expiry()
	}
	k.concluded(expiry, err)
}

// concluded takes in what the renewal under way has given: the lease's new Expiry, or why
// there is none.
func (k *Keeper) concluded(expiry time.Time, err error) {
	k.mu.Lock()
	r := k.renewal
	k.renewal = nil
	if r.stopped && err != nil && !errors.Is(err, lock.ErrLost) {
		err = fmt.Errorf("%w: no answer within %v: %v", lock.ErrUnavailable, r.bound.Round(time.Millisecond), err)
	}
	now := time.Now()
	begins := false
	switch {
	case k.released || k.lost != nil:
	case err == nil:
		if k.extends {
			// One that followed at the store may have made the lease shorter, and its outcome
			// may have been here before.
			expiry = k.lease.Expiry()
		}
		if k.renewed(now, expiry); k.lost == nil {
			if log := k.leaveOutage(true); log != nil {
				go log() // a slow logger is not in the way
			}
		}
	case errors.Is(err, lock.ErrLost):
		k.lose(err)
	default:
		begins = k.failed()
		k.last = err
		left := k.left(now)
		k.due = now.Add(k.pause(left))
		k.failures++
		k.arm(now, left)
	}
	failures, until := k.failures, k.deadline()
	k.unlock()
	if begins {
		k.opts.log.Warn("renewal failed", "key", k.Key(), "token", k.Token(), "err", err,
			"failures", int(failures), "left", until.Sub(now))
	}
	if r.done != nil {
		close(r.done)
	}
}

// renewed sets the deadline by the lease's new Expiry, which was read a moment ago. mu is
// held.
func (k *Keeper) renewed(now, expiry time.Time) {
	if !now.Before(k.deadline()) {
		// Work may have been notified already that the lease is lost, and that is final.
		k.lose(fmt.Errorf("%w: %w: renewed after the context's deadline", lock.ErrLost, ErrNotRenewed))
		return
	}
	deadline := expiry.Add(-k.opts.margin)
	if expiry.IsZero() || !now.Before(deadline) {
		k.lose(fmt.Errorf("%w: %w: renewed with no more than the margin of %v left", lock.ErrLost, ErrNotRenewed, k.opts.margin))
		return
	}
	k.young, k.short, k.failures, k.last = false, false, 0, nil
	k.goBy(now, expiry)
	k.due = k.dueFor(expiry)
	// A lease shorter than asked for must not be renewed in a spin, but it must be renewed.
	if soon := now.Add(min(k.opts.interval/16, deadline.Sub(now)/2)); k.due.Before(soon) {
		k.due = soon
	}
	k.arm(now, deadline.Sub(now))
}

// deadline is when the context ends, as of the expiry that was last taken in. mu is held.
func (k *Keeper) deadline() time.Time { return k.expiry.Add(-k.margin) }

// goBy sets the deadline by expiry. The margin of a lease that was never renewed is at
// most half of what it has: it may have started with less than Margin, and is held all
// the same. mu is held, or k is not shared yet.
func (k *Keeper) goBy(now, expiry time.Time) {
	k.margin = k.opts.margin
	if k.young {
		k.margin = min(k.margin, expiry.Sub(now)/2)
	}
	k.expiry = expiry
}

// dueFor is when a lease that ends at expiry is renewed: Interval after it was asked
// for, or up to a tenth of it earlier, at random: leases taken in one burst do not
// stay in step. The moment is rounded down to one of a few hundred in each Interval, so
// that many leases are renewed in groups: a process that wakes once for a group, and a
// store that is asked for it in one request, have a fraction of the work.
func (k *Keeper) dueFor(expiry time.Time) time.Time {
	step := k.opts.interval/groups + 1
	early := rand.N(max(0, k.opts.interval/10-step) + 1)
	due := expiry.Add(k.opts.interval - early - k.ttl)
	// The wall clock says where the groups' moments are, not when a lease is due: a
	// jump of it moves a renewal by less than a step.
	return due.Add(-time.Duration(due.UnixNano()) % step)
}

// groups is how many moments there are for renewals in an Interval.
const groups = 256

// pause is how long to wait after a failed try: a doubling time, so that a store
// in trouble is not flooded, but at most half of what is left, so that there is
// another try. mu is held.
func (k *Keeper) pause(left time.Duration) time.Duration {
	pause := min(k.opts.interval/16<<min(k.failures, 4), left/2)
	pause = max(pause, k.opts.interval/64, time.Millisecond)
	return time.Duration(float64(pause) * (0.75 + 0.5*rand.Float64()))
}

// expire notes that the deadline has passed. It returns what is left until then,
// for callers that need it: asking the lease can cost a few system calls. mu is held.
func (k *Keeper) expire(now time.Time) (left time.Duration) {
	if k.lost != nil || k.released {
		return 0
	}
	if left = k.left(now); left > 0 {
		return left
	}
	switch {
	case k.drained(now):
		// The work knows, since its context has ended: it took too long to stop.
		k.lose(fmt.Errorf("%w: %w: the work had not ended %v after its context, which is Options.DrainTimeout, and renewal ends then",
			lock.ErrLost, ErrNotRenewed, k.opts.drain))
	case k.last != nil:
		k.lose(fmt.Errorf("%w: %w; last try: %w", lock.ErrLost, ErrNotRenewed, k.last))
	case k.renewal != nil:
		k.lose(fmt.Errorf("%w: %w; the store has not answered", lock.ErrLost, ErrNotRenewed))
	default:
		k.lose(fmt.Errorf("%w: %w", lock.ErrLost, ErrNotRenewed))
	}
	return left
}

// left is the time until the context must end: until the deadline last set, or
// the lease's own if that has become earlier since. It follows an Expiry that became
// later by itself if that is seen before the deadline: after it, work may have been
// notified already that the lease is lost, and that is final. mu is held.
func (k *Keeper) left(now time.Time) time.Duration {
	expiry := k.lease.Expiry()
	if expiry.IsZero() {
		return 0
	}
	if expiry.After(k.expiry) && now.Before(k.deadline()) {
		// The lease was held until now, by the expiry before, and is until the new one.
		k.goBy(now, expiry)
	}
	return min(k.deadline().Sub(now), expiry.Sub(now)-k.margin)
}

// drained reports whether the time to wind down is over, and nothing is renewed
// any more. mu is held.
func (k *Keeper) drained(now time.Time) bool {
	return !k.drainEnd.IsZero() && !now.Before(k.drainEnd)
}

// arm sets the timer for what comes next; left is until the deadline. mu is held.
func (k *Keeper) arm(now time.Time, left time.Duration) {
	next := left
	switch r := k.renewal; {
	case r == nil && !k.drained(now):
		next = min(next, k.due.Sub(now))
	case r != nil && r.cancel == nil && !r.stopped:
		next = min(next, r.end.Sub(now))
	}
	if k.short { // its growth must be seen before the deadline
		next = min(next, max(left/2, time.Millisecond))
	}
	k.wake(next)
}

// wake has tick run in d, or now. It never sets a timer that is due already: on fake time that
// runs where it is set, and two of these at once crash the race detector of Go 1.26. mu is held.
func (k *Keeper) wake(d time.Duration) {
	if d > 0 {
		k.timer.Reset(d)
		return
	}
	k.timer.Stop()
	go k.tick()
}

// hideContext hides the end of the keeper's own bound in err: it must not look
// like the end of the caller's ctx.
func hideContext(err error, bound time.Duration) error {
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, lock.ErrLost) {
		return fmt.Errorf("%w: %v", lock.ErrLost, err)
	}
	return fmt.Errorf("%w: no answer within %v: %v", lock.ErrUnavailable, bound.Round(time.Millisecond), err)
}
