package lock

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What can go wrong, distinguished with errors.Is through every layer.
var (
	// ErrHeld: another holder has the key. The error is or wraps a [*HeldError].
	ErrHeld = errors.New("lock: held")
	// ErrLost: this lease is over. Definite and final; what it protected must stop.
	ErrLost = errors.New("lock: lease lost")
	// ErrUnavailable: the store can't decide now (no quorum, connection refused).
	// It says nothing about who holds the key. Asking again may help.
	ErrUnavailable = errors.New("lock: store unavailable")
	// ErrRefused: the store refuses for a reason that asking again does not mend:
	// no permission, a missing table, a store without what the lock needs. The
	// error says what to do. Before a locker's first success it is final; after
	// that it is treated as an outage, with a warning, because what worked once may
	// work again. It never ends a held lease early.
	ErrRefused = errors.New("lock: refused by the store")
	// ErrInvalid: an argument or an option can't be used. Nothing was sent.
	ErrInvalid = errors.New("lock: invalid")
	// ErrClosed: the locker was closed.
	ErrClosed = errors.New("lock: closed")
)

// HeldError is the refusal of an attempt because another holds the key: it says who, and
// for how long at most. It matches [ErrHeld].
type HeldError struct {
	Key    string
	Holder string // readable name of the holder; "" where unknown
	// RetryAfter is the longest that the holder can keep the key without
	// renewing. 0 where unknown.
	RetryAfter time.Duration
	// Unconfirmed says that the holder may be dead: this store finds out only by
	// observing the key, and an attempt after RetryAfter shows whether it is.
	Unconfirmed bool
}

func (e *HeldError) Error() string {
	left := ""
	if e.RetryAfter > 0 {
		left = fmt.Sprintf(", free in %v at the latest unless renewed", e.RetryAfter.Round(time.Millisecond))
	}
	return fmt.Sprintf("lock: %q is held by %s%s", e.Key, e.By(), left)
}

// By is Holder for people: in quotes and escaped if it has characters that don't
// print, since anybody who may write to the store can name a holder, and "another
// holder" where it is unknown. Use it in logs and messages.
func (e *HeldError) By() string {
	switch {
	case e.Holder == "":
		return "another holder"
	case !utf8.ValidString(e.Holder), strings.ContainsFunc(e.Holder, func(r rune) bool { return !strconv.IsPrint(r) }):
		return strconv.Quote(e.Holder)
	}
	return e.Holder
}

// Is matches ErrHeld.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// masked is an error that no longer matches what would mislead its reader: a
// context that was not the caller's and, in a loss, an outage, because asking
// again can't help. Text and all other identity stay.
type masked struct{ err error }

func (m masked) Error() string { return m.err.Error() }

func (m masked) Is(target error) bool {
	switch target {
	case context.Canceled, context.DeadlineExceeded:
		return false
	case ErrUnavailable:
		if errors.Is(m.err, ErrLost) {
			return false
		}
	}
	return errors.Is(m.err, target)
}

func (m masked) As(target any) bool { return errors.As(m.err, target) }

// isContextError reports an error that matches the end of some context.
func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

var errNilContext = fmt.Errorf("%w: ctx is nil, want context.Background() where there is none", ErrInvalid)

// ContextError is the error of a call whose ctx has ended: it matches ctx.Err() and
// context.Cause(ctx), whatever that is. nil while ctx is alive. Backends use it, so
// that one rule holds for all of them. Of a nil ctx it is [ErrInvalid].
//
// Lease.Extend makes one exception: a cause that is the loss of another lease is
// shown, but not matched, because it would read as the loss of this one.
func ContextError(ctx context.Context) error {
	if ctx == nil {
		return errNilContext
	}
	err := ctx.Err()
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// endedBy reports whether err is the end of ctx, and so no answer of the store, whatever
// its cause matches.
func endedBy(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// StoreError makes what a store's driver returned the error of a TryAcquire: a
// backend passes every error of its store through it. An error of this package
// stays what it is. Otherwise, if ctx has ended, the error is [ContextError] with
// the driver's own words; and any other error, a timeout of the driver's own
// included, is an outage: it matches [ErrUnavailable], because asking again may
// help. An error that asking again does not mend the backend must wrap as
// [ErrRefused] itself. nil stays nil.
func StoreError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case isDefinite(err) && !(ctx.Err() != nil && errors.Is(err, context.Cause(ctx))):
		// (Where ctx's cause matches too, err may be that cause and no answer of the store:
		// some drivers, net/http's among them, return it as their own error.)
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w; the store: %v", ContextError(ctx), err)
	}
	return outageOf(err)
}

// isDefinite reports whether err is a definite answer, which stands also if ctx has ended
// meanwhile.
func isDefinite(err error) bool {
	for _, definite := range []error{ErrHeld, ErrLost, ErrRefused, ErrInvalid, ErrClosed} {
		if errors.Is(err, definite) {
			return true
		}
	}
	return false
}

// isFinal reports whether an attempt that failed with err would fail again. A refusal is
// final until a lease was granted: what worked once may work again. (An error that
// matches both ErrRefused and ErrUnavailable is a refusal that a locker below takes for an
// outage, because it has granted a lease.)
func isFinal(err error, granted func() bool) bool {
	return errors.Is(err, ErrInvalid) || errors.Is(err, ErrClosed) ||
		errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnavailable) && !granted()
}

// outageOf is an outage for the reason err, of an attempt: a refusal of what the store has
// done before, or an error that this package does not know.
func outageOf(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return masked{err}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, masked{err})
}

// also joins what else went wrong to err; both match.
func also(err, more error) error {
	switch {
	case err == nil:
		return more
	case more == nil:
		return err
	}
	return fmt.Errorf("%w; %w", err, more)
}
