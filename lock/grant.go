package lock

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// DefaultReleaseTimeout bounds a Release whose Grant does not say otherwise.
const DefaultReleaseTimeout = 5 * time.Second

// Grant is what a backend knows of a hold that its store has just granted.
type Grant struct {
	Key    string
	Token  uint64    // 1 or more
	Expiry time.Time // request start + ttl - drift, from a time.Now of this process

	// GrowTo, if set, is the ttl that was asked for, where Expiry is earlier on purpose:
	// a store that hands a key over ([Awaiter]) may grant a short time first, lest a
	// waiter that hangs costs the others a whole ttl. The lease calls Extend with it by
	// itself, once a quarter of its time has gone, and again until it succeeds or the
	// lease ends; not after an Extend of its user's or a Release. At most MaxTTL.
	GrowTo time.Duration

	// Extend asks the store for ttl from now and returns the new Expiry, counted
	// from before its request. An error matching ErrLost means that the store
	// says definitely that this term is over; any other error says nothing. A loss
	// must free nothing in the store that still keeps others out: until the present
	// Expiry there may be work that does not know of it yet. Release does that. It
	// must return soon after ctx ends; ctx ends at the present Expiry at the
	// latest. Calls never overlap with each other or with Release.
	Extend func(ctx context.Context, ttl time.Duration) (time.Time, error)

	// Release removes what this term left in the store, and nothing of any other
	// term. ctx is never cancelled by the caller of Lease.Release; it ends after
	// ReleaseTimeout (but see there for -1). It is called again only if it failed.
	// An error matching ErrLost means that another term has or had the key; nil is
	// right also where the term is simply gone.
	//
	// (ctx is made by [ReleaseContext] of the caller's ctx and ReleaseTimeout.)
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

	// RaiseToken, if the store can do it, raises this term's token in the store to least or
	// more, and returns what it is then: more where the store has counted further.
	// What is said of Extend holds for it, and what [TokenRaiser] says. Extend, Release and
	// Inspect go on with the term as before.
	RaiseToken func(ctx context.Context, least uint64) (uint64, error)

	// Term, if set, takes the place of Extend and Release, of ReleaseAfter if it is a
	// [TermAfterReleaser], and of RaiseToken if it is a [TermTokenRaiser]: the same as
	// methods, for a backend that counts allocations.
	Term Term

	// ReleaseTimeout bounds one call of Release. Defaults to
	// DefaultReleaseTimeout; -1 means that Release bounds itself: it gets its
	// caller's ctx, which may have ended and must not stop it, and should make its
	// own by [ReleaseContext].
	ReleaseTimeout time.Duration

	// Suspended, if set, reports for how long the machine has been suspended since
	// before the request, as [Suspension] does: Go's clock stands still meanwhile, and
	// the store's does not. The lease's Expiry moves earlier by that time.
	Suspended func() time.Duration
}

// Term is one hold as its store sees it, named by key and the token that was granted.
// What Grant says of Extend and Release holds for it.
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
	case g.GrowTo != 0 && (g.GrowTo < MinTTL || g.GrowTo > MaxTTL):
		panic(fmt.Sprintf("lock: NewLease: Grant.GrowTo is %v, want 0 for none, or %v to %v", g.GrowTo, MinTTL, MaxTTL))
	case g.Term == nil && (g.Extend == nil || g.Release == nil):
		panic("lock: NewLease: Grant needs Extend and Release, or Term")
	}
	if g.Term == nil {
		f := funcs{g.Extend, g.Release, g.RaiseToken}
		g.Term = f
		if g.ReleaseAfter != nil {
			g.Term = lastingFuncs{f, g.ReleaseAfter}
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
	if g.GrowTo != 0 {
		l.startGrowth(g.GrowTo)
	}
	return l
}

// monotonic reports whether t has a monotonic reading, which Round strips.
func monotonic(t time.Time) bool { return t != t.Round(0) }

// funcs makes a Term of a Grant's two closures, which know their term themselves.
type funcs struct {
	extend  func(ctx context.Context, ttl time.Duration) (time.Time, error)
	release func(ctx context.Context) error
	raise   func(ctx context.Context, least uint64) (uint64, error) // nil: it can't
}

func (f funcs) ExtendTerm(ctx context.Context, _ string, _ uint64, ttl time.Duration) (time.Time, error) {
	return f.extend(ctx, ttl)
}

func (f funcs) ReleaseTerm(ctx context.Context, _ string, _ uint64) error { return f.release(ctx) }

func (f funcs) RaiseTermToken(ctx context.Context, _ string, _, least uint64) (uint64, error) {
	if f.raise == nil {
		return 0, errNoRaise
	}
	return f.raise(ctx, least)
}

// lastingFuncs are funcs of a Grant that has ReleaseAfter.
type lastingFuncs struct {
	funcs
	releaseAfter func(ctx context.Context, until time.Time) error
}

func (f lastingFuncs) ReleaseTermAfter(ctx context.Context, _ string, _ uint64, until time.Time) error {
	return f.releaseAfter(ctx, until)
}
