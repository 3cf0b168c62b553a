package lock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Observe returns a locker that works as l does and reports to fn every attempt,
// wait, extension, release and loss: see [EventKind]. What never reached the store
// because it was invalid is not reported, nor is an Extend that failed because Release
// had begun. With a nil fn it returns l itself.
//
// fn is called synchronously, by the goroutine whose call it is about, once that call
// is over and before it returns: what fn takes is taken from the lease's time or from
// its keeper's. Calls come from many goroutines at once; those about calls made one
// after another come in that order. No mutex is held meanwhile, so fn may use the
// locker, also to wait for the very key: it asks without a position in the queue then.
// What it does with l itself it receives as events, too. A panic in fn is recovered and
// dropped: it changes nothing for the caller, nor for other observers.
//
// Observers nest in any order with the other decorators, and each receives what
// passes through it: one above a [Semaphore] receives one attempt where one below it
// receives an attempt for each slot. Each observer receives each [Acquire] once.
func Observe(l Locker, fn func(Event)) Locker {
	if fn == nil {
		return l
	}
	return &observed{inner: l, fn: fn}
}

type observed struct {
	inner Locker
	fn    func(Event)
}

// Unwrap lets As find all that is below: keys do not change here.
func (o *observed) Unwrap() Locker { return o.inner }

// As is for an Awaiter, which lock.As does not look for below Unwrap: its leases are to
// be observed, too.
func (o *observed) As(target any) bool {
	return PassAwaiter(target, o.inner, func(a Awaiter) Awaiter { return observedAwaiter{o, a} })
}

func (o *observed) TryAcquire(ctx context.Context, key string, ttl time.Duration) (Lease, error) {
	if err := checkArgs(ctx, o.inner); err != nil {
		return nil, fmt.Errorf("lock: acquire: %w", err)
	}
	start := time.Now()
	lease, err := o.inner.TryAcquire(ctx, key, ttl)
	now := time.Now()
	return o.attempted(key, lease, now, Event{Kind: EventAttempt, Context: ctx, Duration: now.Sub(start), Err: err})
}

// attempted reports an attempt that ended with e, and observes its lease.
func (o *observed) attempted(key string, lease Lease, now time.Time, e Event) (Lease, error) {
	if e.Err != nil {
		if !errors.Is(e.Err, ErrInvalid) {
			e.Key = fullKey(o.inner, key, e.Err)
			observeWithin(e.Context, func() { o.report(e) })
		}
		return nil, e.Err
	}
	e.Key, e.Token = lease.Key(), lease.Token()
	l := &observedLease{Lease: lease, o: o, granted: now, expiry: lease.Expiry()}
	observeWithin(e.Context, func() { o.report(e) })
	return l, nil
}

type observedAwaiter struct {
	o     *observed
	inner Awaiter
}

// Await reports a refusal only when all is over: fn may wait for the key, and would
// keep the request at the head of the queue meanwhile.
func (w observedAwaiter) Await(ctx context.Context, key string, ttl time.Duration, refused func(*HeldError)) (Lease, error) {
	if err := checkArgs(ctx, w.o.inner); err != nil {
		return nil, fmt.Errorf("lock: acquire: %w", err)
	}
	refused = reporter(refused)
	a := answers{begun: time.Now()}
	lease, err := w.inner.Await(ctx, key, ttl, func(held *HeldError) {
		a.refused(held)
		refused(held)
	})
	now := time.Now()
	e := Event{Kind: EventAttempt, Context: ctx, Duration: now.Sub(a.begun), Err: err}
	if a.held != nil {
		_, _ = w.o.attempted(key, nil, now, Event{Kind: EventAttempt, Context: ctx, Duration: a.after, Err: a.held})
		e.Queued = e.Duration - a.after
	}
	if !a.last(ctx, err) {
		return nil, err
	}
	return w.o.attempted(key, lease, now, e)
}

// isObserved reports whether an observer is in l.
func isObserved(l Locker) bool {
	for l != nil {
		if _, ok := l.(*observed); ok {
			return true
		}
		l, _ = below(l, "")
	}
	return false
}

// report keeps what fn does wrong from the lock.
func (o *observed) report(e Event) {
	defer func() { _ = recover() }()
	o.fn(e)
}

type observedLease struct {
	Lease
	o       *observed
	granted time.Time

	mu       sync.Mutex // guards all below; never held across a call
	expiry   time.Time  // the last one that was not zero
	released time.Time  // when Release first began
	lost     bool       // EventLost was reported
	done     bool       // the final EventRelease was reported
}

func (l *observedLease) Extend(ctx context.Context, ttl time.Duration) error {
	l.noteExpiry()
	start := time.Now()
	err := l.Lease.Extend(ctx, ttl)
	now := time.Now()
	switch {
	case errors.Is(err, ErrInvalid):
		return err
	case errors.Is(err, ErrLost):
		l.mu.Lock()
		releasing := !l.released.IsZero()
		l.mu.Unlock()
		if releasing {
			return err // Release reports the loss, if there is one beside the release
		}
		l.reportLost(ctx, now, err)
	}
	l.o.report(Event{
		Kind: EventExtend, Context: ctx, Key: l.Key(), Token: l.Token(),
		Duration: now.Sub(start), Err: err,
	})
	return err
}

func (l *observedLease) Release(ctx context.Context) error { return l.release(ctx, 0, l.Lease.Release) }

// RaiseToken is for the caller that takes the lease, before it works: no event is about it.
func (l *observedLease) RaiseToken(ctx context.Context, least uint64) error {
	return RaiseToken(ctx, l.Lease, least)
}

func (l *observedLease) MaxReleaseAfter() time.Duration { return maxAfter(l.Lease) }

func (l *observedLease) ReleaseAfter(ctx context.Context, d time.Duration) error {
	if err := checkReleaseAfter(d, maxAfter(l.Lease)); err != nil {
		return ReleaseAfter(ctx, l.Lease, d) // which says the same, and changes nothing
	}
	return l.release(ctx, d, func(ctx context.Context) error { return ReleaseAfter(ctx, l.Lease, d) })
}

func (l *observedLease) release(ctx context.Context, after time.Duration, release func(context.Context) error) error {
	l.noteExpiry()
	start := time.Now()
	l.mu.Lock()
	if l.released.IsZero() {
		l.released = start
	}
	l.mu.Unlock()

	err := release(ctx)

	now := time.Now()
	lost := errors.Is(err, ErrLost)
	e := Event{
		Kind: EventRelease, Context: ctx, Key: l.Key(), Token: l.Token(),
		Duration: now.Sub(start), After: after, Err: err,
	}
	l.mu.Lock()
	reported := l.done
	l.done = reported || lost || err == nil
	if err == nil {
		e.Held = l.released.Sub(l.granted)
	}
	l.mu.Unlock()
	if reported {
		return err
	}
	if lost {
		l.reportLost(ctx, now, err)
	}
	l.o.report(e)
	return err
}

// noteExpiry keeps Expiry while there is one: once the lease is lost it is zero. A suspension
// of the machine moves it earlier, so it is read before each call.
func (l *observedLease) noteExpiry() {
	expiry := l.Lease.Expiry()
	if expiry.IsZero() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expiry = expiry
}

// reportLost reports the loss that err is about and that was found now, unless one was
// reported before.
func (l *observedLease) reportLost(ctx context.Context, now time.Time, err error) {
	l.mu.Lock()
	reported, expired, until := l.lost, !now.Before(l.expiry), now
	if expired {
		until = l.expiry
	}
	if !l.released.IsZero() && l.released.Before(until) {
		until = l.released
	}
	l.lost = true
	l.mu.Unlock()
	if reported {
		return
	}
	l.o.report(Event{
		Kind: EventLost, Context: ctx, Key: l.Key(), Token: l.Token(),
		Held: max(0, until.Sub(l.granted)), Expired: expired, Err: err,
	})
}
