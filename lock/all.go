package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// AcquireAll waits until it has a lease of every key at once, ctx ends, or opts
// bound the wait: all or nothing. Duplicates count once.
//
// It never holds while it waits, so that callers with the same keys in whatever
// order do not wait for each other for ever. A round tries the keys one after the
// other, in the order of their names. Where one is refused, AcquireAll frees what
// it has, waits for that key as [Acquire] does, in its queue, and tries the others
// while it holds it. After a round that had to give something back, it first steps
// aside for a random time, up to about as long as a round takes, and up to half a second
// after many rounds, lest two callers keep refusing each other. It has no position in
// the queues of the other keys meanwhile: a caller of many busy keys may be overtaken
// without bound.
//
// A Set is returned with at least half of ttl left: leases that age while others
// are acquired are extended. A store that is too slow for that counts as
// unavailable.
//
// Options bound the whole. Attempts counts rounds, spaced by Delay, which wait in no
// queue; when Timeout ends, the error is that of the last attempt, as in Acquire.
// A failed or cancelled AcquireAll releases all that it has, and what it could not
// release it says in its error. No keys, or a bad one, is [ErrInvalid].
func AcquireAll(ctx context.Context, l Locker, keys []string, ttl time.Duration, opts *AcquireOptions) (*Set, error) {
	o, err := opts.withDefaults()
	if err == nil {
		err = checkArgs(ctx, l)
	}
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("%w: no keys, want 1 or more", ErrInvalid)
	}
	for i := 0; err == nil && i < len(keys); i++ {
		err = Check(keys[i], ttl)
	}
	if err != nil {
		return nil, fmt.Errorf("lock: acquire all: %w", err)
	}
	g := newGathering(l, keys, ttl, o)
	set, err := g.acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("lock: acquire all of %d keys: %w", len(g.keys), err)
	}
	return set, nil
}

// gathering is one AcquireAll.
type gathering struct {
	waiter                   // of the whole: its attempts are rounds
	keys       []string      // each once, in the caller's order
	order      []int         // of keys, as their names sort: most conflicts show at the first one
	members    []Lease       // of keys; nil: not held now
	unreleased []Lease       // of rounds before: their release has failed so far
	waited     bool          // for one of them
	aside      time.Duration // bound of the latest step aside
}

func newGathering(l Locker, keys []string, ttl time.Duration, opts AcquireOptions) *gathering {
	g := &gathering{waiter: waiter{locker: l, ttl: ttl, opts: opts, start: time.Now()}}
	known := make(map[string]bool, len(keys))
	for _, key := range keys {
		if !known[key] {
			known[key] = true
			g.order = append(g.order, len(g.keys))
			g.keys = append(g.keys, key)
		}
	}
	slices.SortFunc(g.order, func(a, b int) int { return cmp.Compare(g.keys[a], g.keys[b]) })
	g.members = make([]Lease, len(g.keys))
	return g
}

func (g *gathering) acquire(ctx context.Context) (*Set, error) {
	bounded, cancel := g.opts.bound(ctx)
	defer cancel()
	set, err := g.rounds(ctx, bounded)
	if err == nil {
		return set, nil
	}
	if left := g.free(ctx); left != nil {
		err = fmt.Errorf("%w; what could not be released stays until it expires: %w", err, masked{left})
	}
	return nil, err
}

func (g *gathering) rounds(ctx, bounded context.Context) (*Set, error) {
	refused := -1
	for bounded.Err() == nil || g.last == nil && ctx.Err() == nil {
		if refused >= 0 && g.opts.Attempts == 0 {
			var err error
			g.waited = true
			if g.members[refused], err = g.waitFor(ctx, g.keys[refused]); err != nil {
				return nil, err
			}
		}
		begun := time.Now()
		at, expiry, err := g.round(bounded)
		g.attempts++
		if err == nil && ctx.Err() == nil {
			return newSet(g.members, expiry, g.waited), nil
		}
		if err == nil {
			return nil, g.ended(ctx) // nobody else would release these
		}
		if g.note(ctx, bounded, err) {
			return nil, err
		}
		refused = at
		had := slices.ContainsFunc(g.members, func(l Lease) bool { return l != nil })
		_ = g.free(ctx) // if it fails, later ones try again
		switch {
		case bounded.Err() != nil:
		case g.attempts == g.opts.Attempts:
			return nil, fmt.Errorf("gave up after round %d of %d: %w", g.attempts, g.opts.Attempts, g.last)
		case g.opts.Attempts > 0:
			g.failed()
			g.pause(bounded)
		case had:
			g.stepAside(bounded, time.Since(begun))
		}
	}
	return nil, g.ended(ctx)
}

// waitFor waits for one key, with the bounds that are left, while nothing is held.
func (g *gathering) waitFor(ctx context.Context, key string) (Lease, error) {
	opts := g.opts
	if opts.Timeout > 0 {
		opts.Timeout = max(minPause, opts.Timeout-time.Since(g.start))
	}
	if opts.Jitter == 0 {
		opts.Jitter = -1 // 0 would be the default
	}
	lease, err := Acquire(ctx, g.locker, key, g.ttl, &opts)
	if err == nil {
		return lease, nil
	}
	switch {
	case ctx.Err() == nil && (errors.Is(err, ErrHeld) || errors.Is(err, ErrUnavailable)):
		g.last = masked{err}
	case ctx.Err() == nil:
		return nil, err // asking again can't help
	}
	return nil, g.ended(ctx)
}

// round tries all keys that are not held yet, and reports which one was refused; or
// else until when all are held.
func (g *gathering) round(ctx context.Context) (refused int, expiry time.Time, err error) {
	for _, i := range g.order {
		if g.members[i] != nil {
			continue
		}
		if refused, expiry, err = g.refresh(ctx); err != nil {
			return refused, expiry, err
		}
		lease, err := g.locker.TryAcquire(ctx, g.keys[i], g.ttl)
		if err != nil {
			return i, expiry, err
		}
		g.grant()
		g.members[i] = lease
	}
	return g.refresh(ctx)
}

// refresh extends those held that have less than half of ttl left.
func (g *gathering) refresh(ctx context.Context) (at int, earliest time.Time, err error) {
	fresh := func(i int) bool {
		expiry := g.members[i].Expiry()
		if time.Until(expiry) < g.ttl/2 {
			return false
		}
		if earliest.IsZero() || expiry.Before(earliest) {
			earliest = expiry
		}
		return true
	}
	var aged []int
	var leases []Lease
	for i, l := range g.members {
		if l != nil && !fresh(i) {
			aged, leases = append(aged, i), append(leases, l)
		}
	}
	errs := each(leases, func(l Lease) error { return l.Extend(ctx, g.ttl) })
	for n, i := range aged {
		switch err := errs[n]; {
		case errors.Is(err, ErrLost):
			// The caller has not got this lease, and so has lost none.
			return i, earliest, fmt.Errorf("%w: lost while the others were acquired: %v", ErrUnavailable, err)
		case errors.Is(err, ErrClosed):
			return i, earliest, err
		case err != nil:
			return i, earliest, fmt.Errorf("%w: %w", ErrUnavailable, err)
		case !fresh(i):
			return i, earliest, fmt.Errorf("%w: too slow for a ttl of %v: less than half is left of %q, just extended", ErrUnavailable, g.ttl, g.keys[i])
		}
	}
	return -1, earliest, nil
}

// free releases all that is held, and what earlier could not be released; it
// returns why something still stays.
func (g *gathering) free(ctx context.Context) (left error) {
	leases := g.unreleased
	for i, l := range g.members {
		if l != nil {
			leases, g.members[i] = append(leases, l), nil
		}
	}
	g.unreleased = nil
	for i, err := range each(leases, func(l Lease) error { return l.Release(ctx) }) {
		if err != nil && !errors.Is(err, ErrLost) {
			g.unreleased, left = append(g.unreleased, leases[i]), also(left, err)
		}
	}
	return left
}

// maxAside is much longer than a store may reserve a released key for its waiters, which
// all others find held meanwhile: so callers in step get out of step.
const maxAside = 500 * time.Millisecond

// stepAside pauses at random for up to about as long as a round takes, twice as
// long after each round lost, so that of callers who refuse each other one gets
// through.
func (g *gathering) stepAside(ctx context.Context, round time.Duration) {
	g.aside = min(max(2*g.aside, round, minPause), maxAside)
	timer := time.NewTimer(rand.N(g.aside))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// each calls f for all leases at once, and returns when all have returned.
func each(leases []Lease, f func(Lease) error) []error {
	errs := make([]error, len(leases))
	var wg sync.WaitGroup
	for i, l := range leases {
		wg.Go(func() { errs[i] = f(l) })
	}
	wg.Wait()
	return errs
}
