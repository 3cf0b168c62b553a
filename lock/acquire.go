package lock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// AcquireOptions bound an [Acquire]. The zero value waits until ctx ends. They
// hold no state: one value may serve any number of calls at the same time.
type AcquireOptions struct {
	// Attempts bounds how often the store is asked. 0 means no bound, which is
	// the default. (A retry count of n is n+1 attempts.)
	Attempts int

	// Timeout bounds the whole wait. When it ends, the error is that of the last
	// attempt, ErrHeld or ErrUnavailable, and not one of a context. It has nothing
	// to do with the lease's ttl. At least 1ms. 0 means no bound, which is the default.
	Timeout time.Duration

	// Delay is the pause between two attempts while another holds the key, where
	// the backend neither queues by itself nor pushes notifications; it is cut short when the
	// holder's time is up earlier. At least 1ms. Defaults to 50ms.
	Delay time.Duration

	// MaxDelay bounds the pause while the store is unavailable, which starts at
	// Delay and doubles with each attempt. Where the backend pushes notifications, it is
	// also how long a waiter goes without asking when none come. At least 1ms, and
	// not less than Delay. Defaults to 500ms for the one and to [DefaultPoll] for the
	// other, or to Delay if that is more.
	MaxDelay time.Duration

	// Jitter spreads each pause at random by up to this fraction of it to either
	// side, so that waiters do not ask in step. Up to 1; -1 means none. Defaults
	// to 0.25.
	Jitter float64

	// OnWait, if set, receives why Acquire has to wait: at first, and whenever that
	// changes. The error matches ErrHeld, and names the holder where known (errors.As
	// with a *HeldError); or ErrUnavailable, an outage. A change of hands is noticed
	// within about 5s, also by waiters that are queued or wait for a notification: a
	// waiter with OnWait that learns nothing else inspects the key every 3s where the
	// locker is an [Inspector], which is one read. With a [Semaphore] of several slots
	// it receives outages, and the first refusal.
	//
	// Calls come one at a time, from goroutines of Acquire, and none after Acquire has
	// returned. It must not block: attempts wait for it. In AcquireAll it is about the
	// key that is waited for.
	OnWait func(err error)
}

// maxPause keeps sums of pauses from overflowing.
const maxPause = MaxTTL

// withDefaults fills o up, but for MaxDelay, which has two defaults: see pauses.
func (o *AcquireOptions) withDefaults() (AcquireOptions, error) {
	var opts AcquireOptions
	if o != nil {
		opts = *o
	}
	switch {
	case opts.Attempts < 0:
		return opts, fmt.Errorf("%w: AcquireOptions.Attempts is %d, want 0 or more", ErrInvalid, opts.Attempts)
	case opts.Timeout != 0 && opts.Timeout < minPause:
		return opts, fmt.Errorf("%w: AcquireOptions.Timeout is %v, want 0 for no bound, or at least %v%s",
			ErrInvalid, opts.Timeout, minPause, unitHint(opts.Timeout))
	case opts.Delay != 0 && (opts.Delay < minPause || opts.Delay > maxPause):
		return opts, fmt.Errorf("%w: AcquireOptions.Delay is %v, want 0 for the default, or %v to %v%s",
			ErrInvalid, opts.Delay, minPause, maxPause, unitHint(opts.Delay))
	case opts.MaxDelay != 0 && (opts.MaxDelay < minPause || opts.MaxDelay > maxPause):
		return opts, fmt.Errorf("%w: AcquireOptions.MaxDelay is %v, want 0 for the default, or %v to %v%s",
			ErrInvalid, opts.MaxDelay, minPause, maxPause, unitHint(opts.MaxDelay))
	case opts.Jitter != -1 && !(opts.Jitter >= 0 && opts.Jitter <= 1):
		return opts, fmt.Errorf("%w: AcquireOptions.Jitter is %v, want 0 to 1, or -1", ErrInvalid, opts.Jitter)
	case opts.MaxDelay != 0 && opts.Delay > opts.MaxDelay:
		return opts, fmt.Errorf("%w: AcquireOptions.Delay is %v, want at most MaxDelay, which is %v", ErrInvalid, opts.Delay, opts.MaxDelay)
	}
	if opts.Delay == 0 {
		opts.Delay = defaultDelay
		if opts.MaxDelay != 0 {
			opts.Delay = min(opts.Delay, opts.MaxDelay)
		}
	}
	switch opts.Jitter {
	case 0:
		opts.Jitter = 0.25
	case -1:
		opts.Jitter = 0
	}
	return opts, nil
}

// Validate reports what can't be used in o, with an error matching [ErrInvalid].
func (o *AcquireOptions) Validate() error {
	_, err := o.withDefaults()
	return err
}

// Acquire waits until it has a lease of key, ctx ends, or opts bound the wait. Where
// l queues by itself ([Awaiter]), its request stands in that queue until the key is
// handed over to it. Elsewhere it tries; if refused it watches the key where l can
// ([Watcher]), tries once more so that no release in between is missed, and then
// waits. nil opts mean the defaults.
//
// It goes on while the store is unavailable, and takes any error for that which it
// does not know. [ErrInvalid] and [ErrClosed] end it, and so does [ErrRefused] until
// the locker has granted a lease (where the backend has [Waiters]; without them,
// always): what worked once may work again.
//
// Where the backend has [Waiters], the waiters of this process for a key stand in a
// queue, in the order in which they came: the first of them asks the store, as often as
// the most eager of them would, and the others sleep. A waiter may leave the queue at
// any time, from any position. One that leaves before it was the first has made no
// attempt; its error is that of the latest attempt of those ahead, or matches
// ErrUnavailable if none of these has had an answer yet. With Attempts, Acquire asks
// without a position in the queue.
//
// An error matches the cause of the last attempt and, if ctx ended, ctx.Err() and
// its cause too. Cancellation beats a grant that comes at the same time: such a
// lease is released.
func Acquire(ctx context.Context, l Locker, key string, ttl time.Duration, opts *AcquireOptions) (Lease, error) {
	o, err := opts.withDefaults()
	if err == nil {
		err = checkArgs(ctx, l)
	}
	if err == nil {
		err = Check(key, ttl)
	}
	if err != nil {
		return nil, fmt.Errorf("lock: acquire: %w", err)
	}
	return acquire(ctx, &waiter{locker: l, key: key, ttl: ttl, opts: o, start: time.Now()})
}

func acquire(ctx context.Context, w *waiter) (Lease, error) {
	lease, err := w.acquire(ctx)
	if err != nil {
		lease, err = nil, fmt.Errorf("lock: acquire %q: %w", w.key, err)
	}
	reportWait(ctx, w.locker, w.key, w.start, w.attempts, lease, err)
	return lease, err
}

// waiter is one Acquire.
type waiter struct {
	locker   Locker
	key      string
	ttl      time.Duration
	opts     AcquireOptions
	start    time.Time
	blind    bool              // OnWait is not the user's: nothing is inspected for it
	giveBack func(Lease) error // releases a lease that came too late; nil: its Release, which is waited for
	attempts int
	last     error     // of the last attempt that said something about the key
	position *position // in the queue of this process; nil: it has none
	reports  *waitReport
	awaiter  Awaiter // the store's own queue; nil: there is none, or it is not for this waiter

	wake chan struct{} // nil: no notifications, polling
	stop func()        // ends the watch; nil: there is none

	// What pause goes by.
	outage    time.Duration // the latest pause while the store was unavailable
	asked     time.Time     // when the last attempt ended
	term      term          // the hold that refused it
	woken     bool          // it was made because of a wake
	fruitless int           // how many attempts because of a wake, in a row, brought nothing
}

// errTimeout is the cause of the context that AcquireOptions.Timeout ends. It is no
// context error, on purpose: the caller's ctx is fine.
var errTimeout = errors.New("lock: acquire timeout")

// bound ends ctx with Timeout, if there is one.
func (o *AcquireOptions) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.Timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, o.Timeout, errTimeout)
}

func (w *waiter) acquire(ctx context.Context) (lease Lease, err error) {
	bounded, cancel := w.opts.bound(ctx)
	defer cancel()
	w.reports = w.report(bounded)
	defer func() { w.reports.close() }() // last: it may wait for an inspection
	if w.opts.Attempts == 0 {            // counted ones are for TryAcquire
		w.awaiter, _ = As[Awaiter](w.locker)
	}
	first := true
	if in, name := queueOf(w.locker, w.key); in != nil && w.opts.Attempts == 0 && ctx.Err() == nil {
		if w.position, first = in.enqueue(name, w.opts.pauses()); w.position != nil {
			defer func() { w.position.dequeue(lease) }() // after a panic too: others stand behind
		}
	}
	defer func() { // before the next one may begin to watch
		if w.stop != nil {
			w.stop()
		}
	}()
	if !first && !w.becomesFirst(bounded) {
		return nil, w.ended(ctx)
	}
	return w.wait(ctx, bounded)
}

// becomesFirst waits until the waiter is the first in the queue, or ctx ends.
func (w *waiter) becomesFirst(ctx context.Context) bool {
	for {
		first, granted, known := w.position.state()
		w.reports.note(known)
		switch w.last = known; {
		case first && granted:
			w.listen(ctx) // the one before has the key: the first attempt will be refused, and a watch saves the second
			return true
		case first:
			return true
		case ctx.Err() != nil:
			return false
		}
		select {
		case <-w.position.wake:
		case <-ctx.Done():
		}
	}
}

func (w *waiter) wait(ctx, bounded context.Context) (Lease, error) {
	if w.position != nil && isObserved(w.locker) {
		bounded = context.WithValue(bounded, queueKey{}, queueName{w.position.queue.waiters, w.position.queue.name})
	}
	// Where Timeout has ended already, one attempt is made all the same, to say why there
	// is no lease; unless the queue knew that, and last is set.
	for bounded.Err() == nil || w.last == nil && ctx.Err() == nil {
		select {
		case <-w.wake: // a wake from before this attempt, which sees what it was for
		default:
		}
		lease, err := w.ask(bounded)
		if err == nil {
			w.grant()
		}
		if err == nil && ctx.Err() == nil {
			return lease, nil
		}
		if err == nil {
			// The caller has gone: nobody else would release this lease.
			err = w.ended(ctx)
			release := w.giveBack
			if release == nil {
				release = func(l Lease) error { return l.Release(ctx) }
			}
			if left := release(lease); left != nil && !errors.Is(left, ErrLost) {
				err = fmt.Errorf("%w; its late lease stays until it expires: %w", err, left)
			}
			return nil, err
		}
		if w.note(ctx, bounded, err) {
			return nil, err
		}
		w.share()
		if bounded.Err() != nil {
			break
		}
		w.reports.note(w.last)
		if w.attempts == w.opts.Attempts {
			return nil, fmt.Errorf("gave up after attempt %d of %d: %w", w.attempts, w.opts.Attempts, w.last)
		}
		w.failed()
		if !errors.Is(w.last, ErrUnavailable) && w.listen(bounded) {
			continue // ask once more: a release before the watch began sent none
		}
		w.pause(bounded)
	}
	return nil, w.ended(ctx)
}

// note takes in why an attempt failed, and reports whether asking again can't help.
func (w *waiter) note(ctx, bounded context.Context, err error) (final bool) {
	// The error of an attempt that was cut short is no answer of the store, unless it is a
	// refusal: it counts only where no attempt before said anything.
	cut := bounded.Err() != nil
	switch {
	case endedBy(ctx, err):
		// The error has ctx's cause, which is not the store's answer.
	case isFinal(err, w.granted):
		return true
	case errors.Is(err, ErrHeld), errors.Is(err, ErrUnavailable) && (!cut || w.last == nil):
		w.last = masked{err} // a node's timeout in it is not the end of ctx
	case ctx.Err() == nil && (!cut || w.last == nil):
		// An outage: a refusal (ErrRefused) of what the store has done before, an error that
		// this package does not know, the store's own timeout, or the end of our Timeout.
		w.last = outageOf(err)
	}
	return false
}

// granted reports whether the locker has ever granted a lease that Acquire saw.
func (w *waiter) granted() bool {
	in, _ := queueOf(w.locker, w.key)
	return in != nil && in.granted.Load()
}

// grant notes that the locker has granted a lease.
func (w *waiter) grant() {
	if in, _ := queueOf(w.locker, w.key); in != nil && !in.granted.Load() {
		in.granted.Store(true)
	}
}

// ended reports why the wait is over: the caller's ctx, or else AcquireOptions.Timeout.
func (w *waiter) ended(ctx context.Context) error {
	count, what := fmt.Sprintf("%d attempts in %v", w.attempts, w.waited()), "last attempt"
	if w.attempts == 0 && w.position != nil {
		count, what = fmt.Sprintf("%v in the queue", w.waited()), "last known"
	}
	last := w.last
	if ctx.Err() == nil {
		if last == nil {
			last = fmt.Errorf("%w: it has not answered those ahead yet", ErrUnavailable)
		}
		return fmt.Errorf("no lease within the timeout of %v, after %s; %s: %w", w.opts.Timeout, count, what, last)
	}
	err := fmt.Errorf("ended while waiting, after %s: %w", count, ContextError(ctx))
	if last != nil {
		err = fmt.Errorf("%w; %s: %w", err, what, last)
	}
	return err
}

func (w *waiter) waited() time.Duration { return time.Since(w.start).Round(time.Millisecond) }

// listen begins to watch the key, and reports whether it just did.
func (w *waiter) listen(ctx context.Context) bool {
	// Counted attempts are spaced by Delay alone, and a request in the store's queue
	// needs no notification.
	if w.stop != nil || w.opts.Attempts > 0 || w.awaiter != nil {
		return false
	}
	watcher, ok := As[Watcher](w.locker)
	if !ok {
		return false
	}
	wake := make(chan struct{}, 1)
	stop, err := watcher.Watch(ctx, w.key, wake)
	if err != nil {
		return false // polling goes on, and tries to watch again
	}
	w.wake, w.stop = wake, stop
	return true
}
