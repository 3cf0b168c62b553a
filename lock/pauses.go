package lock

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// DefaultPoll is how long an [Acquire] that is notified of every release by a [Watcher]
// goes without asking the store: it then finds a release also if notifications fail.
const DefaultPoll = time.Minute

const (
	defaultDelay       = 50 * time.Millisecond
	defaultOutagePause = 500 * time.Millisecond
	minPause           = time.Millisecond
)

// After a wake an attempt is made at once. If it brought nothing, the next wake is answered
// only when minRest has passed since it, then twice as long each time, up to Delay: a storm
// of wakes must not become a storm of attempts.
const minRest = time.Millisecond

// sameTerm is how much later the end of one hold may seem from one refusal to the
// next, because of the network.
const sameTerm = 5 * time.Millisecond

// pauses are how long a waiter pauses between two attempts.
type pauses struct {
	held   time.Duration // while another holds the key
	outage time.Duration // while the store is unavailable: the longest, to which pauses double
	quiet  time.Duration // while another holds the key, and a watch would wake the waiter earlier
}

// pauses are those of options whose defaults are filled in, but for MaxDelay's two.
func (o *AcquireOptions) pauses() pauses {
	if o.MaxDelay != 0 {
		return pauses{held: o.Delay, outage: o.MaxDelay, quiet: o.MaxDelay}
	}
	return pauses{held: o.Delay, outage: max(defaultOutagePause, o.Delay), quiet: max(DefaultPoll, o.Delay)}
}

// most is the more eager of the two.
func (p pauses) most(q pauses) pauses {
	return pauses{min(p.held, q.held), min(p.outage, q.outage), min(p.quiet, q.quiet)}
}

// term is what a refusal says of a hold.
type term struct {
	holder string
	until  time.Time // zero: unknown
}

// differs reports whether t is surely another hold than u, or a renewed one.
func (t term) differs(u term) bool {
	return t.holder != u.holder || !t.until.IsZero() && !u.until.IsZero() && t.until.After(u.until.Add(sameTerm))
}

// failed notes an attempt that did not get the lease, for the pauses to come.
func (w *waiter) failed() {
	w.asked = time.Now()
	if errors.Is(w.last, ErrUnavailable) {
		p, _ := w.pauses()
		w.outage = min(max(2*w.outage, p.held), p.outage)
	} else {
		w.outage = 0
	}
	before := w.term
	if held, ok := errors.AsType[*HeldError](w.last); ok {
		w.term = term{holder: held.Holder}
		if held.RetryAfter > 0 {
			w.term.until = w.asked.Add(min(held.RetryAfter, maxPause))
		}
	}
	switch {
	case !w.woken:
		w.fruitless = 0
	case w.term.differs(before): // the notification was right, and somebody else was quicker
		w.fruitless = 1
	default:
		w.fruitless++
	}
}

// pause waits until it is time to ask: there is a notification, or none for long enough.
func (w *waiter) pause(ctx context.Context) {
	p, changed := w.pauses()
	begun, length := time.Now(), w.length(p)
	timer := time.NewTimer(length)
	defer timer.Stop()
	w.woken = false
	wake := w.wake
	for {
		select {
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-wake:
			w.woken, wake, changed = true, nil, nil
			rest := w.rest(p) - time.Since(w.asked)
			if rest <= 0 {
				return
			}
			timer.Reset(min(rest, length-time.Since(begun)))
		case <-changed: // somebody more eager stands behind
			p, _ = w.pauses()
			length = min(length, w.length(p))
			timer.Reset(length - time.Since(begun))
		}
	}
}

// pauses are those of the queue, with the channel that receives when they have changed;
// or those of the options, where the waiter has no position in one.
func (w *waiter) pauses() (pauses, <-chan struct{}) {
	if w.position != nil {
		return w.position.pauses()
	}
	return w.opts.pauses(), nil
}

// length is how long a pause lasts that no wake ends.
func (w *waiter) length(p pauses) time.Duration {
	switch {
	case errors.Is(w.last, ErrUnavailable):
		return max(w.spread(min(w.outage, p.outage)), minPause)
	case w.stop != nil:
		return max(w.spread(p.quiet), minPause)
	}
	pause := w.spread(p.held)
	// (A RetryAfter of 0 means that it is unknown.)
	if held, ok := errors.AsType[*HeldError](w.last); ok && held.RetryAfter > 0 && held.RetryAfter < pause {
		// Not all at the moment of expiry: waiters in step would split the votes.
		late := time.Duration(w.opts.Jitter * float64(p.held) * rand.Float64())
		pause = min(pause, held.RetryAfter+late)
	}
	return max(pause, minPause)
}

// rest is how long after the last attempt a wake may be answered by another.
func (w *waiter) rest(p pauses) time.Duration {
	if time.Since(w.asked) >= p.held {
		w.fruitless = 0 // it was quiet for as long as polling would be
	}
	if w.fruitless == 0 {
		return 0
	}
	rest := p.held
	if doublings := w.fruitless - 1; doublings < 20 {
		rest = min(rest, minRest<<doublings)
	}
	return w.spread(rest)
}

// spread changes d at random by up to Jitter of it.
func (w *waiter) spread(d time.Duration) time.Duration {
	return d + time.Duration(w.opts.Jitter*float64(d)*(2*rand.Float64()-1))
}
