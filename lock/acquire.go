package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	// to do with the lease's ttl. 0 means no bound, which is the default.
	Timeout time.Duration

	// Delay is the pause between two attempts while another holds the key, where
	// the backend pushes no news; it is cut short when the holder's time is up
	// earlier. Defaults to 50ms.
	Delay time.Duration

	// MaxDelay bounds the pause while the store is unavailable: it starts at Delay
	// and doubles with each attempt. Where the backend pushes news, it is also how
	// long a waiter goes without asking. Defaults to 1s, or Delay if that is more.
	MaxDelay time.Duration

	// Jitter spreads each pause at random by up to this fraction of it to either
	// side, so that waiters do not ask in step. Up to 1; -1 means none. Defaults
	// to 0.25.
	Jitter float64
}

func (o *AcquireOptions) withDefaults() (AcquireOptions, error) {
	var opts AcquireOptions
	if o != nil {
		opts = *o
	}
	switch {
	case opts.Attempts < 0:
		return opts, fmt.Errorf("%w: AcquireOptions.Attempts is %d, want 0 or more", ErrInvalid, opts.Attempts)
	case opts.Timeout < 0:
		return opts, fmt.Errorf("%w: AcquireOptions.Timeout is %v, want 0 or more", ErrInvalid, opts.Timeout)
	case opts.Delay < 0:
		return opts, fmt.Errorf("%w: AcquireOptions.Delay is %v, want 0 or more", ErrInvalid, opts.Delay)
	case opts.MaxDelay < 0:
		return opts, fmt.Errorf("%w: AcquireOptions.MaxDelay is %v, want 0 or more", ErrInvalid, opts.MaxDelay)
	case opts.Jitter != -1 && !(opts.Jitter >= 0 && opts.Jitter <= 1):
		return opts, fmt.Errorf("%w: AcquireOptions.Jitter is %v, want 0 to 1, or -1", ErrInvalid, opts.Jitter)
	case opts.MaxDelay != 0 && opts.Delay > opts.MaxDelay:
		return opts, fmt.Errorf("%w: AcquireOptions.Delay is %v, want at most MaxDelay, which is %v", ErrInvalid, opts.Delay, opts.MaxDelay)
	}
	if opts.Delay == 0 {
		opts.Delay = 50 * time.Millisecond
		if opts.MaxDelay != 0 {
			opts.Delay = min(opts.Delay, opts.MaxDelay)
		}
	}
	if opts.MaxDelay == 0 {
		opts.MaxDelay = max(time.Second, opts.Delay)
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

// Acquire waits until it has a lease of key, ctx ends, or opts bound the wait:
// it tries; if refused it watches the key where l can ([Watcher]), tries once
// more so that no release in between is missed, and then waits. It goes on while
// the store is unavailable. nil opts mean the defaults.
//
// An error matches the cause of the last attempt and, if ctx ended, ctx.Err() and
// its cause too. Cancellation beats a grant that comes at the same time: such a
// lease is released.
func Acquire(ctx context.Context, l Locker, key string, ttl time.Duration, opts *AcquireOptions) (Lease, error) {
	o, err := opts.withDefaults()
	if err == nil {
		err = Check(key, ttl)
	}
	if err != nil {
		return nil, fmt.Errorf("lock: acquire: %w", err)
	}
	w := waiter{locker: l, key: key, ttl: ttl, opts: o, start: time.Now()}
	defer w.unwatch()
	lease, err := w.wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("lock: acquire %q: %w", key, err)
	}
	return lease, nil
}

// waiter is one Acquire.
type waiter struct {
	locker   Locker
	key      string
	ttl      time.Duration
	opts     AcquireOptions
	start    time.Time
	attempts int
	last     error // of the last attempt that said something about the key

	wake chan struct{} // nil: no news, polling
	stop func()        // ends the watch
}

// errTimeout is the cause of the context that Options.Timeout ends. It is no
// context error, on purpose: the caller's ctx is fine.
var errTimeout = errors.New("lock: acquire timeout")

func (w *waiter) wait(ctx context.Context) (Lease, error) {
	bounded := ctx
	if w.opts.Timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeoutCause(ctx, w.opts.Timeout, errTimeout)
		defer cancel()
	}
	outage := w.opts.Delay
	for bounded.Err() == nil {
		lease, err := w.locker.TryAcquire(bounded, w.key, w.ttl)
		w.attempts++
		switch {
		case err == nil && ctx.Err() != nil:
			// The caller has gone: nobody would release this lease.
			return nil, errors.Join(w.ended(ctx), lease.Release(ctx))
		case err == nil:
			return lease, nil
		case bounded.Err() != nil && ctx.Err() == nil && !errors.Is(err, ErrHeld):
			// Cut short by Timeout: no news of the key, and its deadline must not
			// look like the caller's.
			if w.last == nil {
				w.last = fmt.Errorf("%w: %v", ErrUnavailable, err)
			}
		case errors.Is(err, ErrHeld), errors.Is(err, ErrUnavailable):
			w.last = err
		case bounded.Err() == nil:
			return nil, err // bad input, closed, or unknown: asking again can't help
		}
		if bounded.Err() != nil {
			break
		}
		if w.attempts == w.opts.Attempts {
			return nil, fmt.Errorf("gave up after attempt %d of %d: %w", w.attempts, w.opts.Attempts, w.last)
		}

		pause := w.opts.Delay
		if errors.Is(err, ErrUnavailable) {
			pause = outage
			outage = min(2*outage, w.opts.MaxDelay)
		} else {
			outage = w.opts.Delay
			if w.watch(bounded) {
				continue // ask once more: a release before the watch began sent no news
			}
			if w.wake != nil {
				pause = w.opts.MaxDelay
			}
		}
		w.pause(bounded, w.jittered(pause, err))
	}
	return nil, w.ended(ctx)
}

// ended tells why the wait is over: the caller's ctx, or else Options.Timeout.
func (w *waiter) ended(ctx context.Context) error {
	what := "ended while waiting"
	if ctx.Err() == nil {
		what = fmt.Sprintf("no lease within the timeout of %v", w.opts.Timeout)
	}
	err := fmt.Errorf("%s, after %d attempts in %v", what, w.attempts, time.Since(w.start).Round(time.Millisecond))
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", err, ctx.Err())
		if cause := context.Cause(ctx); !errors.Is(ctx.Err(), cause) {
			err = fmt.Errorf("%w: %w", err, cause)
		}
	}
	if w.last != nil {
		err = fmt.Errorf("%w; last attempt: %w", err, w.last)
	}
	return err
}

// watch begins to watch the key, and reports whether it just did.
func (w *waiter) watch(ctx context.Context) bool {
	if w.wake != nil || w.opts.Attempts > 0 { // counted attempts are spaced by Delay alone
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

func (w *waiter) unwatch() {
	if w.stop != nil {
		w.stop()
	}
}

// jittered spreads the pause, and cuts it to what the holder can have left. A
// holder that has 0 left says nothing.
func (w *waiter) jittered(pause time.Duration, err error) time.Duration {
	spread := time.Duration(w.opts.Jitter * float64(pause) * (2*rand.Float64() - 1))
	pause += spread
	if held, ok := errors.AsType[*HeldError](err); ok && held.RetryAfter > 0 {
		// Not all at the moment of expiry: waiters in step would split the votes.
		late := time.Duration(w.opts.Jitter * float64(w.opts.Delay) * rand.Float64())
		pause = min(pause, held.RetryAfter+late)
	}
	return max(pause, time.Millisecond)
}

func (w *waiter) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.wake:
	case <-ctx.Done():
	}
}
