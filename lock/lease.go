package lock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

var (
	_ Lease         = (*lease)(nil)
	_ AfterReleaser = (*lease)(nil)
	_ TokenRaiser   = (*lease)(nil)
)

type lease struct {
	key            string
	token          uint64        // that was granted: the term's name in its store
	raised         atomic.Uint64 // by RaiseToken; 0: it was not
	releaseTimeout time.Duration
	suspended      func() time.Duration
	start          time.Time     // before the request; zero where maxAfter is 0
	maxAfter       time.Duration // 0: no ReleaseAfter

	mu     sync.Mutex // guards all below; never held across a call to the store
	term   Term       // a *growth while the lease is to grow
	expiry time.Time  // zero once lost
	// base is what suspended said when expiry was counted: only a suspension after that
	// makes the deadline earlier than expiry.
	base      time.Duration
	lost      error              // why the lease is definitely over; nil while it may stand
	idle      chan struct{}      // closed when busy ends; nil if nobody waits
	cancel    context.CancelFunc // ends the Extend under way; nil if there is none
	busy      bool               // a call to the store is under way
	releasing bool               // Release was called: no Extend succeeds any more
	done      bool               // Release has its final result, which is lost
	// after is for how long, counted from start, the store is to keep the key held;
	// notAfter unless ReleaseAfter was called while the hold was certain.
	after time.Duration
}

// notAfter is lease.after where only Release was called.
const notAfter time.Duration = -1

func (l *lease) Key() string   { return l.key }
func (l *lease) Token() uint64 { return max(l.token, l.raised.Load()) }

func (l *lease) Expiry() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.releasing {
		// The store may free the key at any moment from here on, also in a release
		// that fails: the hold is not certain any more.
		return time.Time{}
	}
	return l.deadline()
}

// deadline is expiry less what the machine was suspended since. mu is held.
func (l *lease) deadline() time.Time { return l.deadlineAt(l.suspension()) }

// suspension is for how long the machine has been suspended, counted as base is.
func (l *lease) suspension() time.Duration {
	if l.suspended == nil {
		return 0
	}
	return l.suspended()
}

// deadlineAt is the deadline as of a reading of suspension. mu is held.
func (l *lease) deadlineAt(suspension time.Duration) time.Time {
	if l.expiry.IsZero() {
		return l.expiry
	}
	return l.expiry.Add(-max(0, suspension-l.base))
}

// held reports whether the hold is certain now. mu is held.
func (l *lease) held() bool { return l.heldUntil(l.deadline()) }

// heldUntil is held for a deadline just read. mu is held.
func (l *lease) heldUntil(deadline time.Time) bool {
	// True only strictly before the deadline, which was counted from before the
	// request that the store granted, on a clock that nobody can set. Until then
	// the store refuses all others. A zero deadline is never after now.
	return l.lost == nil && time.Until(deadline) > 0
}

// lose makes the loss final. Each later call returns it, so it must not match the
// end of one call's ctx. mu is held.
func (l *lease) lose(cause error) error {
	if l.lost == nil {
		l.endGrowth()
		l.lost = masked{cause}
		l.expiry = time.Time{}
	}
	return l.lost
}

// wait waits until no call to the store is under way, or ctx ends; an extend does
// not wait once it has lost to a release. mu is held, but given up meanwhile.
func (l *lease) wait(ctx context.Context, extend bool) error {
	for l.busy && !(extend && l.releasing) {
		if l.idle == nil {
			l.idle = make(chan struct{})
		}
		idle := l.idle
		l.mu.Unlock()
		var err error
		select {
		case <-idle:
		case <-ctx.Done():
			err = ctx.Err()
		}
		l.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// begin starts a call to the store. mu is held, and is not when it returns.
func (l *lease) begin() {
	l.busy = true
	l.mu.Unlock()
}

// end ends the call that begin started, also if the store's code panicked: it takes mu
// again and wakes those who wait.
func (l *lease) end() {
	l.mu.Lock()
	l.busy, l.cancel = false, nil
	if l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

var (
	errExpired  = fmt.Errorf("%w: expired", ErrLost)
	errReleased = fmt.Errorf("%w: released", ErrLost)
)

func (l *lease) Extend(ctx context.Context, ttl time.Duration) error {
	err := checkTTL(ttl)
	if err == nil && ctx == nil {
		err = errNilContext
	}
	if err != nil {
		return fmt.Errorf("lock: extend %q: %w", l.key, err)
	}
	if err := l.extend(ctx, ttl, nil); err != nil {
		return fmt.Errorf("lock: extend %q (token %d): %w", l.key, l.Token(), err)
	}
	return nil
}

// extend is Extend or, with by, a growth, which is not made where an Extend was.
func (l *lease) extend(ctx context.Context, ttl time.Duration, by *growth) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.wait(ctx, true); err != nil {
		return extendCut(ctx)
	}
	// From before the request, like the new expiry that is counted from it.
	base := l.suspension()
	deadline := l.deadlineAt(base)
	switch {
	case by != nil && by != l.growth():
		return nil // it has what its user asked for
	case l.releasing:
		return errReleased
	case !l.heldUntil(deadline):
		// No I/O: what the store would say now can not make the gap undone.
		return l.lose(errExpired)
	case ctx.Err() != nil:
		return extendCut(ctx)
	}

	// An answer after the deadline is worth nothing, so nobody waits for it.
	// (The deadline is read again when the answer has come: a suspension meanwhile has
	// moved it earlier, which this context can't know.)
	bounded, cancel := context.WithDeadline(ctx, deadline)
	l.cancel = cancel
	expiry, err := l.askExtend(bounded, ttl)
	cancel()

	return l.extended(ctx, extendOutcome{ttl, base, l.suspension(), expiry, err})
}

// askExtend asks the store, with mu released meanwhile.
func (l *lease) askExtend(ctx context.Context, ttl time.Duration) (time.Time, error) {
	term := l.term
	l.begin()
	defer l.end()
	return term.ExtendTerm(ctx, l.key, l.token, ttl)
}

// extendCut is the error of an extend whose ctx ended. A cause that describes
// another lease's loss, such as a Keeper's, must not read as the loss of this one.
func extendCut(ctx context.Context) error {
	if lostElsewhere(ctx) {
		return fmt.Errorf("%w: %v", ctx.Err(), context.Cause(ctx))
	}
	return ContextError(ctx)
}

// lostElsewhere reports whether ctx ended because another lease was lost. A store's
// error may carry that cause, and then says nothing of this lease: the next Extend
// will know.
func lostElsewhere(ctx context.Context) bool {
	return ctx.Err() != nil && errors.Is(context.Cause(ctx), ErrLost)
}

func (l *lease) Release(ctx context.Context) error {
	if err := l.release(ctx, notAfter); err != nil {
		return fmt.Errorf("lock: release %q (token %d): %w", l.key, l.Token(), err)
	}
	return nil
}

func (l *lease) MaxReleaseAfter() time.Duration { return l.maxAfter }

func (l *lease) ReleaseAfter(ctx context.Context, d time.Duration) error {
	err := checkReleaseAfter(d, l.maxAfter)
	if err == nil {
		err = l.release(ctx, d)
	}
	if err != nil {
		return fmt.Errorf("lock: release %q (token %d) after %v: %w", l.key, l.Token(), d, err)
	}
	return nil
}

// ReleaseContext is the context for a release. Programs release when their ctx has
// ended, because that is when they stop: so ctx's end does not end it, and gives it
// values only. It ends after timeout, or at ctx's deadline where that lies ahead and
// is earlier: a caller who gives a release 100ms waits no longer.
func ReleaseContext(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	end := time.Now().Add(timeout)
	if deadline, ok := aheadOf(ctx); ok && deadline.Before(end) {
		end = deadline
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}

// aheadOf is the deadline of a ctx that is alive.
func aheadOf(ctx context.Context) (deadline time.Time, ok bool) {
	deadline, ok = ctx.Deadline()
	return deadline, ok && ctx.Err() == nil && time.Now().Before(deadline)
}

func (l *lease) release(ctx context.Context, after time.Duration) error {
	if ctx == nil {
		return errNilContext
	}
	if l.releaseTimeout < 0 {
		// An earlier call to the store bounds itself. A caller whose ctx has a deadline
		// waits for it no longer than until then.
		bound, cancel := context.Background(), func() {}
		if deadline, ok := aheadOf(ctx); ok {
			bound, cancel = context.WithDeadline(bound, deadline)
		}
		defer cancel()
		return l.releaseOnce(bound, ctx, after)
	}
	ctx, cancel := ReleaseContext(ctx, l.releaseTimeout)
	defer cancel()
	return l.releaseOnce(ctx, ctx, after)
}

// releaseOnce is apart from release because a function with few defers is quick.
// bound ends the wait, ctx is for the store.
func (l *lease) releaseOnce(bound, ctx context.Context, after time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releasing = true // from here on no Extend succeeds
	l.endGrowth()
	if l.cancel != nil {
		l.cancel()
	}
	// An Extend under way is waited for: sent to the store after the release it
	// could bring the term back.
	if err := l.wait(bound, false); err != nil {
		return fmt.Errorf("%w: an earlier call to the store has not returned in the time for a release", ErrUnavailable)
	}
	if l.done {
		return l.lost
	}
	if !l.held() {
		l.lose(errExpired)
	} else if after != notAfter {
		l.after = after
	}
	// If the hold was certain when ReleaseAfter was called, the store is asked for
	// ReleaseAfter from then on, also by a Release: it may have applied the first call,
	// and a Release in a defer must not undo that. If the hold was over by then, what
	// is left is removed, as Release does.

	err := l.askRelease(ctx)
	switch {
	case l.lost != nil: // before: that it was cleaned up changes nothing
	case errors.Is(err, ErrLost):
		l.lose(err)
	case err == nil:
	case errors.Is(err, ErrUnavailable):
		return masked{err} // no end of a context in it is the caller's
	case bound.Err() != nil || isContextError(err):
		return fmt.Errorf("%w: no answer in time: %w", ErrUnavailable, masked{err})
	default:
		return err
	}
	l.done = true
	return l.lost
}

// askRelease asks the store, with mu released meanwhile.
func (l *lease) askRelease(ctx context.Context) error {
	until, lasts := l.lasts()
	term := l.term
	l.begin()
	defer l.end()
	if lasts {
		return term.(TermAfterReleaser).ReleaseTermAfter(ctx, l.key, l.token, until)
	}
	return term.ReleaseTerm(ctx, l.key, l.token)
}

// lasts reports whether the store is to keep the key held after the release, and until
// when. mu is held.
func (l *lease) lasts() (until time.Time, ok bool) {
	if l.after == notAfter {
		return time.Time{}, false
	}
	// This process's clock stood still while the machine was suspended; the store's
	// did not.
	until = l.start.Add(l.after - l.suspension())
	return until, time.Until(until) > 0
}
