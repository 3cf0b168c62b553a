package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/internal/outcome"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

var (
	// ErrNotElected: the campaign ended without fn having run in it. The error
	// wraps the cause, such as lock.ErrHeld: another copy leads.
	ErrNotElected = errors.New("leader: not elected")
	// ErrRunning: this Elector's Run runs already.
	ErrRunning = errors.New("leader: already running")
)

// Run campaigns for key, and runs fn while this process leads; see the package
// page for what happens when, and what it returns. fn's context ends when ctx
// does, and before anyone else can lead; it carries the fencing token
// ([lock.Token]). fn must return soon after it has ended.
//
// Where ctx ends while this process stands by, Run returns context.Cause(ctx). That
// is context.Canceled only if ctx was given no other cause (signal.NotifyContext
// gives one that names the signal): compare with errors.Is(err, context.Cause(ctx)).
func Run(ctx context.Context, locker lock.Locker, key string, fn func(context.Context) error, opts *Options) error {
	return New(locker, key, opts).Run(ctx, fn)
}

// Elector campaigns for one key. It is safe for concurrent use.
type Elector struct {
	locker lock.Locker
	key    string
	opts   Options

	// term keeps the lease that fn works under: set before fn is called, and unset when fn
	// has returned, before the lease is released. While status.State is Leading it is set.
	term atomic.Pointer[keepalive.Keeper]

	mu      sync.Mutex // guards all below; taken before those of changes and of a Keeper
	running bool
	status  Status
	asking  time.Time               // when the attempt under way began; zero if there is none
	endTerm context.CancelCauseFunc // of fn's context; nil between terms
	endedBy bool                    // it was Resign that ended the term under way, or the last one
	changes *changes                // nil without OnChange
}

// New makes an Elector. Bad input is reported by Run, before any I/O.
func New(locker lock.Locker, key string, opts *Options) *Elector {
	e := &Elector{locker: locker, key: key, status: Status{Key: key, State: Stopped, Since: time.Now()}}
	if opts != nil {
		e.opts = *opts
	}
	e.status.TTL = cmp.Or(e.opts.TTL, DefaultTTL)
	return e
}

// Run does what the function [Run] does. One at a time: a second fails with
// [ErrRunning]; when it has returned it may be called again.
func (e *Elector) Run(ctx context.Context, fn func(context.Context) error) error {
	s, err := e.settings(fn)
	if err == nil && ctx == nil {
		err = lock.ContextError(ctx)
	}
	if err != nil {
		return fmt.Errorf("leader: run: %w", err)
	}
	if err := e.start(); err != nil {
		return err
	}
	defer e.stop(s)
	for {
		k, err := e.campaign(ctx, s)
		if err != nil {
			return err
		}
		returned, err := e.lead(ctx, s, k, fn)
		if returned || s.once || ctx.Err() != nil {
			return err
		}
		e.setState(StandingBy)
		next := e.pause
		if e.resigned() {
			next = e.aside
		}
		if err := next(ctx, s); err != nil {
			return err
		}
	}
}

func (e *Elector) start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running {
		return fmt.Errorf("%w: %q", ErrRunning, e.key)
	}
	e.running = true
	if e.opts.OnChange != nil {
		e.changes = newChanges(e.opts.OnChange)
	}
	return nil
}

func (e *Elector) stop(s settings) {
	e.set(func(s *Status) { s.State, s.LastAttempt, s.OutageSince = Stopped, nil, time.Time{} })
	if e.changes != nil && !e.changes.close() {
		s.log.Error("OnChange has not returned", "key", e.key, "waited", changeTimeout)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running, e.changes = false, nil
}

// campaign waits until this process is elected.
func (e *Elector) campaign(ctx context.Context, s settings) (*keepalive.Keeper, error) {
	e.setState(StandingBy)
	for {
		lease, err := lock.Acquire(ctx, &attempts{Locker: e.locker, e: e}, e.key, s.ttl, e.acquireOptions(s))
		switch {
		case err != nil && ctx.Err() != nil:
			s.log.Info("campaign ended", "key", e.key, "err", err)
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrNotElected, err)
		}
		// (lock.TokenOf is to find the token by the key that this Elector was given, too, where
		// the key's full name in the store is another.)
		term, end := context.WithCancelCause(lock.WithTokenOf(ctx, e.key, lease.Token()))
		k, err := keepalive.Start(term, lease, s.ttl, &s.keepalive)
		if err == nil {
			e.mu.Lock()
			e.endTerm, e.endedBy = end, false
			e.mu.Unlock()
			return k, nil
		}
		end(nil)
		// The store answered so late that there is no time to lead.
		err = outcome.Join(err, outcome.UnlessLost(lease.Release(context.WithoutCancel(ctx))))
		s.log.Warn("elected too late", "key", e.key, "token", lease.Token(), "err", err)
		if s.bounded() {
			return nil, fmt.Errorf("%w: %w", ErrNotElected, err)
		}
		if err := e.pause(ctx, s); err != nil {
			return nil, err
		}
	}
}

// acquireOptions are the user's, with an OnWait that reports to the Elector as well.
func (e *Elector) acquireOptions(s settings) *lock.AcquireOptions {
	var o lock.AcquireOptions
	if s.acquire != nil {
		o = *s.acquire
	}
	theirs := o.OnWait
	o.OnWait = func(err error) {
		e.standingBy(s.log, err)
		if theirs != nil {
			theirs(err)
		}
	}
	return &o
}

// lead runs fn for one term. returned means that fn returned of its own accord.
func (e *Elector) lead(ctx context.Context, s settings, k *keepalive.Keeper, fn func(context.Context) error) (returned bool, err error) {
	e.term.Store(k)
	e.set(func(s *Status) {
		s.State, s.Token, s.LastAttempt, s.OutageSince = Leading, k.Token(), nil, time.Time{}
		s.Terms++
	})
	fnDone, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		e.watch(s, k, fnDone)
	}()
	asked, stopAsking := context.WithCancel(context.WithoutCancel(ctx)) // of requests: ended when fn has returned
	var requests sync.WaitGroup
	requests.Go(func() { e.requests(asked, s, k) })

	// Deferred, so that the lease is freed once and after fn, also if fn or a logger
	// panics or exits its goroutine; the panic then goes on.
	err = errNotReturned
	defer func() {
		returned = k.Context().Err() == nil
		e.setEnding(k)
		end := e.closeTerm()
		close(fnDone)
		stopAsking()
		requests.Wait()
		err = outcome.Join(err, k.Release(context.WithoutCancel(ctx))) // ctx bounds fn, not this
		end(nil)
		<-watched
		e.mu.Lock()
		e.status.Token, e.status.Overdue, e.status.LastResult = 0, false, err
		e.mu.Unlock()
		s.log.Info("term ended", "key", e.key, "token", k.Token(), "resigned", returned || e.resigned(), "err", err)
	}()
	s.log.Info("leading", "key", e.key, "token", k.Token())
	err = fn(k.Context())
	return
}

// watch follows a term from when its context ends until fn has returned.
func (e *Elector) watch(s settings, k *keepalive.Keeper, fnDone <-chan struct{}) {
	select {
	case <-k.Context().Done():
	case <-fnDone:
		return
	}
	select {
	case <-fnDone: // the context may have ended by the release alone
		return
	default:
	}
	e.setEnding(k)
	select {
	case <-k.Lost():
	case <-fnDone:
		return
	}
	e.setEnding(k)
	s.log.Warn("term lost", "key", e.key, "token", k.Token())

	budget := time.NewTimer(max(0, s.keepalive.Margin))
	defer budget.Stop()
	select {
	case <-budget.C:
	case <-fnDone:
		return
	}
	e.set(func(s *Status) { s.Overdue = true })
	s.log.Error("fn still runs although its term is lost; no other is started beside it", "key", e.key, "token", k.Token())
}

// pause waits a little before campaigning again, at random, so that copies that
// lost together, or a store that loses every lease, are not asked in step.
func (e *Elector) pause(ctx context.Context, s settings) error {
	d := min(s.ttl/20, time.Second)
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Leader asks the store who leads now; a zero Holder means nobody. It needs a
// locker that is, or wraps, a [lock.Inspector]; without one the error matches
// [errors.ErrUnsupported].
func (e *Elector) Leader(ctx context.Context) (lock.Info, error) {
	inspector, ok := lock.As[lock.Inspector](e.locker)
	if !ok {
		return lock.Info{}, fmt.Errorf("leader: %q: %T can't tell who leads: %w", e.key, e.locker, errors.ErrUnsupported)
	}
	return inspector.Inspect(ctx, e.key)
}
