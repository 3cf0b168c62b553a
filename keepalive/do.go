package keepalive

import (
	"context"
	"fmt"
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
// still renewed for up to opts.DrainTimeout.
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
// [lock.ErrLost] where the store granted the lease so late that no more than
// opts.Margin of it was left.
func Do(ctx context.Context, locker lock.Locker, key string, ttl time.Duration, fn func(context.Context) error, opts *Options) (err error) {
	o, err := opts.WithDefaults(ttl)
	switch {
	case err != nil:
	case locker == nil:
		err = fmt.Errorf("%w: locker is nil", lock.ErrInvalid)
	case fn == nil:
		err = fmt.Errorf("%w: fn is nil", lock.ErrInvalid)
	default:
		err = lock.Check(key, ttl)
	}
	if err != nil {
		return fmt.Errorf("keepalive: do: %w", err)
	}
	lease, err := lock.Acquire(ctx, locker, key, ttl, o.Acquire)
	if err != nil {
		return err
	}
	k, err := start(ctx, lease, ttl, o)
	if err != nil {
		return outcome.Join(err, outcome.UnlessLost(lease.Release(ctx)))
	}

	returned := false
	defer func() {
		release := k.Release(ctx)
		if !returned && release != nil { // a panic goes on: nobody else will tell
			o.Logger.Error("release failed", "key", k.Key(), "token", k.Token(), "err", release)
		}
		err = outcome.Join(err, release)
	}()
	err = fn(k.Context())
	returned = true
	return err
}
