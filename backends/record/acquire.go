package record

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// conflicts is how often one attempt is made anew because another write was quicker.
const conflicts = 3

// TryAcquire makes one attempt to take key for ttl; [lock.Locker] says what holds for it.
// On a key that is free while others wait for it, it lets those go first, for up to one
// Options.HeadStart each.
func (l *Locker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if err := lock.Check(key, ttl); err != nil {
		return nil, fmt.Errorf("record: acquire: %w", err)
	}
	caller := ctx
	ctx, done, err := l.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("record: acquire %q: %w", key, err)
	}
	defer done()
	a := attempt{l: l, name: l.opts.Names.name(key), key: key, ttl: ttl, caller: caller}
	lease, err := a.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("record: acquire %q: %w", key, err)
	}
	return lease, nil
}

// attempt is one TryAcquire.
type attempt struct {
	l         *Locker
	name, key string
	ttl       time.Duration
	caller    context.Context
	// start is before all requests that led to the lease, and suspended measures from there.
	start       time.Time
	suspended   func() time.Duration
	conflicts   int // writes that were refused because the record had changed
	creates     int
	standBack   time.Duration // the latest pause for those in the queue
	standBackOf uint64        // token of the free record for whose queue it paused
}

// run looks, decides and writes, anew whenever another write came first.
func (a *attempt) run(ctx context.Context) (lock.Lease, error) {
	e, known := a.l.notified(a.name)
	a.restart()
	for {
		switch {
		case ctx.Err() != nil:
			return nil, a.over()
		case !time.Now().Before(a.expiry()):
			return nil, fmt.Errorf("%w: the store has needed %v, want less than the ttl of %v", lock.ErrUnavailable, time.Since(a.start).Round(time.Millisecond), a.ttl)
		}
		if !known {
			var err error
			if e, err = a.l.get(ctx, a.name, a.key); err != nil {
				return nil, err
			}
		}
		known = false
		if e.Version == "" {
			if err := a.create(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if held, w := a.l.refusal(a.name, a.key, e); held != nil {
			if a.letQueueGoFirst(ctx, e, w) {
				a.restart()
				continue
			}
			a.l.enqueue(ctx, a.name, a.key, e)
			return nil, held
		}
		lease, seen, err := a.take(ctx, e)
		switch {
		case lease != nil:
			return lease, nil
		case !errors.Is(err, ErrChanged):
			return nil, err
		}
		a.conflicts++
		if a.conflicts > conflicts {
			if seen.Version == e.Version {
				return nil, fmt.Errorf("%w: the store refuses to replace the version that it shows", lock.ErrUnavailable)
			}
			return nil, &lock.HeldError{Key: a.key} // each time, another was quicker
		}
		e, known = seen, true
		a.restart() // from here on it is another attempt
	}
}

// restart counts from now on. The store's hold begins later than that, and so does what
// any other process can see of it.
func (a *attempt) restart() { a.start, a.suspended = time.Now(), lock.Suspension() }

// expiry is the end of a lease whose hold is written by a request of this attempt.
func (a *attempt) expiry() time.Time { return a.start.Add(a.ttl - drift(a.ttl)) }

// over is why an attempt ends whose ctx has.
func (a *attempt) over() error {
	if a.caller.Err() != nil {
		return lock.ContextError(a.caller)
	}
	return lock.ErrClosed
}

// create makes a free record where there is none. That nothing is there has no version:
// a create may be applied late, after others have come, gone and been deleted. So it
// holds nothing; the hold is a write that replaces the version which the create got.
func (a *attempt) create(ctx context.Context) error {
	if a.creates++; a.creates > conflicts+1 {
		return fmt.Errorf("%w: the store shows no record, and refuses to make one", lock.ErrUnavailable)
	}
	free := Record{Key: a.key, Token: clockToken(time.Time{}), Term: rand.Text(), Seq: 1, Beat: 1, Until: time.Now()}
	_, err := a.l.put(ctx, a.name, free, "")
	if errors.Is(err, ErrChanged) {
		return nil // another made it
	}
	return err
}

// clockToken is the least token of a term that begins now, so that a key whose record was
// deleted starts above its past: microseconds of the larger of two clocks. Of a clock with
// seconds, the later of two readings within one must not come out smaller.
func clockToken(store time.Time) uint64 {
	return uint64(max(1, time.Now().UnixMicro(), store.UnixMicro()))
}

// take writes the hold in place of the free or expired state e. With ErrChanged comes the
// state that was in its way.
func (a *attempt) take(ctx context.Context, e Entry) (lock.Lease, Entry, error) {
	l := a.l
	token := max(e.Record.Token+1, clockToken(e.Time))
	if e.Record.Seq == 1 { // nobody has held it since the record was made
		pruned, err := l.prunedToken(ctx)
		if err != nil {
			return nil, e, err
		}
		token = max(token, pruned+1)
	}
	mine := Record{
		Key: a.key, Token: token, Term: rand.Text(), Holder: l.opts.Owner, TTL: a.ttl,
		Seq: e.Record.Seq + 1, Beat: e.Record.Seq + 1, Until: time.Now().Add(a.ttl), Queue: l.behind(e.Record.Queue),
	}
	version, err := l.put(ctx, a.name, mine, e.Version)
	if errors.Is(err, ErrChanged) {
		// By whom? A client or proxy that repeats requests meets its own write.
		now, got := l.get(ctx, a.name, a.key)
		switch {
		case got != nil:
			l.cleanUp(a.name, mine, e)
			return nil, e, got
		case !now.Record.sameTerm(mine):
			return nil, now, ErrChanged
		}
		version, err = now.Version, nil
	}
	if err != nil {
		l.cleanUp(a.name, mine, e) // it may have been applied, or be applied later
		return nil, e, err
	}
	expiry := a.expiry()
	if !time.Now().Before(expiry) {
		l.cleanUp(a.name, mine, e)
		return nil, e, fmt.Errorf("%w: the store granted it after %v, too late for a ttl of %v", lock.ErrUnavailable, time.Since(a.start).Round(time.Millisecond), a.ttl)
	}
	l.dequeued(a.name)
	t := &term{l: l, name: a.name, record: mine, version: version, expiry: expiry}
	return lock.NewLease(lock.Grant{
		Key: a.key, Token: token, Start: a.start, Expiry: expiry, Term: t,
		ReleaseTimeout: l.opts.Timeout, Suspended: a.suspended,
	}), e, nil
}

// drift is by how much a holder's clock may be slow within one ttl.
func drift(ttl time.Duration) time.Duration { return ttl / 100 }

// behind is the queue without this process and those ahead of it, whose head start has
// passed. Who comes from outside the queue has waited for all of it.
func (l *Locker) behind(queue []string) []string {
	if l.opts.HeadStart == 0 {
		return queue // not ours to order
	}
	if i := slices.Index(queue, l.process); i >= 0 {
		return slices.Clone(queue[i+1:])
	}
	return nil
}

// letQueueGoFirst pauses in favour of those in the queue of a free record, and reports
// whether to look again. An attempt that comes once in a while must not be refused for
// ever because of a queue whose processes have died: the pauses add up to the head starts
// of all of them. As soon as one of them takes the key, the queue lives.
func (a *attempt) letQueueGoFirst(ctx context.Context, e Entry, w wait) bool {
	if w.hold > 0 || a.l.waitsFor(a.name) || a.standBackOf != 0 && a.standBackOf != e.Record.Token {
		return false
	}
	a.standBackOf = e.Record.Token
	a.standBack = min(max(2*a.standBack, 5*time.Millisecond), a.l.opts.HeadStart)
	pause(ctx, min(a.standBack, w.left()))
	return true
}
