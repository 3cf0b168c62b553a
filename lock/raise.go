package lock

import (
	"context"
	"errors"
	"fmt"
)

// MaxRaise is the largest token that [RaiseToken] takes. A store may take less.
const MaxRaise = 1 << 62

// TokenRaiser is what a lease may offer beyond [Lease]: a larger token than it was
// granted. Use it by [RaiseToken].
type TokenRaiser interface {
	// RaiseToken raises the token of this lease to least or more, in its store as well:
	// after it has returned nil, Token is what the lease has from then on, and all later
	// leases of the key have larger ones. Where Token is as large already, the store is
	// not asked.
	// Call it before anybody has been given the token.
	//
	// It changes nothing else: neither who holds the key, nor until when. A request that
	// arrives late, or twice, or after the lease is over, must raise at most what this very
	// lease has, and must never lower a count. Its errors are those of Extend; where it
	// failed, the store may have raised the token all the same, and Token says the old one.
	// A least above MaxRaise, or above what the store can count, is ErrInvalid.
	RaiseToken(ctx context.Context, least uint64) error
}

// TermTokenRaiser is a [Term] that can do what Grant says of RaiseToken. Token is the one
// that the term was granted with, also after it was raised.
type TermTokenRaiser interface {
	Term
	RaiseTermToken(ctx context.Context, key string, token, least uint64) (uint64, error)
}

// RaiseToken raises the token of a lease to least or more, as [TokenRaiser] says: so the
// tokens of two stores can be made to follow one another, as [Both] does. It is also for
// a store that has lost its counts, where the resource remembers a larger token: acquire
// the key, raise the token above it, and release.
//
// The error of a lease that can't do it matches [errors.ErrUnsupported]. With a least of 0
// nothing is raised: such a call finds out whether the lease can do it.
func RaiseToken(ctx context.Context, lease Lease, least uint64) error {
	if lease == nil {
		return fmt.Errorf("lock: raise token to %d: %w: lease is nil", least, ErrInvalid)
	}
	r, ok := lease.(TokenRaiser)
	if !ok {
		return fmt.Errorf("lock: raise token of %q (token %d) to %d: %w", lease.Key(), lease.Token(), least, errNoRaise)
	}
	return r.RaiseToken(ctx, least)
}

var errNoRaise = fmt.Errorf("this store can't raise a token: %w", errors.ErrUnsupported)

// RaiseToken implements [TokenRaiser], where the term can.
func (l *lease) RaiseToken(ctx context.Context, least uint64) error {
	err := errNoRaise
	if ctx == nil {
		err = errNilContext
	} else if raiser, ok := l.raiser(); ok {
		err = l.raise(ctx, raiser, least)
	}
	if err != nil {
		return fmt.Errorf("lock: raise token of %q (token %d) to %d: %w", l.key, l.Token(), least, err)
	}
	return nil
}

// raiser is the term as one that can raise its token.
func (l *lease) raiser() (TermTokenRaiser, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	term := l.term
	if g := l.growth(); g != nil {
		term = g.Term
	}
	switch f := term.(type) {
	case funcs:
		return f, f.raise != nil
	case lastingFuncs:
		return f, f.raise != nil
	}
	r, ok := term.(TermTokenRaiser)
	return r, ok
}

func (l *lease) raise(ctx context.Context, raiser TermTokenRaiser, least uint64) error {
	if least > MaxRaise {
		return fmt.Errorf("%w: want at most %d", ErrInvalid, uint64(MaxRaise))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.wait(ctx, true); err != nil {
		return extendCut(ctx)
	}
	deadline := l.deadline()
	switch {
	case l.releasing:
		return errReleased
	case !l.heldUntil(deadline):
		return l.lose(errExpired)
	case l.Token() >= least:
		return nil // the store gives all later leases larger tokens without being asked
	case ctx.Err() != nil:
		return extendCut(ctx)
	}
	bounded, cancel := context.WithDeadline(ctx, deadline)
	l.cancel = cancel
	token, err := l.askRaise(bounded, raiser, least)
	cancel()
	switch {
	case errors.Is(err, ErrLost) && !lostElsewhere(ctx):
		return l.lose(err)
	case l.releasing:
		return errReleased
	case !l.held():
		// Another may hold the key by now: a token of this lease is of no use to anybody.
		return l.lose(fmt.Errorf("%w before its token was raised", errExpired))
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%w; the store: %w", extendCut(ctx), masked{err})
	case err != nil:
		return StoreError(ctx, err)
	case token < least:
		return fmt.Errorf("%w: the store answers token %d", ErrUnavailable, token)
	}
	l.raised.Store(token)
	return nil
}

// askRaise asks the store, with mu released meanwhile.
func (l *lease) askRaise(ctx context.Context, raiser TermTokenRaiser, least uint64) (uint64, error) {
	l.begin()
	defer l.end()
	return raiser.RaiseTermToken(ctx, l.key, l.token, least)
}
