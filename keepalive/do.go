package keepalive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/internal/outcome"
	"github.com/tonsurance/lockkeeper/lock"
)

// ErrNotRun says that the function was never called. Errors of Do, DoAll, TryDo and Once match
// it besides their reason, such as [lock.ErrHeld], so that it is distinguished from the
// same reason in an error of the function's own.
var ErrNotRun = errors.New("keepalive: the function did not run")

// notRun is err of a call that did not run its function. Its text is that of err.
type notRun struct{ error }

func (e notRun) Unwrap() error        { return e.error }
func (e notRun) Is(target error) bool { return target == ErrNotRun }

// didRun is the error of a function that ran, and that returned another Do's ErrNotRun.
// Its text and all other identity stay.
type didRun struct{ err error }

func (e didRun) Error() string        { return e.err.Error() }
func (e didRun) Is(target error) bool { return target != ErrNotRun && errors.Is(e.err, target) }
func (e didRun) As(target any) bool   { return errors.As(e.err, target) }

// Do acquires key for ttl (opts.Acquire bounds the waiting; the default waits until
// ctx ends), runs fn while it keeps the lease, and releases it when fn has
// returned, panicked or exited its goroutine: not earlier, whatever happens.
//
// fn's context is that of a [Keeper]: fn must return soon after it ends, and has
// until then nothing to check but the context. After ctx has ended the lease is
// still renewed, so that fn can wind down under it, for up to opts.DrainTimeout: that
// is the ttl unless set. Work that needs longer to stop needs a longer one, or it
// loses the lease, with an error that says so. A fn that runs on although the lease
// is lost is reported to opts.Logger, and Do waits for it.
//
// With opts.AtLeast the key stays held for that long, so that the same job, started
// a little later by another machine's clock, finds it held.
//
// Where ctx ends while Do waits, the error matches ctx.Err() and context.Cause(ctx).
//
// The error is fn's. Besides, it matches
//
//   - [lock.ErrLost] if the lease was lost before fn had returned, even if fn
//     returned nil: part of its work may have been done outside the lock;
//   - the store's error, such as [lock.ErrUnavailable], if the lease could not be
//     released: all of fn ran under the lock, but the next holder has to wait for
//     the ttl's end.
//
// If fn did not run, it matches [ErrNotRun], and is that of [lock.Acquire], or matches
// [lock.ErrInvalid], or [lock.ErrLost] where the store granted the lease so late that
// nothing of it was left.
func Do(ctx context.Context, locker lock.Locker, key string, ttl time.Duration, fn func(context.Context) error, opts *Options) error {
	return do(ctx, locker, []string{key}, ttl, fn, opts, func(acquire *lock.AcquireOptions) (lock.Lease, error) {
		return lock.Acquire(ctx, locker, key, ttl, acquire)
	})
}

// DoAll is Do under the locks of all keys at once, as [lock.AcquireAll] takes them: all
// or nothing. The loss of one ends fn's context. [lock.TokenOf] gives each key's token.
func DoAll(ctx context.Context, locker lock.Locker, keys []string, ttl time.Duration, fn func(context.Context) error, opts *Options) error {
	if len(keys) == 0 {
		return notRun{fmt.Errorf("keepalive: do: %w: no keys, want 1 or more", lock.ErrInvalid)}
	}
	return do(ctx, locker, keys, ttl, fn, opts, func(acquire *lock.AcquireOptions) (lock.Lease, error) {
		set, err := lock.AcquireAll(ctx, locker, keys, ttl, acquire)
		if err != nil {
			return nil, err // not a nil *Set in a Lease
		}
		return set, nil
	})
}

// TryDo is Do if nobody holds key at this moment; otherwise it does nothing: ran is
// false, and err nil. ran says whether fn ran, whatever err is. The store is asked once,
// whatever opts.Acquire says.
//
// A store that can find out only by observing whether a holder lives (etcd, for one) refuses
// the key of a dead one until it was asked again from the same locker, a ttl later.
func TryDo(ctx context.Context, locker lock.Locker, key string, ttl time.Duration, fn func(context.Context) error, opts *Options) (ran bool, err error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	var acquire lock.AcquireOptions
	if o.Acquire != nil {
		acquire = *o.Acquire
	}
	acquire.Attempts = 1
	o.Acquire = &acquire
	return doUnlessHeld(ctx, locker, key, ttl, fn, &o)
}

// doUnlessHeld is Do, for which a key that another holds is no error.
func doUnlessHeld(ctx context.Context, locker lock.Locker, key string, ttl time.Duration, fn func(context.Context) error, opts *Options) (ran bool, err error) {
	run := fn
	if fn != nil { // Do refuses a nil one
		run = func(ctx context.Context) error {
			ran = true
			return fn(ctx)
		}
	}
	err = Do(ctx, locker, key, ttl, run, opts)
	if !ran && errors.Is(err, lock.ErrHeld) && ctx.Err() == nil { // else the wait was ended from outside
		return false, nil
	}
	return ran, err
}

// do is Do for whatever lease acquire gets. The keys are as the caller calls them.
func do(ctx context.Context, locker lock.Locker, keys []string, ttl time.Duration, fn func(context.Context) error, opts *Options,
	acquire func(*lock.AcquireOptions) (lock.Lease, error)) (err error) {
	o, err := opts.WithDefaults(ttl)
	switch {
	case err != nil:
	case locker == nil:
		err = fmt.Errorf("%w: locker is nil", lock.ErrInvalid)
	case fn == nil:
		err = fmt.Errorf("%w: fn is nil", lock.ErrInvalid)
	default:
		for _, key := range keys {
			if err == nil {
				err = lock.Check(key, ttl)
			}
		}
		if err == nil && o.AtLeast > 0 {
			err = lock.CheckReleaseAfter(locker, o.AtLeast)
		}
	}
	if err != nil {
		return notRun{fmt.Errorf("keepalive: do: %w", err)}
	}
	waiting, options := waitLog(keys[0], o)
	lease, err := acquire(options)
	if err != nil {
		return notRun{err}
	}
	if *waiting {
		o.Logger.Info("acquired", "key", lease.Key(), "token", lease.Token())
	}
	late := &overdue{after: max(0, o.Margin), log: func() {
		o.Logger.Error("the function still runs although its lease is lost", "key", lease.Key(), "token", lease.Token())
	}}
	theirs := o.OnLost
	o.OnLost = func(k *Keeper, err error) {
		late.lost()
		if theirs != nil {
			theirs(k, err)
		}
	}
	k, err := start(withNames(ctx, keys, lease), lease, ttl, o)
	if err != nil {
		return notRun{outcome.Join(err, outcome.UnlessLost(lease.Release(context.WithoutCancel(ctx))))}
	}

	returned := false
	defer func() {
		late.done()
		// ctx bounds the work, and leaves no time for a release when the work took it all.
		release := k.end(context.WithoutCancel(ctx), o.AtLeast)
		if !returned && release != nil { // a panic goes on: nobody else will report it
			o.Logger.Error("release failed", "key", k.Key(), "token", k.Token(), "err", release)
		}
		err = outcome.Join(err, release)
	}()
	if err = fn(k.Context()); errors.Is(err, ErrNotRun) {
		err = didRun{err}
	}
	returned = true
	return err
}

// withNames gives ctx the tokens by the keys as the caller calls them, where the store
// calls them otherwise (a Prefix's, or a slot's), so that lock.TokenOf finds both.
func withNames(ctx context.Context, keys []string, lease lock.Lease) context.Context {
	leases := members(lease) // of the keys as they were given, each once
	for i, key := range keys {
		if slices.Contains(keys[:i], key) {
			continue
		}
		if leases[0].Key() != key {
			ctx = lock.WithTokenOf(ctx, key, leases[0].Token())
		}
		leases = leases[1:]
	}
	return ctx
}

// end releases the lease; the store keeps the key for atLeast since it was asked for.
func (k *Keeper) end(ctx context.Context, atLeast time.Duration) error {
	if atLeast > 0 {
		return k.ReleaseAfter(ctx, atLeast)
	}
	return k.Release(ctx)
}

// waitLog returns the options for Acquire with which the log says why it waits, and waiting,
// which is true after Acquire if it had to wait.
func waitLog(key string, o Options) (waiting *bool, acquire *lock.AcquireOptions) {
	var opts lock.AcquireOptions
	if o.Acquire != nil {
		opts = *o.Acquire
	}
	theirs := opts.OnWait
	waiting = new(bool)
	if theirs == nil && !o.Logger.Enabled(context.Background(), slog.LevelError) {
		return waiting, &opts
	}
	opts.OnWait = func(err error) {
		*waiting = true // Acquire returns after this
		if held, ok := errors.AsType[*lock.HeldError](err); ok {
			o.Logger.Info("waiting: another holds it", "key", held.Key, "holder", held.Holder)
		} else if errors.Is(err, lock.ErrHeld) {
			o.Logger.Info("waiting: another holds it", "key", key)
		} else {
			o.Logger.Warn("no attempt to acquire succeeds", "key", key, "err", err)
		}
		if theirs != nil {
			theirs(err)
		}
	}
	return waiting, &opts
}
