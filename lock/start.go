package lock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ExtendStarter is a [Lease] that can be extended by callers that do not wait: package
// keepalive renews many leases by it without a goroutine, a context or a timer for each.
// Those of [NewLease] are, where their Term is a [TermExtendStarter].
type ExtendStarter interface {
	Lease

	// StartExtend does what Extend does, and reports to done what came of it: once, also
	// before it returns. It reports false, and nothing to done, where Extend would have to
	// wait or to fail, or where no more than margin is left: Extend says why. The caller
	// bounds it by StopExtend.
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

// TermExtendStarter is a [Term] whose ExtendTerm can be started. What Grant says of Extend
// holds for both, as does that calls never overlap: an extension is under way until done was
// called. The new expiry goes to done, from whatever goroutine, and no mutex that a call of
// the Term takes may be held then.
type TermExtendStarter interface {
	Term

	// StartExtendTerm bounds itself, as ExtendTerm does that ends soon after its ctx.
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
	base time.Duration // of suspension, from before the request
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
	// Held now, strictly before the deadline as it is after a suspension, and by the margin
	// that the caller goes by.
	if !l.heldUntil(l.deadlineAt(base).Add(-margin)) {
		l.mu.Unlock()
		return false
	}
	l.cancel = term.StopExtendTerm
	l.begin()
	term.StartExtendTerm(l.key, l.token, ttl, &extension{l, ttl, base, done})
	l.mu.Lock()
	late := l.releasing && l.busy // the release may have stopped it before it was started
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
		stop() // at worst that of the next one, which says nothing then, either
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
	base       time.Duration // of suspension, from before the request
	suspension time.Duration // now
	expiry     time.Time
	err        error
}

// extended decides what an extension's answer means. ctx is its caller's. mu is held, and no
// call to the store is under way.
func (l *lease) extended(ctx context.Context, o extendOutcome) error {
	switch err := o.err; {
	case errors.Is(err, ErrLost) && !lostElsewhere(ctx):
		return l.lose(err) // also for the Release that cut this short
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
