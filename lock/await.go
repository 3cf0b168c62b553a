package lock

import (
	"context"
	"time"
)

// Awaiter is a store that queues by itself: each waiter has a request in the queue
// of the key, and a release hands the key over to the first of them, with nothing to
// ask. [Acquire] prefers it to asking again and to a [Watcher].
//
// An implementation is safe for concurrent use and meets these obligations besides
// those of [Locker], which lock/locktest checks:
//
//  1. A grant is that of a TryAcquire whose request arrived late. All that Locker says
//     of exclusion, tokens, keys, ttls and errors holds. Expiry is counted from before
//     the request was sent that the store granted, or that refreshed it: the time in
//     the queue neither shortens nor lengthens the lease.
//  2. The queue is first in, first out: of two requests that both stand in it, the
//     one that began to wait earlier is granted earlier. Where a store can't hold
//     that always, it says by how much not. A key that is free and has a queue belongs
//     to the first in it: an attempt that comes later is refused.
//  3. ctx ends the wait. Await must return soon after, with [ContextError], and leave
//     neither a hold nor a position, or nothing that outlives the store's cleanup
//     timeout. A grant that meets the end of ctx is either returned or handed back,
//     never left: nobody is granted the key for a call that has returned.
//  4. A waiter that has died costs those behind it nothing where the store can know of
//     it; one that hangs, a short and bounded time that the store says.
//  5. refused is called with who holds the key, soon after the request stands in the
//     queue, and whenever the store knows that another holds it; it may be called
//     with the same again. The *HeldError is never nil. Calls come one at a time, and
//     none after Await has returned. No mutex that the locker needs is held meanwhile,
//     because what is called in the end is the user's ([AcquireOptions].OnWait). It is
//     not called where Await is granted the key without waiting. It may be nil: then
//     nobody wants to know, and all else is the same.
//  6. An outage ends the wait with an error that matches [ErrUnavailable], in about
//     the time in which a TryAcquire fails; short ones may be bridged. The position is
//     given up with it. Where the store can't queue the request, the error may match
//     [ErrHeld]: its caller asks again.
//  7. The lease may start with less than ttl and grow to it by itself: see
//     [Lease].Expiry. On error it is nil.
//
// Each call is a request of its own. A process that waits for a key in several places
// needs one only: that is what [Waiters] is for.
//
// [As] finds an Awaiter in the locker itself or by its method As, and never below a
// decorator that has only Unwrap, because it grants leases: one from below would go
// around the decorator's TryAcquire. Acquire uses TryAcquire then. A decorator that
// knows no keys passes it on by a method As that calls [PassAwaiter]. A type that embeds
// a store and replaces its TryAcquire must replace Await, too.
type Awaiter interface {
	// Await takes key for ttl as soon as its position in the queue is the first and
	// the key is free, or until ctx ends. refused may be nil.
	Await(ctx context.Context, key string, ttl time.Duration, refused func(*HeldError)) (Lease, error)
}

// PassAwaiter is what a decorator that knows no keys returns from its method As, if it
// has no other interface to pass on: where target is an *[Awaiter] and below has one, it
// becomes what wrap makes of that. The decorator's Awaiter must do with leases and
// refusals what its TryAcquire does.
//
//	func (d *decorator) As(target any) bool {
//		return lock.PassAwaiter(target, d.Locker, func(below lock.Awaiter) lock.Awaiter { return awaiter{d, below} })
//	}
func PassAwaiter(target any, below Locker, wrap func(below Awaiter) Awaiter) bool {
	t, ok := target.(*Awaiter)
	return ok && translated(below, t, wrap)
}

// reporter is refused or, where that is nil, a function that does nothing.
func reporter(refused func(*HeldError)) func(*HeldError) {
	if refused == nil {
		return func(*HeldError) {}
	}
	return refused
}

// answers follows one Await for those who count how often a store has answered: with
// a refusal, after which the request stands in the queue, and at the end.
type answers struct {
	begun time.Time
	held  *HeldError // the first refusal; nil: none
	after time.Duration
}

// refused takes in a refusal, and reports whether it is the first.
func (a *answers) refused(held *HeldError) (first bool) {
	if a.held != nil {
		return false
	}
	a.held, a.after = held, time.Since(a.begun)
	return true
}

// last reports whether the end of the Await with err was an answer of the store. One
// that ended while it stood in the queue, because its ctx did, had its answer before.
func (a *answers) last(ctx context.Context, err error) bool {
	return a.held == nil || err == nil || ctx.Err() == nil
}

// ask asks the store once: in its queue, if it has one, and else by an attempt.
func (w *waiter) ask(ctx context.Context) (Lease, error) {
	if w.awaiter == nil {
		w.attempts++
		return w.locker.TryAcquire(ctx, w.key, w.ttl)
	}
	a := answers{begun: time.Now()}
	lease, err := w.awaiter.Await(ctx, w.key, w.ttl, func(held *HeldError) {
		if a.refused(held) {
			w.attempts++
			w.outage = 0 // the store has answered: the next outage is another
		}
		w.last = held
		w.share()
		w.reports.note(held)
	})
	if a.last(ctx, err) {
		w.attempts++
	}
	return lease, err
}

// share lets those behind in the queue know what was answered last.
func (w *waiter) share() {
	if w.position != nil {
		w.position.report(w.last)
	}
}
