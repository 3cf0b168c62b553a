package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// recorder is a Locker whose leases notify the parent of every change of their
// validity, before those who use them can act on it.
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
	return r.record(key, asked, lease, err)
}

// As lets Acquire stand in the store's own queue.
func (r recorder) As(target any) bool {
	return lock.PassAwaiter(target, r.Locker, func(inner lock.Awaiter) lock.Awaiter { return queuedRecorder{r, inner} })
}

type queuedRecorder struct {
	r     recorder
	inner lock.Awaiter
}

func (q queuedRecorder) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	asked := mono()
	lease, err := q.inner.Await(ctx, key, ttl, refused)
	return q.r.record(key, asked, lease, err)
}

// record says that a lease was granted, if it was.
func (r recorder) record(key string, asked int64, lease lock.Lease, err error) (lock.Lease, error) {
	if err != nil {
		return nil, err
	}
	got, until := mono(), monoOf(lease.Expiry())
	if _, ok := lease.(looker); ok {
		until = got
	}
	l := &recorded{Lease: lease, say: r.say, id: r.last.Add(1), until: until}
	r.say(said{What: saidLease, ID: l.id, Key: key, Token: lease.Token(), Asked: asked, At: got, Until: until})
	return l, nil
}

// looker is a lease that does not report its validity, only whether it is alive: it is
// held for as long as somebody has just looked.
type looker interface{ Alive() bool }

type recorded struct {
	lock.Lease
	say func(said)
	id  int64

	mu sync.Mutex // one at a time extends, so that what is reported is in order

	saying sync.Mutex // guards until
	until  int64      // what was said last
}

// renewed says until when the lease holds.
func (l *recorded) renewed(until int64) {
	l.saying.Lock()
	defer l.saying.Unlock()
	l.until = until
	l.say(said{What: saidUntil, ID: l.id, Until: until})
}

// grown says that the lease holds for longer than was said: one that waited in the
// store's queue may grow by itself.
func (l *recorded) grown(until int64) {
	l.saying.Lock()
	defer l.saying.Unlock()
	if until > l.until {
		l.until = until
		l.say(said{What: saidUntil, ID: l.id, Until: until})
	}
}

// Expiry is read by package keepalive, too, whose context then goes by it.
func (l *recorded) Expiry() time.Time {
	expiry := l.Lease.Expiry()
	if _, ok := l.Lease.(looker); !ok {
		l.grown(monoOf(expiry))
	}
	return expiry
}

func (l *recorded) Extend(ctx context.Context, ttl time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.Lease.Extend(ctx, ttl)
	expiry := l.Lease.Expiry()
	if _, ok := l.Lease.(looker); ok {
		expiry = time.Time{}
		l.sure()
	}
	switch {
	case err == nil && !expiry.IsZero(): // zero: a release has begun meanwhile
		l.renewed(monoOf(expiry))
	case errors.Is(err, lock.ErrLost):
		l.say(said{What: saidLost, ID: l.id, At: mono()})
	}
	return err
}

func (l *recorded) Release(ctx context.Context) error {
	l.say(said{What: saidEnded, ID: l.id, At: mono()})
	return l.Lease.Release(ctx)
}

// sure looks whether the lease is alive, and says when; 0 means that it is not.
func (l *recorded) sure() int64 {
	at := time.Now()
	if lk, ok := l.Lease.(looker); ok {
		if !lk.Alive() {
			return 0
		}
		l.say(said{What: saidUntil, ID: l.id, Until: monoOf(at)})
		return monoOf(at)
	}
	expiry := l.Expiry()
	if !time.Now().Before(expiry) {
		return 0
	}
	return monoOf(at)
}
