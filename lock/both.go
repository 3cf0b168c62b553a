package lock

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Both locks each key in two stores, old and next, for the time in which a fleet moves
// from the one to the other: from three nodes to five, or from Redis to Postgres. It
// excludes those that lock in old alone, and those that lock in next alone. So a fleet
// that never stops moves in two rolling deployments:
//
//  1. from old to Both(old, next), until no process has old alone any more;
//  2. from Both(old, next) to next.
//
// The second must not begin before the first has ended: those that have old alone and
// those that have next alone do not exclude each other. Either way back is open in the same
// manner. All processes give the two stores in the same order: if two give them in opposite
// orders, each can hold what the other waits for.
//
// A lease is a [Set], whose Leases are that of old and that of next. It expires when the
// earlier of them does; both are extended, and both are released, next first, each bounded by
// its store: a caller that is granted old then finds next free. A crash frees the key in both
// within the ttl.
//
// Tokens rise through all of it. Before a lease is returned, its tokens in both stores
// are raised to the larger of the two ([RaiseToken]), which is its token: so it is above
// all that either store has given, and below all that either will give. All stores of
// this library can do that. Leases of one that can't are released, and the attempt fails
// with an error that matches [ErrRefused] and [errors.ErrUnsupported]. A store that loses
// its data begins its counts anew, at its clock, which is above all that it had given. But
// a count that was raised above that clock may begin anew below what it was.
//
// It decides only while both stores do: an outage of either is one of Both. A request
// that is refused by next gives old back. One that waits ([Awaiter]) stands in the queue
// of old, and then holds old, extended, while it stands in that of next. Where both are
// redlocks that share nodes, next has a Prefix of its own: with one prefix it is refused
// by the votes that old has just got.
//
// Put other decorators around it, not into it: Semaphore(Both(old, next), n). A semaphore
// inside, whose slots in the two stores differ, is refused with [ErrInvalid]. So is another
// Both, whose lease can't raise its token: a raise that is applied in one store and fails in
// the other would leave the lease with two tokens. Of three stores a, b and c, end the move
// from Both(a, b) to b before that from b to Both(b, c); or go back from Both(a, b) to a,
// and then to Both(a, c).
//
// It offers what both of them offer: [Watcher] and [Inspector] (a key is held if it is in
// either; where it is in both, Info is that of next), [ForceReleaser] and [HealthChecker]
// (of all nodes, with a quorum if each store has one), [MaxReleaseAfterer], the lesser: old,
// which counts from when it was granted, keeps a key for less than [ReleaseAfter] says where next
// was waited for and that comes to more than its limit. Close closes both.
func Both(old, next Locker) Locker { return &both{old: old, next: next} }

var (
	_ Locker  = (*both)(nil)
	_ Awaiter = (*both)(nil)
)

type both struct {
	old, next Locker

	granted atomic.Bool // a lease was returned: from then on a store's refusal is an outage
	mu      sync.Mutex  // guards closed; held while a job is added, so that none is after closed
	closed  bool
	jobs    sync.WaitGroup // releases of what failed attempts had
}

func (b *both) check(ctx context.Context, key string, ttl time.Duration) error {
	if err := Check(key, ttl); err != nil {
		return err
	}
	for _, l := range []Locker{b.old, b.next} {
		if err := checkArgs(ctx, l); err != nil {
			return err
		}
		if isBoth(l) {
			return fmt.Errorf("%w: one of the two stores is a Both itself, whose leases can't raise their tokens; end one move before the next: from Both(a, b) to b, then to Both(b, c)", ErrInvalid)
		}
		if slotted(l) {
			return fmt.Errorf("%w: one of the two stores is a Semaphore, whose slots would differ; want Semaphore(Both(old, next), n)", ErrInvalid)
		}
	}
	old, oldName := store(b.old, key)
	next, nextName := store(b.next, key)
	if oldName == nextName && reflect.ValueOf(old).Comparable() && old == next {
		return fmt.Errorf("%w: both stores are the same locker, which would refuse itself", ErrInvalid)
	}
	return nil
}

// isBoth reports whether l is or has a Both.
func isBoth(l Locker) bool {
	return has(l, func(l Locker) bool { _, ok := l.(*both); return ok })
}

func (b *both) TryAcquire(ctx context.Context, key string, ttl time.Duration) (Lease, error) {
	return b.acquire(ctx, key, ttl, nil)
}

// Await waits in the queue of old, and then, holding that, in the queue of next.
func (b *both) Await(ctx context.Context, key string, ttl time.Duration, refused func(*HeldError)) (Lease, error) {
	return b.acquire(ctx, key, ttl, reporter(refused))
}

// acquire makes an attempt or, with refused, waits. It remembers whether that ever succeeded:
// both has no Waiters, where Acquire would find it.
func (b *both) acquire(ctx context.Context, key string, ttl time.Duration, refused func(*HeldError)) (Lease, error) {
	lease, err := b.take(ctx, key, ttl, refused)
	switch {
	case err == nil:
		b.granted.Store(true)
	case errors.Is(err, ErrRefused) && b.granted.Load() && ctx.Err() == nil:
		err = fmt.Errorf("%w: %v", ErrUnavailable, err) // what worked once may work again
	}
	return lease, err
}

func (b *both) take(ctx context.Context, key string, ttl time.Duration, refused func(*HeldError)) (Lease, error) {
	if err := b.check(ctx, key, ttl); err != nil {
		return nil, fmt.Errorf("lock: acquire: %w", err)
	}
	// In this order, in all processes: nobody who holds next waits for old.
	leases := make([]Lease, 2)
	var err error
	if leases[0], err = b.ask(ctx, b.old, key, ttl, refused); err != nil {
		return nil, fmt.Errorf("lock: acquire %q in the old store of two: %w", key, err)
	}
	granted := []time.Time{time.Now(), {}}
	h := holdOn(ctx, leases[0], ttl, refused != nil)
	leases[1], err = b.ask(h.ctx, b.next, key, ttl, refused)
	if lost := h.stop(); lost != nil {
		err = lost
	}
	var set *Set
	if err == nil {
		granted[1] = time.Now()
		set, err = b.join(ctx, leases, granted, ttl, refused != nil)
	}
	if err != nil {
		err = fmt.Errorf("lock: acquire %q in the new store of two: %w", key, attemptError(ctx, err))
		if left := b.giveBack(ctx, leases); left != nil {
			err = fmt.Errorf("%w; what could not be released stays until it expires: %w", err, masked{left})
		}
		return nil, err
	}
	return set, nil
}

// join makes one lease of those of the two stores, which were granted at those times.
func (b *both) join(ctx context.Context, leases []Lease, granted []time.Time, ttl time.Duration, grows bool) (*Set, error) {
	// Before anybody learns of the lease, and while both are held: any holder that is granted the
	// key in either store from here on has a larger token.
	if err := level(ctx, leases); err != nil {
		return nil, err
	}
	// The hold is certain while it is in both: then each store refuses a caller that has that
	// store alone.
	expiry := leases[0].Expiry()
	if e := leases[1].Expiry(); e.Before(expiry) {
		expiry = e
	}
	switch {
	case !time.Now().Before(expiry):
		return nil, fmt.Errorf("%w: the two stores have needed longer than the ttl of %v", ErrUnavailable, ttl)
	case ctx.Err() != nil: // cancellation beats a simultaneous grant
		return nil, ContextError(ctx)
	}
	s := &Set{members: leases, grows: grows, start: time.Now(), inTurn: true}
	for _, at := range granted {
		s.older = append(s.older, s.start.Sub(at))
	}
	g := Grant{Key: leases[1].Key(), Expiry: expiry}
	if grows { // old has aged meanwhile, and leases that waited may start short
		g.GrowTo = ttl
	}
	return s.begin(g), nil
}

// attemptError is err for a caller that has no lease yet, and can't lose one.
func attemptError(ctx context.Context, err error) error {
	switch {
	case endedBy(ctx, err) && errors.Is(err, context.Cause(ctx)):
		return err // the cause may be the loss of another lease
	case endedBy(ctx, err): // an Extend or a RaiseToken shows the cause, and does not match it
		return fmt.Errorf("%w: %v", ContextError(ctx), err)
	case errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%w: tokens would not rise while the stores are changed: %w; want a store for each of the two, whose leases can, and decorators around Both", ErrRefused, err)
	case errors.Is(err, ErrLost):
		return fmt.Errorf("%w: lost before it was held in both stores: %v", ErrUnavailable, err)
	case isContextError(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, masked{err}) // of a context of its own
	}
	return err
}

// level raises the tokens of all leases to the largest of them. Where a store has counted
// further its token is then larger still, and the others are raised to that.
func level(ctx context.Context, leases []Lease) error {
	const rounds = 16 // a quorum of nodes answers with more at most once for each node
	for range rounds {
		var token uint64
		for _, l := range leases {
			token = max(token, l.Token())
		}
		even := true
		for _, l := range leases {
			// Also where it has that token already, and its store is not asked: a lease that
			// can't raise its token must fail always, and not only when the counts differ.
			if err := RaiseToken(ctx, l, token); err != nil {
				return err
			}
			even = even && l.Token() == token
		}
		if even {
			return nil
		}
	}
	return fmt.Errorf("%w: one of the stores raises its token ever further", ErrUnavailable)
}

// ask takes key in one of the stores or, with refused, waits for it. An outage ends the
// wait: what is held meanwhile is given back.
func (b *both) ask(ctx context.Context, l Locker, key string, ttl time.Duration, refused func(*HeldError)) (Lease, error) {
	if refused == nil {
		return l.TryAcquire(ctx, key, ttl)
	}
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opts, err := (&AcquireOptions{OnWait: func(err error) {
		if !errors.Is(err, ErrHeld) {
			cancel(err)
			return
		}
		held, ok := errors.AsType[*HeldError](err)
		if !ok {
			held = &HeldError{Key: key}
		}
		refused(held)
	}}).withDefaults()
	if err != nil {
		return nil, err
	}
	late := func(lease Lease) error { return b.giveBack(within, []Lease{lease}) }
	lease, err := acquire(within, &waiter{locker: l, key: key, ttl: ttl, opts: opts, start: time.Now(), blind: true, giveBack: late})
	if err != nil && ctx.Err() == nil && within.Err() != nil {
		return nil, context.Cause(within) // the outage
	}
	return lease, err
}

// holding is the lease of old, which is extended while that of next is waited for.
type holding struct {
	ctx    context.Context // ends with the caller's, or when the lease was lost
	cancel context.CancelFunc
	loop   sync.WaitGroup
	lost   error // why loop ended, if the lease was lost; read after loop
}

// holdOn begins to extend lease if waits; an attempt that does not wait needs no more time.
func holdOn(ctx context.Context, lease Lease, ttl time.Duration, waits bool) *holding {
	h := &holding{}
	h.ctx, h.cancel = context.WithCancel(ctx)
	if waits {
		h.loop.Go(func() { h.extend(lease, ttl) })
	}
	return h
}

// extend extends lease whenever half of what was left has gone, also after a failure.
func (h *holding) extend(lease Lease, ttl time.Duration) {
	timer := time.NewTimer(time.Until(lease.Expiry()) / 2)
	defer timer.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-timer.C:
		}
		if err := lease.Extend(h.ctx, ttl); errors.Is(err, ErrLost) {
			h.lost = err
			h.cancel()
			return
		}
		timer.Reset(max(time.Until(lease.Expiry())/2, minPause))
	}
}

// stop ends the extending, and returns why the lease was lost, or nil.
func (h *holding) stop() error {
	h.cancel()
	h.loop.Wait()
	return h.lost
}

// giveBack releases what a failed attempt has, next first. It goes on in the background
// once ctx has ended, as long as the stores' own bounds let it.
func (b *both) giveBack(ctx context.Context, leases []Lease) error {
	done := make(chan error, 1)
	release := func() {
		var left error
		for _, l := range slices.Backward(leases) {
			if l == nil {
				continue
			}
			if err := l.Release(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, ErrLost) {
				left = also(left, err)
			}
		}
		done <- left
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		release()
		return <-done
	}
	b.jobs.Go(release)
	b.mu.Unlock()
	select {
	case left := <-done:
		return left
	case <-ctx.Done():
		return nil
	}
}

// Close closes both stores, once no attempt gives anything back any more.
func (b *both) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.jobs.Wait()
	return also(Close(b.old), Close(b.next))
}
