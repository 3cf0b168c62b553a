package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// DefaultReleaseTimeout bounds a Release whose Grant does not say otherwise.
const DefaultReleaseTimeout = 5 * time.Second

// Grant is what a backend knows of a hold that its store has just granted.
type Grant struct {
	Key    string
	Token  uint64    // 1 or more
	Expiry time.Time // request start + ttl - drift, from a time.Now of this process

	// Extend asks the store for ttl from now and returns the new Expiry, counted
	// from before its request. An error matching ErrLost means that the store
	// says definitely that this term is over; any other error says nothing. It
	// must return soon after ctx ends; ctx ends at the present Expiry at the
	// latest. Calls never overlap with each other or with Release.
	Extend func(ctx context.Context, ttl time.Duration) (time.Time, error)

	// Release removes what this term left in the store, and nothing of any other
	// term. ctx is never cancelled by the caller of Lease.Release; it ends after
	// ReleaseTimeout (but see there for -1). It is called again only if it failed.
	// An error matching ErrLost means that another term has or had the key; nil is
	// right also where the term is simply gone.
	Release func(ctx context.Context) error

	// ReleaseAfter, if the store can do it, ends this term without freeing the key:
	// the store keeps it held until the given moment, by itself, and no longer. What
	// is said of Release holds for it. until is on this process's monotonic clock,
	// and lies ahead when the call begins. It must not revive a term that is over,
	// and is called again where a reply was lost. It is what makes the lease an
	// [AfterReleaser], and needs Start.
	ReleaseAfter func(ctx context.Context, until time.Time) error

	// Start is when the request that was granted began, from a time.Now of this
	// process. ReleaseAfter counts from it; nothing else uses it.
	Start time.Time

	// MaxReleaseAfter is the longest after Start that ReleaseAfter may keep the key.
	// Defaults to MaxTTL.
	MaxReleaseAfter time.Duration

	// Term, if set, takes the place of Extend and Release, and of ReleaseAfter if it
	// is a [TermAfterReleaser]: the same as methods, for a backend that counts
	// allocations.
	Term Term

	// ReleaseTimeout bounds one call of Release. Defaults to
	// DefaultReleaseTimeout; -1 means that Release bounds itself: it gets its
	// caller's ctx, which may have ended and must not stop it.
	ReleaseTimeout time.Duration

	// Suspended, if set, tells for how long the machine has been suspended since
	// before the request: Go's clock stands still meanwhile, the store's does
	// not. Expiry moves earlier by it.
	Suspended func() time.Duration
}

// Term is one hold as its store sees it, named by key and token. What Grant
// says of Extend and Release holds for it.
type Term interface {
	ExtendTerm(ctx context.Context, key string, token uint64, ttl time.Duration) (time.Time, error)
	ReleaseTerm(ctx context.Context, key string, token uint64) error
}

// TermAfterReleaser is a [Term] that can do what Grant says of ReleaseAfter.
type TermAfterReleaser interface {
	Term
	ReleaseTermAfter(ctx context.Context, key string, token uint64, until time.Time) error
}

// NewLease makes a [Lease] of a granted hold. It does the local half of the
// obligations, once for all backends: expiry by the monotonic clock, final
// results that stay final, the race of Extend and Release, and contexts that
// ended. What is left to a backend is two requests to its store.
//
// It panics if g has no key, no token, no expiry on the monotonic clock, or lacks
// a function, or the Start that ReleaseAfter needs: that is a mistake in the
// backend's code, not an input.
func NewLease(g Grant) Lease {
	switch {
	case g.Key == "":
		panic("lock: NewLease: Grant.Key is empty")
	case g.Token == 0:
		panic("lock: NewLease: Grant.Token is 0, want 1 or more")
	case g.Expiry.IsZero():
		panic("lock: NewLease: Grant.Expiry is the zero time")
	case !monotonic(g.Expiry) && monotonic(time.Now()): // a synctest bubble's time has none
		panic("lock: NewLease: Grant.Expiry has no monotonic reading: count it from time.Now, not from a store's clock")
	case g.Term == nil && (g.Extend == nil || g.Release == nil):
		panic("lock: NewLease: Grant needs Extend and Release, or Term")
	}
	if g.Term == nil {
		g.Term = funcs{g.Extend, g.Release}
		if g.ReleaseAfter != nil {
			g.Term = lastingFuncs{funcs{g.Extend, g.Release}, g.ReleaseAfter}
		}
	}
	if g.ReleaseTimeout == 0 {
		g.ReleaseTimeout = DefaultReleaseTimeout
	}
	l := &lease{
		key: g.Key, token: g.Token, term: g.Term,
		releaseTimeout: g.ReleaseTimeout, suspended: g.Suspended, expiry: g.Expiry, after: notAfter,
	}
	if _, ok := g.Term.(TermAfterReleaser); ok {
		switch {
		case g.Start.IsZero():
			panic("lock: NewLease: Grant.Start is the zero time, want when the request began: ReleaseAfter counts from it")
		case !monotonic(g.Start) && monotonic(time.Now()):
			panic("lock: NewLease: Grant.Start has no monotonic reading: take it from time.Now, not from a store's clock")
		case g.MaxReleaseAfter < 0:
			panic("lock: NewLease: Grant.MaxReleaseAfter is negative")
		}
		l.start, l.maxAfter = g.Start, cmp.Or(g.MaxReleaseAfter, MaxTTL)
	}
	return l
}

// monotonic reports whether t has a monotonic reading, which Round strips.
func monotonic(t time.Time) bool { return t != t.Round(0) }

// funcs makes a Term of a Grant's two closures, which know their term themselves.
type funcs struct {
	extend  func(ctx context.Context, ttl time.Duration) (time.Time, error)
	release func(ctx context.Context) error
}

func (f funcs) ExtendTerm(ctx context.Context, _ string, _ uint64, ttl time.Duration) (time.Time, error) {
	return f.extend(ctx, ttl)
}

func (f funcs) ReleaseTerm(ctx context.Context, _ string, _ uint64) error { return f.release(ctx) }

// lastingFuncs are funcs of a Grant that has ReleaseAfter.
type lastingFuncs struct {
	funcs
	releaseAfter func(ctx context.Context, until time.Time) error
}

func (f lastingFuncs) ReleaseTermAfter(ctx context.Context, _ string, _ uint64, until time.Time) error {
	return f.releaseAfter(ctx, until)
}

var (
	_ Lease         = (*lease)(nil)
	_ AfterReleaser = (*lease)(nil)
)

type lease struct {
	key            string
	token          uint64
	term           Term
	releaseTimeout time.Duration
	suspended      func() time.Duration
	start          time.Time     // before the request; zero where maxAfter is 0
	maxAfter       time.Duration // 0: no ReleaseAfter

	mu     sync.Mutex // guards all below; never held across a call to the store
	expiry time.Time  // zero once lost
	// base is what suspended said when expiry was counted: only what came after
	// shortens it.
	base      time.Duration
	lost      error              // why the lease is definitely over; nil while it may stand
	idle      chan struct{}      // closed when busy ends; nil if nobody waits
	cancel    context.CancelFunc // ends the Extend under way; nil if there is none
	busy      bool               // a call to the store is under way
	releasing bool               // Release was called: no Extend succeeds any more
	done      bool               // Release has its final result, which is lost
	// after is until how long after start the store keeps the key; notAfter unless
	// ReleaseAfter was called while the hold was certain.
	after time.Duration
}

// notAfter is lease.after where only Release was called.
const notAfter time.Duration = -1

func (l *lease) Key() string   { return l.key }
func (l *lease) Token() uint64 { return l.token }

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

// end follows it, also if the store's code panicked: it takes mu again and wakes
// those who wait.
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
	if err := checkTTL(ttl); err != nil {
		return fmt.Errorf("lock: extend %q: %w", l.key, err)
	}
	if err := l.extend(ctx, ttl); err != nil {
		return fmt.Errorf("lock: extend %q (token %d): %w", l.key, l.token, err)
	}
	return nil
}

func (l *lease) extend(ctx context.Context, ttl time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.wait(ctx, true); err != nil {
		return extendCut(ctx)
	}
	// From before the request, like the new expiry that is counted from it.
	base := l.suspension()
	deadline := l.deadlineAt(base)
	switch {
	case l.releasing:
		return errReleased
	case !l.heldUntil(deadline):
		// No I/O: what the store would say now can not make the gap undone.
		return l.lose(errExpired)
	case ctx.Err() != nil:
		return extendCut(ctx)
	}

	// An answer after the deadline is worth nothing, so nobody waits for it.
	// (The deadline is known again at the end; a suspension only moves it earlier.)
	bounded, cancel := context.WithDeadline(ctx, deadline)
	l.cancel = cancel
	expiry, err := l.askExtend(bounded, ttl)
	cancel()

	switch {
	case errors.Is(err, ErrLost):
		return l.lose(err) // also for the Release that cut this short
	case l.releasing:
		return errReleased
	case !l.held():
		// The old deadline passed while the round was under way: somebody may
		// have had the key in between, whatever the answer says.
		if err != nil {
			return l.lose(fmt.Errorf("%w; last extend: %w", errExpired, err))
		}
		return l.lose(fmt.Errorf("%w before the store answered", errExpired))
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%w; the store: %w", extendCut(ctx), masked{err})
	case err != nil && isContextError(err):
		// A timeout of the store's own must not look like the end of ctx.
		return fmt.Errorf("%w: %w", ErrUnavailable, masked{err})
	case err != nil:
		return err // says nothing: the old deadline stands
	case !time.Now().Before(expiry):
		return l.lose(fmt.Errorf("%w: extended with no time left (ttl %v)", ErrLost, ttl))
	}
	// The store confirmed the term while it was certain, so it was never
	// anybody else's, and holds until ttl after this request began.
	l.expiry, l.base = expiry, base
	return nil
}

// askExtend asks the store, with mu released meanwhile.
func (l *lease) askExtend(ctx context.Context, ttl time.Duration) (time.Time, error) {
	l.begin()
	defer l.end()
	return l.term.ExtendTerm(ctx, l.key, l.token, ttl)
}

// extendCut is the error of an extend whose ctx ended. A cause that tells of
// another lease's loss, such as a Keeper's, must not read as the loss of this one.
func extendCut(ctx context.Context) error {
	err := contextError(ctx)
	if errors.Is(err, ErrLost) {
		return fmt.Errorf("%w: %v", ctx.Err(), context.Cause(ctx))
	}
	return err
}

func (l *lease) Release(ctx context.Context) error {
	if err := l.release(ctx, notAfter); err != nil {
		return fmt.Errorf("lock: release %q (token %d): %w", l.key, l.token, err)
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
		return fmt.Errorf("lock: release %q (token %d) after %v: %w", l.key, l.token, d, err)
	}
	return nil
}

func (l *lease) release(ctx context.Context, after time.Duration) error {
	// Programs release when their ctx has ended: only its values count.
	if l.releaseTimeout < 0 {
		return l.releaseOnce(context.Background(), ctx, after)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.releaseTimeout)
	defer cancel()
	return l.releaseOnce(ctx, ctx, after)
}

// releaseOnce is apart from release because a function with few defers is quick.
// bound ends the wait, ctx is for the store.
func (l *lease) releaseOnce(bound, ctx context.Context, after time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releasing = true // from here on no Extend succeeds
	if l.cancel != nil {
		l.cancel()
	}
	// An Extend under way is waited for: sent to the store after the release it
	// could bring the term back.
	if err := l.wait(bound, false); err != nil {
		return fmt.Errorf("%w: an earlier call to the store has not returned within %v", ErrUnavailable, l.releaseTimeout)
	}
	if l.done {
		return l.lost
	}
	if !l.held() {
		l.lose(errExpired)
	} else if after != notAfter {
		l.after = after
	}
	// A hold that was certain when ReleaseAfter was first called stays as long as
	// that said, whatever is called afterwards: the store may have applied the first
	// call, and a Release in a defer must not undo it. One that was over by then is
	// removed, as Release does.

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
	l.begin()
	defer l.end()
	if lasts {
		return l.term.(TermAfterReleaser).ReleaseTermAfter(ctx, l.key, l.token, until)
	}
	return l.term.ReleaseTerm(ctx, l.key, l.token)
}

// lasts reports whether the store is to keep the key, and until when. mu is held.
func (l *lease) lasts() (until time.Time, ok bool) {
	if l.after == notAfter {
		return time.Time{}, false
	}
	// This process's clock stood still while the machine was suspended; the store's
	// did not.
	until = l.start.Add(l.after - l.suspension())
	return until, time.Until(until) > 0
}
