package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// refreshEvery is how old the knowledge of a waiter with OnWait gets before the waiter
// inspects its key. Where the backend wakes waiters one after another, those behind the
// first receive no notification when the key changes hands.
const refreshEvery = 3 * time.Second

// waitReport reports to AcquireOptions.OnWait why the wait goes on, each change once. A
// nil one does nothing.
type waitReport struct {
	fn        func(error)
	key       string
	inspector Inspector // nil: only attempts show who holds the key
	slots     bool      // several hold the key: a single name says little

	timer *time.Timer        // starts the goroutine that inspects; nil: there is none
	end   context.CancelFunc // ends it
	done  chan struct{}      // closed when it has ended

	mu     sync.Mutex // guards all below; held while fn runs, so that calls come one at a time
	called bool
	away   bool      // fn last received an outage
	failed bool      // the last attempt met an outage: that the key can be read then does not end it
	holder string    // the last that was named
	known  time.Time // when anything was last learnt
}

// report is nil without OnWait. It must be closed.
func (w *waiter) report(ctx context.Context) *waitReport {
	if w.opts.OnWait == nil {
		return nil
	}
	r := &waitReport{fn: w.opts.OnWait, key: w.key, known: time.Now(), slots: slotted(w.locker)}
	if w.blind {
		return r
	}
	if r.inspector, _ = As[Inspector](w.locker); r.inspector != nil {
		ctx, r.end = context.WithCancel(ctx)
		r.done = make(chan struct{})
		r.timer = time.AfterFunc(refreshEvery, func() { r.refresh(ctx) }) // most waits are over before
	}
	return r
}

// close ends the reports: fn is not called after it.
func (r *waitReport) close() {
	if r == nil || r.timer == nil {
		return
	}
	r.end()
	if !r.timer.Stop() {
		<-r.done
	}
}

// slotted reports whether l is or has a Semaphore of more than one slot.
func slotted(l Locker) bool {
	return has(l, func(l Locker) bool { s, ok := l.(*semaphore); return ok && s.n > 1 })
}

// note takes in why an attempt did not get the key.
func (r *waitReport) note(err error) {
	if r == nil || err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = !errors.Is(err, ErrHeld)
	r.notify(err)
}

// saw takes in what an inspection showed; nil: the key is free at this moment.
func (r *waitReport) saw(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil || r.failed {
		r.known = time.Now()
		return
	}
	r.notify(err)
}

// notify calls fn if err is another reason than the one before. mu is held.
func (r *waitReport) notify(err error) {
	r.known = time.Now()
	away, holder := !errors.Is(err, ErrHeld), r.holder
	if held, ok := errors.AsType[*HeldError](err); ok && held.Holder != "" && !r.slots {
		holder = held.Holder
	}
	if r.called && away == r.away && (away || holder == r.holder) {
		return
	}
	r.called, r.away, r.holder = true, away, holder
	r.fn(err)
}

// refresh inspects the key whenever nothing was learnt of it for a while.
func (r *waitReport) refresh(ctx context.Context) {
	defer close(r.done)
	for ctx.Err() == nil {
		next := refreshEvery - r.age()
		if next <= 0 {
			err, again := r.inspect(ctx)
			if !again || ctx.Err() != nil {
				return
			}
			r.saw(err)
			next = refreshEvery
		}
		select {
		case <-ctx.Done():
		// At random, so that waiters that began together do not inspect in step.
		case <-time.After(next + rand.N(refreshEvery/4)):
		}
	}
}

// age is for how long nothing was learnt of the key.
func (r *waitReport) age() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.known)
}

// inspect inspects the key once. again is false if another time can't help.
func (r *waitReport) inspect(ctx context.Context) (err error, again bool) {
	// One that hangs is an outage to report, not one to wait for.
	bounded, cancel := context.WithTimeout(ctx, refreshEvery)
	defer cancel()
	info, err := r.inspector.Inspect(bounded, r.key)
	switch {
	case err != nil && ctx.Err() != nil, err != nil && isDefinite(err), errors.Is(err, errors.ErrUnsupported):
		return nil, false // the attempts go on, and know better
	case err != nil:
		return fmt.Errorf("lock: %q: %w", r.key, StoreError(ctx, err)), true
	case info.Holder == "":
		return nil, true // free at this moment: an attempt will get it, ours or another's
	}
	return &HeldError{Key: info.Key, Holder: info.Holder, RetryAfter: max(0, info.TTL)}, true
}
