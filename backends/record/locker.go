package record

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var (
	_ lock.Locker        = (*Locker)(nil)
	_ lock.Watcher       = (*Locker)(nil)
	_ lock.Inspector     = (*Locker)(nil)
	_ lock.ForceReleaser = (*Locker)(nil)
	_ lock.HealthChecker = (*Locker)(nil)
	_ io.Closer          = (*Locker)(nil)

	_ lock.MaxReleaseAfterer = (*Locker)(nil)
)

// Locker locks by the records of a store. It is safe for concurrent use.
type Locker struct {
	lock.Waiters

	store   Store
	opts    Options
	process string      // in queues: random, so that no two Lockers share it
	served  atomic.Bool // a write has succeeded: from then on a refusal counts as an outage

	closing context.Context // ends when Close begins
	close   context.CancelFunc
	jobs    sync.WaitGroup // attempts, clean-ups, watches; added to under mu, while not closed

	mu       sync.Mutex // guards all below; never held across a call to the store
	closed   bool
	clock    storeClock
	observed map[string]*observed
	watched  map[string]*subscription
	polling  bool // the poller runs
}

// New makes a Locker over store, without asking it anything. nil options mean the
// defaults. The store remains the caller's to close, after Close.
func New(store Store, o *Options) (*Locker, error) {
	if store == nil {
		return nil, fmt.Errorf("record: %w: the store is nil", lock.ErrInvalid)
	}
	_, pushes := store.(Watcher)
	opts, err := o.withDefaults(pushes)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	closing, cancel := context.WithCancel(context.Background())
	return &Locker{
		store: store, opts: opts, process: rand.Text()[:12], closing: closing, close: cancel,
		observed: map[string]*observed{}, watched: map[string]*subscription{},
	}, nil
}

// Close refuses later calls, ends those under way, wakes who waits, and returns when
// clean-ups and watches have ended, within Options.Timeout. Held leases can't be extended
// any more, but released; what is not released ends by its ttl.
func (l *Locker) Close() error {
	l.mu.Lock()
	l.closed = true
	subs := make([]*subscription, 0, len(l.watched))
	for _, s := range l.watched {
		subs = append(subs, s)
	}
	clear(l.watched)
	l.mu.Unlock()
	l.close()
	for _, s := range subs {
		l.mu.Lock()
		s.wake() // so that those who wait learn of it
		s.wakes = nil
		l.mu.Unlock()
		s.end()
	}
	l.jobs.Wait()
	return nil
}

// MaxReleaseAfter is the longest that [lock.ReleaseAfter] can keep a key: any ttl.
func (l *Locker) MaxReleaseAfter() time.Duration { return lock.MaxTTL }

// begin registers a call that Close waits for. Its ctx ends with the Locker's, too.
func (l *Locker) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := lock.ContextError(ctx); err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, lock.ErrClosed
	}
	l.jobs.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.closing, cancel)
	return ctx, func() { stop(); cancel(); l.jobs.Done() }, nil
}

// background runs a job that Close waits for; not at all after Close has begun.
func (l *Locker) background(job func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.jobs.Go(job)
	}
}

// get reads a record and notes what it received.
func (l *Locker) get(ctx context.Context, name, key string) (Entry, error) {
	bounded, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	e, err := l.store.Get(bounded, name)
	cancel()
	if u, ok := errors.AsType[*unreadable](err); ok {
		err = fmt.Errorf("what is stored at %q %s", name, u.why)
	}
	if err != nil {
		return e, l.failed(ctx, err)
	}
	if e.Version == "" {
		e.Record = Record{}
	} else if e.Record.Key != key {
		// Two names that the store can't distinguish, or a record that was copied by hand.
		return e, fmt.Errorf("%w: %q is where the record of another key is, %.64q", lock.ErrUnavailable, name, e.Record.Key)
	}
	return l.observe(name, e, time.Now()), nil
}

// put writes a record and notes that it stands.
func (l *Locker) put(ctx context.Context, name string, r Record, version string) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	newVersion, err := l.store.Put(bounded, name, r, version)
	cancel()
	switch {
	case errors.Is(err, ErrChanged):
		return "", ErrChanged
	case err != nil:
		return "", l.failed(ctx, err)
	case newVersion == "":
		return "", fmt.Errorf("%w: the store returned no version", lock.ErrUnavailable)
	}
	l.served.Store(true)
	l.observe(name, Entry{Record: r, Version: newVersion}, time.Now())
	return newVersion, nil
}

// failed is what a store's error means to a caller: nothing is known.
func (l *Locker) failed(ctx context.Context, err error) error {
	switch {
	case l.closing.Err() != nil:
		return lock.ErrClosed
	case ctx.Err() != nil:
		return fmt.Errorf("%w; the store: %v", lock.ContextError(ctx), err)
	case errors.Is(err, lock.ErrInvalid):
		return err
	case errors.Is(err, lock.ErrRefused) && !l.served.Load():
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no answer within %v", lock.ErrUnavailable, l.opts.Timeout)
	}
	// Also of a refusal after a success: what worked once may work again, and a held lease
	// must not end early for it. Not wrapped, so that nothing of it is matched.
	return fmt.Errorf("%w: %v", lock.ErrUnavailable, err)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
