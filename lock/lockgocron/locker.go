package lockgocron

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"

	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// DefaultTTL is for how long a run's key stays held when its scheduler has died.
const DefaultTTL = 30 * time.Second

// ErrNoLock is returned by a run that has no lock of its own, without having called the
// job's function: gocron did not ask the [Locker] (it has an elector, or the job's locker
// is disabled).
var ErrNoLock = errors.New("lockgocron: the run has no lock")

// Options for [NewLocker]. nil means the defaults.
type Options struct {
	// TTL of a run's lease, which is renewed for as long as the job runs. Defaults to
	// [DefaultTTL].
	TTL time.Duration

	// Keepalive is how the lease is renewed, how long before its end the job's context
	// ends, and who gets losses and failed releases (its OnLost and Logger: gocron
	// reports neither). Its Acquire must be nil and its AtLeast 0. nil means keepalive's
	// defaults, and silence.
	Keepalive *keepalive.Options
}

// Locker is a [gocron.Locker]: the key of a run is its job's name. It is safe for
// concurrent use, by several schedulers too.
type Locker struct {
	locker  lock.Locker
	atLeast time.Duration
	ttl     time.Duration
	keep    keepalive.Options
	log     *slog.Logger

	mu    sync.Mutex         // protects holds, and the claims of each
	holds map[string][]*hold // by key: locked, and not claimed by a run yet, oldest first
}

var _ gocron.Locker = (*Locker)(nil)

// NewLocker makes a Locker whose keys stay held until atLeast after they were asked for,
// however soon the job returns. Choose it larger than what the clocks of any two
// schedulers may differ, or both run a short job, one after the other; and smaller than
// the shortest interval between two runs of a job, or every second run is skipped. At least
// 1ms; 0 means none: for schedulers whose jobs are not due at the same time.
//
// An error matches [lock.ErrInvalid], or [errors.ErrUnsupported] for a store that can't
// keep a key held without its holder ([lock.CheckReleaseAfter]). Nothing is sent.
func NewLocker(l lock.Locker, atLeast time.Duration, opts *Options) (*Locker, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	keep, err := o.Keepalive.WithDefaults(o.TTL)
	switch {
	case l == nil:
		err = fmt.Errorf("%w: locker is nil", lock.ErrInvalid)
	case err != nil:
	case keep.Acquire != nil:
		err = fmt.Errorf("%w: Options.Keepalive.Acquire is set, want nil: a run is not waited for", lock.ErrInvalid)
	case keep.AtLeast != 0:
		err = fmt.Errorf("%w: Options.Keepalive.AtLeast is %v, want 0: it is an argument of NewLocker", lock.ErrInvalid, keep.AtLeast)
	case atLeast != 0 && atLeast < time.Millisecond:
		err = fmt.Errorf("%w: the minimum hold is %v, want 0 for none, or at least 1ms", lock.ErrInvalid, atLeast)
	case atLeast > 0:
		err = lock.CheckReleaseAfter(l, atLeast)
	}
	if err == nil {
		err = lock.Check("a job", o.TTL)
	}
	if err != nil {
		return nil, fmt.Errorf("lockgocron: new locker: %w", err)
	}
	return &Locker{locker: l, atLeast: atLeast, ttl: o.TTL, keep: keep, log: keep.Logger, holds: map[string][]*hold{}}, nil
}

// NewJob adds a job to s under this name, whose every run has the lock of that name: its
// context ends with gocron's, and before the lock can pass on; it carries the fencing
// token ([lock.Token]). fn must return soon after that. The lock is freed when it has
// returned. Where another scheduler has the lock, or the store does not answer, the run is
// skipped, and [gocron.AfterLockError] receives why.
//
// All schedulers must give the job the same name, and other jobs another. opts can't
// change the name and the locker.
func (l *Locker) NewJob(s gocron.Scheduler, d gocron.JobDefinition, name string, fn func(context.Context) error, opts ...gocron.JobOption) (gocron.Job, error) {
	err := lock.Check(name, l.ttl)
	switch {
	case s == nil:
		err = fmt.Errorf("%w: scheduler is nil", lock.ErrInvalid)
	case fn == nil:
		err = fmt.Errorf("%w: fn is nil", lock.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("lockgocron: new job %q: %w", name, err)
	}
	task := gocron.NewTask(func(context.Context) error { // the keeper's context ends with this one
		h := l.claim(name)
		if h == nil {
			err := fmt.Errorf("%w: job %q was not run; want no elector and no disabled locker", ErrNoLock, name)
			l.log.Error("a run has no lock", "key", name, "err", err)
			return err
		}
		defer h.claims.Done()
		return fn(h.keeper.Context())
	})
	return s.NewJob(d, task, append(opts[:len(opts):len(opts)], gocron.WithName(name), gocron.WithDistributedJobLocker(l))...)
}

// hold is the lock of one run.
type hold struct {
	keeper *keepalive.Keeper
	// claims is the run under it, if it has begun. gocron passes nothing from Lock to the
	// run, so a run claims the oldest hold of its name. That is nearly always its own. Where
	// two runs of a job met in one process (a lock.Semaphore has several holders, and a
	// paused run may meet the next), each has one of the two; so Unlock waits for whichever
	// run claimed its hold.
	claims sync.WaitGroup
}

// Lock takes the lock of a run, once: gocron skips the run on an error, which matches
// [lock.ErrHeld] where another scheduler has it. It is gocron that calls Lock.
func (l *Locker) Lock(ctx context.Context, key string) (gocron.Lock, error) {
	// A grant that takes a ttl has nothing left, so there is no use in waiting longer.
	lease, err := lock.Acquire(ctx, l.locker, key, l.ttl, &lock.AcquireOptions{Attempts: 1, Timeout: l.ttl})
	if err != nil {
		return nil, err
	}
	// Release works although ctx has ended, and is bounded by itself.
	ctx = lock.WithTokenOf(ctx, key, lease.Token()) // by the job's name, also under a lock.Prefix
	keeper, err := keepalive.Start(ctx, lease, l.ttl, &l.keep)
	if err != nil {
		return nil, errors.Join(err, lease.Release(ctx))
	}
	h := &hold{keeper: keeper}
	l.mu.Lock()
	l.holds[key] = append(l.holds[key], h)
	l.mu.Unlock()
	return runLock{l, key, h}, nil
}

// claim takes the hold of the run that begins, or nil.
func (l *Locker) claim(key string) *hold {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.holds[key]) == 0 {
		return nil
	}
	h := l.holds[key][0]
	l.forget(key, h) // one run a hold
	h.claims.Add(1)
	return h
}

// forget lets no run claim h from here on. The caller holds l.mu.
func (l *Locker) forget(key string, h *hold) {
	left := slices.DeleteFunc(l.holds[key], func(o *hold) bool { return o == h })
	if len(left) == 0 {
		delete(l.holds, key)
		return
	}
	l.holds[key] = left
}

type runLock struct {
	l   *Locker
	key string
	h   *hold
}

// Unlock ends the hold; the store keeps the key until the minimum hold is over. gocron
// calls it when the job has returned, and drops its error.
func (r runLock) Unlock(ctx context.Context) error {
	r.l.mu.Lock()
	r.l.forget(r.key, r.h)
	r.l.mu.Unlock()
	r.h.claims.Wait()
	var err error
	if r.l.atLeast > 0 {
		err = r.h.keeper.ReleaseAfter(ctx, r.l.atLeast)
	} else {
		err = r.h.keeper.Release(ctx)
	}
	if err != nil && !errors.Is(err, lock.ErrLost) { // keepalive has logged a loss
		r.l.log.Warn("release failed", "key", r.h.keeper.Key(), "token", r.h.keeper.Token(), "err", err)
	}
	return err
}
