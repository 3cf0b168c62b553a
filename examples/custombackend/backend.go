// Custombackend is a lock backend for a store of one's own: an HTTP document store
// with conditional writes, as object stores and key-value services have them. A
// PUT with If-Match succeeds only if the document has not changed since it was
// read, and a GET reports how old the document is, by the store's clock. (A stand-in
// for the store, in this process, is in store.go, its client in client.go.)
//
// That much a store must do for a lock; lock.NewLease does the rest, and the
// conformance suite, in backend_test.go, shows that it is enough.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Locker locks by the documents of a store.
type Locker struct {
	lock.Waiters // those who wait in this process stand in a queue, and one of them asks

	client   Client
	name     string // of this process, for those who are refused
	cleanups sync.WaitGroup
}

// record is a key's document. It is never deleted, because Token counts in it.
type record struct {
	Owner string // "": free
	Token uint64
	TTL   time.Duration
	Write string // the client's, to know its own writes
}

// drift is how much faster the store's clock may run than ours.
func drift(ttl time.Duration) time.Duration { return ttl / 100 }

// TryAcquire implements lock.Locker.
func (l *Locker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if err := lock.Check(key, ttl); err != nil {
		return nil, err
	}
	// Before the request: the store's ttl begins later, and goes on while this machine sleeps.
	start, suspended := time.Now(), lock.Suspension()
	old, age, version, err := l.client.Get(ctx, key)
	if err != nil {
		return nil, lock.StoreError(ctx, err)
	}
	if old.Owner != "" && age < old.TTL {
		return nil, &lock.HeldError{Key: key, Holder: old.Owner, RetryAfter: old.TTL - age}
	}
	mine := record{Owner: l.name + "/" + rand.Text(), Token: old.Token + 1, TTL: ttl}
	err = l.client.Put(ctx, key, version, mine)
	expiry := start.Add(ttl - drift(ttl))
	switch {
	case errors.Is(err, errChanged):
		return nil, &lock.HeldError{Key: key} // another was faster
	case err == nil && !time.Now().Before(expiry):
		err = fmt.Errorf("%w: %q was granted too late", lock.ErrUnavailable, key)
		fallthrough
	case err != nil:
		// The write may be applied yet. The caller need not wait for the cleanup.
		l.cleanups.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lock.DefaultReleaseTimeout)
			defer cancel()
			_ = l.free(ctx, key, mine, version)
		})
		return nil, lock.StoreError(ctx, err)
	}
	return lock.NewLease(lock.Grant{
		Key: key, Token: mine.Token, Expiry: expiry, Suspended: suspended,
		Extend: func(ctx context.Context, ttl time.Duration) (time.Time, error) {
			start := time.Now()
			now, age, version, err := l.client.Get(ctx, key)
			if err == nil && (now.Owner != mine.Owner || age >= now.TTL) {
				err = lock.ErrLost
			}
			// If the reply is lost, the lease keeps its old Expiry: until then the document stands.
			left := expiry.Sub(start)
			if err == nil {
				err = l.client.Put(ctx, key, version, record{Owner: mine.Owner, Token: mine.Token, TTL: max(ttl, left+2*drift(left))})
			}
			if err == nil {
				expiry = start.Add(ttl - drift(ttl))
			}
			return expiry, err
		},
		Release: func(ctx context.Context) error { return l.free(ctx, key, mine, "") },
	}), nil
}

// free ends the term mine. If the document still has the version that the term
// would have replaced, it is written anew, so that the write can't come true late.
func (l *Locker) free(ctx context.Context, key string, mine record, replaces string) error {
	for {
		now, _, version, err := l.client.Get(ctx, key)
		switch {
		case err != nil:
			return err
		case now.Owner == "" && now.Token == mine.Token:
			return nil // done before
		case now.Owner != mine.Owner && version != replaces:
			return lock.ErrLost
		}
		err = l.client.Put(ctx, key, version, record{Token: max(now.Token, mine.Token)})
		if !errors.Is(err, errChanged) {
			return err
		}
	}
}

// Wait returns when no cleanup is under way. Leases end by themselves.
func (l *Locker) Wait() { l.cleanups.Wait() }
