package lock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ExtendStarter is a [Lease] that can be extended by callers that do not wait: package
// keepalive renews many leases by it without a goroutine, a context or a timer for each.
// Those of [NewLease] are, where their Term is a [TermExtendStarter]; lock/locktest checks what
// is said here.
type ExtendStarter interface {
	Lease

	// StartExtend begins what Extend does, and returns true. done gets the outcome, once;
	// it may get it before StartExtend has returned. StartExtend returns false, starts
	// nothing and does not call done where Extend would have to wait or would fail, or
	// where no more than margin is left: Extend says why. There is no ctx: a caller that
	// wants no longer to wait calls StopExtend.
	StartExtend(ttl, margin time.Duration, done ExtendDone) bool

	// StopExtend ends an extension that was started and is under way: done gets an error
	// that says nothing of the lease, soon, from another goroutine. It does not wait.
	StopExtend()
}

// ExtendDone gets the outcome of an extension that was started: the lease's new Expiry, as
// Expiry would return it, or the error that Extend would return. It is called by the
// goroutine that has the store's answer: it must not block, nor call the store.
type ExtendDone interface {
	Extended(expiry time.Time, err error)
}

// TermExtendStarter is a [Term] whose ExtendTerm can be started without waiting for its end.
// What Grant says of Extend holds for both. Calls never overlap: an extension is under way
// until done was called. done may be called by any goroutine, with the new expiry or the
// error; no mutex that a call of the Term takes may be held then.
type TermExtendStarter interface {
	Term

	// StartExtendTerm asks the store for ttl from now. It has no ctx, and bounds itself:
	// done is called within the time that the Term gives its store.
	StartExtendTerm(key string, token uint64, ttl time.Duration, done ExtendDone)

	// StopExtendTerm has done called with an error soon, if an extension is under way. It
	// does not call it itself.
	StopExtendTerm()
}

var _ ExtendStarter = (*lease)(nil)

// extension is one that was started.
type extension struct {
	l    *lease
	ttl  time.Duration
	base time.Duration // suspension as it was before the request
	done ExtendDone
}

func (l *lease) StartExtend(ttl, margin time.Duration, done ExtendDone) bool {
	if checkTTL(ttl) != nil {
		return false
	}
	l.mu.Lock()
	term, ok := l.term.(TermExtendStarter) // not one that is to grow: an Extend ends that
	if !ok || l.busy || l.releasing {
		l.mu.Unlock()
		return false
	}
	base := l.suspension()
	// It goes on only while the lease is held, with more than margin left until its deadline,
	// which a suspension has made earlier.
	if !l.heldUntil(l.deadlineAt(base).Add(-margin)) {
		l.mu.Unlock()
		return false
	}
	l.cancel = term.StopExtendTerm
	l.begin()
	term.StartExtendTerm(l.key, l.token, ttl, &extension{l, ttl, base, done})
	l.mu.Lock()
	late := l.releasing && l.busy // a release may have called cancel before there was anything to stop
	l.mu.Unlock()
	if late {
		term.StopExtendTerm()
	}
	return true
}

func (l *lease) StopExtend() {
	l.mu.Lock()
	stop := l.cancel
	l.mu.Unlock()
	if stop != nil {
		stop() // this one may be over: then the next one may fail, which says nothing of the lease, either
	}
}

// Extended takes in the store's answer.
func (e *extension) Extended(expiry time.Time, err error) {
	l := e.l
	l.mu.Lock()
	if l.busy, l.cancel = false, nil; l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
	suspension := l.suspension()
	err = l.extended(context.Background(), extendOutcome{e.ttl, e.base, suspension, expiry, err})
	expiry = l.deadlineAt(suspension)
	l.mu.Unlock()
	if err != nil {
		expiry, err = time.Time{}, fmt.Errorf("lock: extend %q (token %d): %w", l.key, l.Token(), err)
	}
	e.done.Extended(expiry, err)
}

// extendOutcome is what the store answered to an extension.
type extendOutcome struct {
	ttl        time.Duration
	base       time.Duration // suspension as it was before the request
	suspension time.Duration // as it is now
	expiry     time.Time
	err        error
}

// extended decides what an extension's answer means. ctx is its caller's. mu is held, and no
// call to the store is under way.
func (l *lease) extended(ctx context.Context, o extendOutcome) error {
	switch err := o.err; {
	case errors.Is(err, ErrLost) && !lostElsewhere(ctx):
		return l.lose(err) // also while a Release waits for this: it returns the loss, too
	case l.releasing:
		return errReleased
	case !l.heldUntil(l.deadlineAt(o.suspension)):
		// The old deadline passed while the round was under way: somebody may
		// have had the key in between, whatever the answer says.
		if err != nil {
			return l.lose(fmt.Errorf("%w; last extend: %w", errExpired, err))
		}
		return l.lose(fmt.Errorf("%w before the store answered", errExpired))
	case err != nil && lostElsewhere(ctx):
		return fmt.Errorf("%w; the store: %v", extendCut(ctx), err)
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%w; the store: %w", extendCut(ctx), masked{err})
	case err != nil:
		return StoreError(ctx, err) // says nothing: the old deadline stands
	case !monotonic(o.expiry) && monotonic(time.Now()):
		// By the wall clock, a step of it would move the lease's end. A mistake in the
		// backend's code, as in NewLease; but a panic here would come long after.
		return fmt.Errorf("%w: the backend's Extend returned an expiry without a monotonic reading: count it from time.Now", ErrInvalid)
	case !time.Now().Before(o.expiry):
		return l.lose(fmt.Errorf("%w: extended with no time left (ttl %v)", ErrLost, o.ttl))
	}
	// The store confirmed the term while it was certain, so it was never
	// anybody else's, and holds until ttl after this request began.
	l.endGrowth()
	l.expiry, l.base = o.expiry, o.base
	return nil
}
