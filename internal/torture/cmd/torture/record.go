package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// recorder is a Locker whose leases tell the parent of every change of their
// validity, before whoever uses them can act on it.
type recorder struct {
	lock.Locker
	say  func(said)
	last *atomic.Int64 // ID of a lease
}

// Unwrap lets Acquire find what the locker can do.
func (r recorder) Unwrap() lock.Locker { return r.Locker }

func (r recorder) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	asked := mono()
	lease, err := r.Locker.TryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	l := &recorded{Lease: lease, say: r.say, id: r.last.Add(1)}
	r.say(said{What: saidLease, ID: l.id, Key: key, Token: lease.Token(), Asked: asked, At: mono(), Until: monoOf(lease.Expiry())})
	return l, nil
}

type recorded struct {
	lock.Lease
	say func(said)
	id  int64

	mu sync.Mutex // one at a time extends, so that what is told is in order
}

func (l *recorded) Extend(ctx context.Context, ttl time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.Lease.Extend(ctx, ttl)
	expiry := l.Expiry()
	switch {
	case err == nil && !expiry.IsZero(): // zero: a release has begun meanwhile
		l.say(said{What: saidUntil, ID: l.id, Until: monoOf(expiry)})
	case errors.Is(err, lock.ErrLost):
		l.say(said{What: saidLost, ID: l.id, At: mono()})
	}
	return err
}

func (l *recorded) Release(ctx context.Context) error {
	l.say(said{What: saidEnded, ID: l.id, At: mono()})
	return l.Lease.Release(ctx)
}
