package keepalive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tonsurance/lockkeeper/internal/outcome"
	"github.com/tonsurance/lockkeeper/lock"
)

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
// If fn did not run, it is that of [lock.Acquire], or matches [lock.ErrInvalid], or
// [lock.ErrLost] where the store granted the lease so late that nothing of it was left.
func Do(ctx context.Context, locker lock.Locker, key string, ttl time.Duration, fn func(context.Context) error, opts *Options) (err error) {
	o, err := opts.WithDefaults(ttl)
	switch {
	case err != nil:
	case locker == nil:
		err = fmt.Errorf("%w: locker is nil", lock.ErrInvalid)
	case fn == nil:
		err = fmt.Errorf("%w: fn is nil", lock.ErrInvalid)
	default:
		if err = lock.Check(key, ttl); err == nil && o.AtLeast > 0 {
			err = lock.CheckReleaseAfter(locker, o.AtLeast)
		}
	}
	if err != nil {
		return fmt.Errorf("keepalive: do: %w", err)
	}
	waiting, acquire := waitLog(key, o)
	lease, err := lock.Acquire(ctx, locker, key, ttl, acquire)
	if err != nil {
		return err
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
	k, err := start(ctx, lease, ttl, o)
	if err != nil {
		return outcome.Join(err, outcome.UnlessLost(lease.Release(context.WithoutCancel(ctx))))
	}

	returned := false
	defer func() {
		late.done()
		// ctx bounds the work, and leaves no time for a release when the work took it all.
		release := k.end(context.WithoutCancel(ctx), o.AtLeast)
		if !returned && release != nil { // a panic goes on: nobody else will tell
			o.Logger.Error("release failed", "key", k.Key(), "token", k.Token(), "err", release)
		}
		err = outcome.Join(err, release)
	}()
	err = fn(k.Context())
	returned = true
	return err
}

// end releases the lease; the store keeps the key for atLeast since it was asked for.
func (k *Keeper) end(ctx context.Context, atLeast time.Duration) error {
	if atLeast > 0 {
		return k.ReleaseAfter(ctx, atLeast)
	}
	return k.Release(ctx)
}

// waitLog gives the options for Acquire that let the log say why it waits, and
// whether it had to.
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
