// Package leadserve campaigns for a key on behalf of programs that can't be wrapped, and
// reports to them over HTTP who leads, and for how long that is certain.
//
// Each answer is a promise: the lease is held until the moment that it names, and Grace
// longer, which is the time to stop. So the hold of a term that ends in good order is given
// up only Grace after the last moment that any answer has named, or when the programs say
// that they have stopped. A definite loss (an operator's force release) can't be foreseen:
// then the fencing token alone protects.
package leadserve

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// Options for [New]. All durations are more than 0.
type Options struct {
	TTL     time.Duration // of the lease
	Grace   time.Duration // for programs to stop: from the moment that an answer names to the end of the hold
	Certain time.Duration // how far ahead the moment is that an answer names, at most

	OnChange func(leader.Status) // as leader.Options has it
	Renewals *slog.Logger        // gets what keepalive logs
	Words    func(error) string  // an error for people
}

// Leadership campaigns for one key and reports how that goes. It is safe for concurrent use.
type Leadership struct {
	key  string
	opts Options

	mu      sync.Mutex // guards all below; taken before the Elector's
	elector *leader.Elector
	locker  lock.Locker
	lease   lock.Lease    // the last one that was granted
	term    *term         // nil between terms
	changed chan struct{} // closed and replaced when an answer may have changed
	closed  bool
	streams int
}

// term is one term of this process. Leadership.mu guards it.
type term struct {
	token    uint64
	holder   string        // this process as the store shows it, "" while it is not known
	promised time.Time     // the latest moment that an answer has named
	ending   bool          // its context has ended, or its programs have stopped: nothing is promised any more
	stopped  chan struct{} // closed when the programs have said that they have stopped
	said     bool          // stopped is closed
}

// New makes a Leadership, which stands by for nothing until Run.
func New(key string, opts Options) *Leadership {
	return &Leadership{key: key, opts: opts, changed: make(chan struct{})}
}

// Run campaigns and leads, term after term, until ctx ends. What it returns is what
// [leader.Run] does. It is called once.
func (l *Leadership) Run(ctx context.Context, locker lock.Locker) error {
	e := leader.New(&followed{locker, l}, l.key, &leader.Options{
		TTL: l.opts.TTL,
		Keepalive: &keepalive.Options{
			Margin: l.opts.Grace,
			// Half of what is left for it: one renewal may fail, and the next be in time.
			Interval: min(l.opts.TTL/2, (l.opts.TTL-l.opts.Grace)/2),
			// More than lead takes to return.
			DrainTimeout: l.opts.Certain + l.opts.Grace + l.opts.TTL,
			Logger:       l.opts.Renewals,
		},
		OnChange: func(s leader.Status) {
			l.notify()
			if l.opts.OnChange != nil {
				l.opts.OnChange(s)
			}
		},
	})
	l.mu.Lock()
	l.elector, l.locker = e, locker
	l.mu.Unlock()
	return e.Run(ctx, l.lead)
}

// Close ends all streams. Answers go on to be given.
func (l *Leadership) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.notify()
}

// lead is one term: it returns when the hold may end.
func (l *Leadership) lead(ctx context.Context) error {
	t := &term{token: lock.Token(ctx), stopped: make(chan struct{})}
	l.set(func() { l.term = t })
	defer l.set(func() { l.term = nil })

	var naming sync.WaitGroup
	naming.Go(func() { l.name(ctx, t) })
	defer naming.Wait()

	select {
	case <-ctx.Done():
	case <-t.stopped:
		l.elector.Resign() // this term: it can't be over before lead has returned
		<-ctx.Done()
	}
	// From here on no answer promises anything: what is read of t stands.
	var promised time.Time
	l.set(func() { t.ending, promised = true, t.promised })
	if promised.IsZero() {
		return nil // no answer has said that this process leads
	}
	// Programs that lead by what they received last have until then to receive that it is
	// over, and to stop. The lease is held and renewed meanwhile; one that could not be renewed
	// lasts for as long as that, and must not be released before either.
	timer := time.NewTimer(time.Until(promised.Add(l.opts.Grace)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.stopped:
	}
	return nil
}

// name finds out under which name the store shows this process.
func (l *Leadership) name(ctx context.Context, t *term) {
	inspector, ok := lock.As[lock.Inspector](l.locker)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.TTL/4)
	defer cancel()
	if info, err := inspector.Inspect(ctx, l.key); err == nil && info.Token == t.token {
		l.set(func() { t.holder = info.Holder })
	}
}

// set changes what answers are made of.
func (l *Leadership) set(change func()) {
	l.mu.Lock()
	change()
	l.mu.Unlock()
	l.notify()
}

// notify wakes all streams.
func (l *Leadership) notify() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// change is closed at the next change after this call.
func (l *Leadership) change() (<-chan struct{}, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed, l.closed
}

// answer is what is known at one moment.
type answer struct {
	state   leader.State
	leading bool
	token   uint64    // of this process's term; 0: none
	until   time.Time // while leading: until when that is certain
	holder  string    // who leads as far as is known
	reason  error     // why nobody is known to lead, if the store can't tell
}

// now is the answer to the one that asks now. If it says that this process leads, the hold
// lasts until the moment that it names and Grace longer.
func (l *Leadership) now() answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.elector == nil {
		return answer{state: leader.Stopped}
	}
	var until time.Time
	if l.term != nil && !l.term.ending {
		// The lease is this process's until its Expiry, which was read before the Elector is
		// asked: a lease that was renewed too late, which it calls lost, is none here either.
		until = l.lease.Expiry().Add(-l.opts.Grace)
	}
	s := l.elector.Status()
	a := answer{state: s.State, token: s.Token}
	now := time.Now()
	switch {
	case s.State == leader.Leading && l.term != nil && s.Token == l.term.token && now.Before(until):
		a.leading, a.until = true, until
		if bound := now.Add(l.opts.Certain); bound.Before(until) {
			a.until = bound
		}
		// Under mu, so that lead sees this promise or has ended the term before it is made.
		if a.until.After(l.term.promised) {
			l.term.promised = a.until
		}
		a.holder = l.term.holder
	case s.State == leader.Leading:
		// The lease has just begun, and with too little time left to promise any, or the term
		// has just ended.
		a.state, a.token = leader.StandingBy, 0
		if l.term != nil && l.term.ending {
			a.state, a.token = leader.Draining, s.Token
		}
	case s.State == leader.StandingBy:
		if held, ok := errors.AsType[*lock.HeldError](s.LastAttempt); ok && errors.Is(s.LastAttempt, lock.ErrHeld) {
			a.holder = held.Holder
		} else {
			a.reason = s.LastAttempt
		}
	}
	if a.state == leader.Draining && l.term != nil {
		a.holder = l.term.holder
	}
	return a
}

// stopped notes that the programs which lead by the answers of the term with that token have
// stopped: its hold is given up at once. It reports whether that term is under way.
func (l *Leadership) stopped(token uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.term
	if t == nil || t.token != token {
		return false
	}
	if !t.said {
		// With the same mu as an answer: none promises this term any more, which may be free soon.
		t.said, t.ending = true, true
		close(t.stopped)
	}
	return true
}

// followed notes the lease of each term, whose Expiry the answers go by.
type followed struct {
	lock.Locker
	l *Leadership
}

// Unwrap lets Acquire find what the locker can do.
func (f *followed) Unwrap() lock.Locker { return f.Locker }

// As lets Acquire wait in the store's own queue.
func (f *followed) As(target any) bool {
	t, ok := target.(*lock.Awaiter)
	if !ok {
		return false
	}
	inner, ok := lock.As[lock.Awaiter](f.Locker)
	if ok {
		*t = followedQueue{f, inner}
	}
	return ok
}

func (f *followed) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := f.Locker.TryAcquire(ctx, key, ttl)
	return f.granted(lease, err)
}

type followedQueue struct {
	f     *followed
	inner lock.Awaiter
}

func (q followedQueue) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	lease, err := q.inner.Await(ctx, key, ttl, refused)
	return q.f.granted(lease, err)
}

func (f *followed) granted(lease lock.Lease, err error) (lock.Lease, error) {
	if err != nil {
		return nil, err
	}
	f.l.set(func() { f.l.lease = lease })
	return &followedLease{lease, f.l}, nil
}

type followedLease struct {
	lock.Lease
	l *Leadership
}

func (f *followedLease) Extend(ctx context.Context, ttl time.Duration) error {
	err := f.Lease.Extend(ctx, ttl)
	f.l.notify()
	return err
}
