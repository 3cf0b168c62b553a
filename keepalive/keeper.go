package keepalive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// errReleased is the cause of a context that Release ended.
var errReleased = fmt.Errorf("keepalive: released: %w", context.Canceled)

// ErrNotRenewed is found, besides [lock.ErrLost], in a loss whose reason is that no
// renewal succeeded in time: the store was away, or this process was. Without it the
// store took the lease away.
var ErrNotRenewed = errors.New("not renewed in time")

// Keeper keeps one lease, and is one itself: extend and release the lease through
// its Keeper only. It is safe for concurrent use. A Keeper that is not released
// renews for as long as its context lives.
type Keeper struct {
	lease  lock.Lease
	ttl    time.Duration
	opts   settings
	inner  context.Context // ends with the parent, a loss or Release; carries the token
	cancel context.CancelCauseFunc
	detach func() bool // ends the watch on the parent; nil if the parent never ends

	// mu guards all below. It is never held across a call to the store, the
	// logger or a context that is being cancelled; but lease.Expiry is called
	// under it, and must not block. Give it up by unlock.
	mu       sync.Mutex
	timer    *time.Timer   // runs tick at the deadline, when a renewal is due, or to log a loss
	expiry   time.Time     // the lease's, as it was last taken in; the deadline is margin before it
	margin   time.Duration // from the deadline to expiry
	due      time.Time     // of the next renewal
	drainEnd time.Time     // end of renewal; zero while the parent lives
	last     error         // of the last failed renewal
	outage   *outage       // in which this keeper is counted as failing; nil: none
	lost     error         // why the lease is over; nil while it may stand
	lostCh   chan struct{}
	failures int32 // since the last success
	young    bool  // no renewal has succeeded yet
	short    bool  // it is young and began with less than Interval: the lease may still grow by itself
	reported bool  // the loss was logged
	released bool  // Release has begun
	extends  bool  // Extend was called: a renewal's outcome may come after that of a later one
	renewal  *renewal
}

// settings are the Options in the form that a Keeper keeps them.
type settings struct {
	interval, margin, drain time.Duration
	log                     *slog.Logger
	onLost                  func(*Keeper, error)
}

// renewal is one extension under way: by a call of Extend, with a context that bounds it, or
// one that was started (see start), which the timer bounds.
type renewal struct {
	bound   time.Duration
	cancel  context.CancelFunc // nil: it was started
	end     time.Time          // when one that was started is to be stopped
	stopped bool               // one that was started has been stopped, or is about to be
	done    chan struct{}      // closed when it is over; one that was started has it only if a Release waits
}

var (
	_ lock.Lease         = (*Keeper)(nil)
	_ lock.AfterReleaser = (*Keeper)(nil)
)

// Start keeps lease, which was acquired for ttl, and renews it for ttl. The keeper's
// context is derived from ctx.
//
// A lease with less than Interval left, as one may have that starts short (see
// [lock.Lease]) or was held for a while before, is renewed at once. Until the first
// renewal has succeeded the margin is at most half of what was left. Where the lease grows
// by itself before that, the keeper goes by the later Expiry.
//
// Start sends nothing. An error matches [lock.ErrInvalid] (options that can't work),
// or [lock.ErrLost] if the lease is over. The lease is as it was then: the caller still
// has to release it.
func Start(ctx context.Context, lease lock.Lease, ttl time.Duration, opts *Options) (*Keeper, error) {
	if lease == nil {
		return nil, fmt.Errorf("keepalive: start: %w: lease is nil", lock.ErrInvalid)
	}
	o, err := opts.WithDefaults(ttl)
	if err == nil && ctx == nil {
		err = lock.ContextError(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("keepalive: start %q: %w", lease.Key(), err)
	}
	return start(ctx, lease, ttl, o)
}

func start(ctx context.Context, lease lock.Lease, ttl time.Duration, o Options) (*Keeper, error) {
	k := &Keeper{
		lease: lease, ttl: ttl,
		opts: settings{o.Interval, max(0, o.Margin), max(0, o.DrainTimeout), o.Logger, o.OnLost},
	}
	now, expiry := time.Now(), lease.Expiry()
	left := expiry.Sub(now)
	if expiry.IsZero() || left <= 0 {
		return nil, k.describe(fmt.Errorf("%w: expired", lock.ErrLost))
	}
	k.young, k.short = true, left < k.opts.interval
	k.goBy(now, expiry)
	if k.due = k.dueFor(expiry); k.short {
		k.due = now
	}
	k.inner, k.cancel = context.WithCancelCause(withTokens(ctx, lease))

	k.mu.Lock()
	defer k.unlock()
	if ctx.Done() != nil {
		k.detach = context.AfterFunc(k.watched(ctx), k.drain)
	}
	k.timer = time.AfterFunc(left, k.tick)
	k.arm(now, k.deadline().Sub(now))
	return k, nil
}

// watched is the context whose end begins the drain. That is ctx as a rule: with inner each
// Keeper would need a table of inner's children. But where ctx is of a foreign type, what
// is derived from it costs a goroutine each: then only inner is, and inner is watched.
func (k *Keeper) watched(ctx context.Context) context.Context {
	switch t := reflect.TypeOf(ctx); {
	case t == keptType:
	case t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "context", t.PkgPath() == "context":
	default:
		return k.inner
	}
	return ctx
}

var keptType = reflect.TypeFor[*keptContext]()

// withTokens gives ctx the token of lease, or of each lease of a [lock.Set], the first
// innermost, so that it is what [lock.Token] returns.
func withTokens(ctx context.Context, lease lock.Lease) context.Context {
	for _, l := range slices.Backward(members(lease)) {
		ctx = lock.WithTokenOf(ctx, l.Key(), l.Token())
	}
	return ctx
}

// members are the leases of a [lock.Set], or the one that it is.
func members(lease lock.Lease) []lock.Lease {
	if set, ok := lease.(interface{ Leases() []lock.Lease }); ok {
		return set.Leases()
	}
	return []lock.Lease{lease}
}

// Context ends when the ctx given to Start does, with its cause; or with a cause
// that matches [lock.ErrLost], at the latest Margin before Expiry, or at once on a
// definite loss; or with Release. It carries the fencing token ([lock.Token],
// [lock.TokenOf]).
func (k *Keeper) Context() context.Context { return (*keptContext)(k) }

// Lost returns a channel that is closed when the lease is lost. Unlike Context it
// does not end with ctx: it is for work that winds down after that.
func (k *Keeper) Lost() <-chan struct{} {
	k.mu.Lock()
	defer k.unlock()
	k.expire(time.Now())
	if k.lostCh == nil {
		k.lostCh = make(chan struct{})
		if k.lost != nil {
			close(k.lostCh)
		}
	}
	return k.lostCh
}

// Key is the lease's.
func (k *Keeper) Key() string { return k.lease.Key() }

// Token is the lease's.
func (k *Keeper) Token() uint64 { return k.lease.Token() }

// Expiry is the lease's, or the zero time once it is lost or Release has begun.
// The context ends before it.
func (k *Keeper) Expiry() time.Time {
	k.mu.Lock()
	defer k.unlock()
	if k.expire(time.Now()); k.lost != nil || k.released {
		return time.Time{}
	}
	return k.lease.Expiry()
}

// Extend renews the lease for ttl now, besides the Keeper's own renewals. The next of
// those is for the ttl that Start was given, and is due when what is left of the lease
// is that ttl less Interval. Errors are those of [lock.Lease].
func (k *Keeper) Extend(ctx context.Context, ttl time.Duration) error {
	if ctx == nil {
		return k.describe(lock.ContextError(ctx))
	}
	k.mu.Lock()
	k.expire(time.Now())
	lost, released := k.lost, k.released
	k.extends = true
	k.unlock()
	switch {
	case lost != nil:
		return lost
	case released:
		return k.describe(fmt.Errorf("%w: released", lock.ErrLost))
	}
	err := k.lease.Extend(ctx, ttl)

	k.mu.Lock()
	defer k.unlock()
	switch {
	case k.released || k.lost != nil:
	case err == nil:
		k.renewed(time.Now(), k.lease.Expiry())
	case errors.Is(err, lock.ErrLost):
		k.lose(err)
	}
	if k.lost != nil {
		return k.lost
	}
	return err
}

// Release ends the context and the renewal, waits for a renewal under way, which
// it cancels, and releases the lease. No renewal runs or starts after it returns.
// What [lock.Lease] says of Release holds; if the keeper saw the lease lost, the
// error matches [lock.ErrLost], even if the store had it still and has freed it.
func (k *Keeper) Release(ctx context.Context) error { return k.release(ctx, k.lease.Release) }

// ReleaseAfter is Release, but for that the store keeps the key held until d after
// the lease began: see [lock.ReleaseAfter].
func (k *Keeper) ReleaseAfter(ctx context.Context, d time.Duration) error {
	after := func(ctx context.Context) error { return lock.ReleaseAfter(ctx, k.lease, d) }
	if most := k.MaxReleaseAfter(); d < 0 || d > most {
		return after(ctx) // refuses it, and changes nothing
	}
	return k.release(ctx, after)
}

// MaxReleaseAfter is the lease's; 0 means that it is not supported.
func (k *Keeper) MaxReleaseAfter() time.Duration {
	if a, ok := k.lease.(lock.AfterReleaser); ok {
		return a.MaxReleaseAfter()
	}
	return 0
}

// release ends the keeping, and then the lease by end.
func (k *Keeper) release(ctx context.Context, end func(context.Context) error) error {
	if ctx == nil {
		return k.describe(lock.ContextError(ctx))
	}
	if k.detach != nil {
		k.detach() // or the context's end would start a drain
	}
	k.mu.Lock()
	if !k.released {
		k.expire(time.Now())
		k.released = true
		if k.lost == nil {
			k.timer.Stop()
			if log := k.leaveOutage(false); log != nil {
				go log() // a slow logger is not in the way
			}
		}
	}
	under := k.renewal
	if under != nil && under.done == nil {
		under.done = make(chan struct{})
	}
	k.unlock() // ends the context, before anybody else can have the key
	if under != nil {
		k.stop(under)
		bound, cancel := lock.ReleaseContext(ctx, lock.DefaultReleaseTimeout)
		defer cancel()
		select {
		case <-under.done:
		case <-bound.Done():
			// Sent after the release, it could bring the lease back.
			return k.describe(fmt.Errorf("%w: a renewal under way has not returned since it was cancelled, in the time for a release",
				lock.ErrUnavailable))
		}
	}

	err := end(ctx)
	k.mu.Lock()
	lost := k.lost
	k.unlock()
	switch {
	case lost == nil:
		return err
	case err == nil, errors.Is(err, lock.ErrLost):
		return lost
	}
	return fmt.Errorf("%w; %w", lost, err)
}

// drain starts the time that work has to wind down. It runs when the watched context has
// ended: the parent, or inner, which a loss or a Release ends as well; then it does no harm.
func (k *Keeper) drain() {
	k.mu.Lock()
	defer k.unlock()
	k.drainEnd = time.Now().Add(k.opts.drain)
}

// lose makes the loss final. mu is held; unlock ends the context, and tick logs:
// it runs on a goroutine of its own, so a slow logger is in nobody's way.
func (k *Keeper) lose(cause error) {
	if k.lost != nil {
		return
	}
	k.lost = k.describe(cause)
	k.wake(0)
	if k.lostCh != nil {
		close(k.lostCh)
	}
}

// unlock unlocks mu, and then ends the context if there was a loss or a release has begun:
// so a call that finds either one has ended the context before it returns.
func (k *Keeper) unlock() {
	lost, released := k.lost, k.released
	k.mu.Unlock()
	switch {
	case lost != nil:
		k.cancel(lost)
	case released:
		k.cancel(errReleased)
	}
}

func (k *Keeper) describe(err error) error {
	return fmt.Errorf("keepalive: %q (token %d): %w", k.Key(), k.Token(), err)
}
