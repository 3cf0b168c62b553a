package lock

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"
)

// Bounds that Check enforces.
const (
	MaxKeyLen = 512                  // bytes
	MinTTL    = time.Millisecond     // stores count in milliseconds; what a busy machine can renew is 1s or more
	MaxTTL    = 365 * 24 * time.Hour // keeps every deadline on the monotonic clock
)

// Locker hands out leases on named resources.
//
// An implementation is safe for concurrent use and meets these obligations,
// which lock/locktest checks:
//
//  1. Exclusion. While a lease of a key is within its Expiry, no other
//     TryAcquire of that key succeeds, from this process or any other. It is
//     not reentrant: the holder asking again is refused like anyone else, with
//     an error matching [ErrHeld].
//  2. ctx bounds the attempt, never the lease. TryAcquire must return soon
//     after ctx ends; a lease that it returned is not touched by ctx any more.
//  3. An attempt that fails or is cancelled must leave nothing held, or nothing
//     that outlives the implementation's cleanup timeout; also when the request
//     was applied and only its reply was lost. On error the Lease is nil.
//  4. Expiry is counted from before the request was sent: request start + ttl -
//     what the store's clock may run faster. Counting from the reply would let
//     a slow success hold longer than the store does. A lease is never returned
//     with no time left.
//  5. Tokens are 1 or more, and each lease of a key has a larger one than all
//     leases of that key before it: across release, expiry and loss.
//  6. Keys are any non-empty UTF-8 of up to 512 bytes, compared byte for byte:
//     two names must never share a lock. Bad keys and ttls fail with an error
//     matching [ErrInvalid] before any I/O; [Check] is that test.
//  7. Errors distinguish: held by another ([ErrHeld], best a [*HeldError] with
//     RetryAfter), the store can't decide now and asking again may help
//     ([ErrUnavailable]), it refuses for a reason that asking again does not mend
//     ([ErrRefused]), bad input ([ErrInvalid]), closed ([ErrClosed]), and the end
//     of ctx, by ctx.Err() and its cause ([ContextError]). [StoreError] makes these
//     of a driver's error. Any other error is an outage to [Acquire].
type Locker interface {
	// TryAcquire makes one attempt to take key for ttl. It never waits for a
	// holder.
	TryAcquire(ctx context.Context, key string, ttl time.Duration) (Lease, error)
}

// Lease is one term of exclusive hold on a key. It is safe for concurrent use.
// [NewLease] implements the local half of its obligations.
type Lease interface {
	// Key is the full name in the store, with all that a Prefix or a Semaphore has
	// added to the caller's key.
	Key() string

	// Token is the fencing token: 1 or more, constant for the lease's life (but see
	// [RaiseToken]), and larger than the token of every earlier lease of this key.
	Token() uint64

	// Expiry is until when the hold is certain, on this process's monotonic
	// clock: compare it with time.Now of this process, nothing else. It is the
	// zero time after a definite loss and as soon as Release has begun, because a
	// release that seems to have failed may have been applied.
	//
	// A lease that waited in a store's queue ([Awaiter]) may start with less than the
	// ttl that was asked for, and grow to it by itself: then Expiry moves later without an
	// Extend, once as a rule. So call Expiry each time, and keep no copy of it.
	Expiry() time.Time

	// Extend asks for ttl from now. It has three ends:
	//
	//   - nil: Expiry has moved to the request's start + ttl - drift, which may be
	//     earlier than it was.
	//   - an error matching ErrLost, definite and final: the lease had expired
	//     (even if nobody took it since), another owner has or had it, the
	//     answer came after the old Expiry, or Release has begun.
	//   - any other error says nothing about the hold: the lease keeps its old
	//     Expiry, and Extend may be called again. So an Extend by less than what
	//     is left must not end the hold in the store before that, because it may
	//     have been applied and its reply lost.
	//
	// It must return soon after ctx ends, with an error that matches ctx.Err().
	Extend(ctx context.Context, ttl time.Duration) error

	// Release ends the lease, so that the next holder need not wait for its
	// expiry.
	//
	//   - It is idempotent: a final nil stays nil, a final ErrLost stays ErrLost.
	//   - It must do its work even when ctx has ended already, because that is
	//     when programs release; its own timeout bounds it. Of a ctx that is alive,
	//     the deadline bounds it as well; being cancelled meanwhile does not.
	//   - It must never free a later holder's lease.
	//   - If it failed (any error but ErrLost) it may be called again.
	//   - On a lease past its Expiry it must still try, bounded, to remove what
	//     this lease left in the store, because an Extend may have been applied
	//     and its reply lost. It returns ErrLost then.
	Release(ctx context.Context) error
}

// Check reports whether key and ttl are acceptable to every backend. Its error
// matches [ErrInvalid] and names the input and what was expected.
func Check(key string, ttl time.Duration) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: key is empty, want 1 to %d bytes of UTF-8", ErrInvalid, MaxKeyLen)
	case len(key) > MaxKeyLen:
		return fmt.Errorf("%w: key %.32q... has %d bytes, want at most %d", ErrInvalid, key, len(key), MaxKeyLen)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: key %q is not valid UTF-8", ErrInvalid, key)
	}
	if err := checkTTL(ttl); err != nil {
		return fmt.Errorf("%w (key %q)", err, key)
	}
	return nil
}

// checkArgs refuses a nil ctx and a nil Locker, which would panic at their first use.
func checkArgs(ctx context.Context, l Locker) error {
	switch {
	case ctx == nil:
		return errNilContext
	case l == nil:
		return fmt.Errorf("%w: locker is nil", ErrInvalid)
	}
	return nil
}

// unitHint explains durations that come of a number without its unit.
func unitHint(d time.Duration) string {
	if d <= 0 || d >= time.Millisecond {
		return ""
	}
	return "; a number alone counts nanoseconds: write its unit, such as 5*time.Second"
}

func checkTTL(ttl time.Duration) error {
	if ttl < MinTTL || ttl > MaxTTL {
		return fmt.Errorf("%w: ttl is %v, want %v to %v%s", ErrInvalid, ttl, MinTTL, MaxTTL, unitHint(ttl))
	}
	return nil
}
