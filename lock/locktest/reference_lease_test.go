package locktest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// refLease is written out, without lock.NewLease, so that each part can be
// broken.
type refLease struct {
	l          *refLocker
	key, value string

	turn chan struct{} // one call to the store at a time

	mu        sync.Mutex // guards all below
	token     uint64
	expiry    time.Time
	releasing bool
	cancel    context.CancelFunc // of the Extend under way

	stopStarted context.CancelFunc // of the started extend under way
	lost        bool
	done        bool
	final       error
	start       time.Time
	until       time.Time // of ReleaseAfter
}

func (r *refLease) Key() string {
	if r.l.bug == "keys come back changed" {
		return strings.ToLower(r.key)
	}
	return r.key
}

func (r *refLease) Token() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.token
}

func (r *refLease) Expiry() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.expiry
}

func (r *refLease) errLost() error {
	r.lost = true
	if r.l.bug != "a lost lease keeps its Expiry" {
		r.expiry = time.Time{}
	}
	switch r.l.bug {
	case "loss looks like the end of ctx":
		return fmt.Errorf("%w: %q: %w", lock.ErrLost, r.key, context.DeadlineExceeded)
	case "loss is a plain error":
		return errPlain
	case "errors do not name the key":
		return lock.ErrLost
	}
	return fmt.Errorf("%w: %q", lock.ErrLost, r.key)
}

func (r *refLease) expired() bool {
	return r.lost || r.expiry.IsZero() || !time.Now().Before(r.expiry)
}

func (r *refLease) Extend(ctx context.Context, ttl time.Duration) error {
	b := r.l.bug
	if err := lock.Check(r.key, ttl); err != nil && b != "extend accepts any ttl" && b != "accepts any key" {
		return err
	}
	if b == "extend ignores its ctx" {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case r.turn <- struct{}{}:
	default:
		if r.isReleasing() && b != "extend ignores a Release under way" {
			return lock.ErrLost
		}
		if b != "extend ignores a Release under way" {
			select {
			case r.turn <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
		} else {
			r.l.store.extend(r.key, r.l.id, r.value, ttl)
			return nil
		}
	}
	defer func() { <-r.turn }()

	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.releasing && b != "extend revives a released lease":
		return r.errLostKeeping()
	case r.lost && b == "loss is not final":
		return errPlain
	case r.expired() && b != "extends expired leases" && b != "extends another's hold" && b != "extend takes a free key" &&
		b != "extend revives a released lease":
		return r.errLost()
	case ctx.Err() != nil && b == "an ended ctx loses the lease":
		return r.errLost()
	case ctx.Err() != nil:
		return ctx.Err()
	case b == "extend does nothing":
		return nil
	}
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	old := r.expiry
	if time.Now().Before(old) && b != "accepts answers after expiry" && b != "extend ignores its ctx" {
		bounded, cancel = context.WithDeadline(ctx, old)
		defer cancel()
	}
	r.cancel = cancel
	start := time.Now()
	stands := ttl
	if b != "a lost extend shortens the hold" {
		stands = max(ttl, old.Sub(start)) // the lease counts on it until it is confirmed
	}
	r.mu.Unlock()
	ok := false
	err := r.l.call(bounded, func() { ok = r.l.store.extend(r.key, r.l.id, r.value, stands) })
	r.mu.Lock()
	r.cancel = nil

	late := !time.Now().Before(old) && b != "accepts answers after expiry" && b != "extends expired leases" && b != "extends another's hold" &&
		b != "extend takes a free key" && b != "extend revives a released lease"
	switch {
	case r.releasing && b != "extend revives a released lease":
		return r.errLostKeeping()
	case late:
		return r.errLost()
	case err != nil && b == "a failed extend loses the lease":
		return r.errLost()
	case errors.Is(err, lock.ErrLost) && b == "the cause of ctx loses the lease":
		return r.errLost()
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%w: %v", ctx.Err(), err)
	case err != nil && b == "a failed extend moves Expiry":
		r.expiry = start.Add(2 * ttl)
		return err
	case err != nil:
		return err
	case !ok && b == "extend is never refused":
	case !ok && b == "extends expired leases":
		r.l.store.grant(r.key, r.l.id, r.value, ttl)
	case !ok:
		return r.errLost()
	}
	if b == "extend counts from the reply" {
		start = time.Now()
	}
	if b == "extend changes the token" {
		r.token++
	}
	if expiry := start.Add(ttl); b != "extend never shortens" || expiry.After(r.expiry) {
		r.expiry = expiry
	}
	return nil
}

// errLostKeeping is for an Extend after Release: what Release found stands.
func (r *refLease) errLostKeeping() error {
	return fmt.Errorf("%w: %q was released", lock.ErrLost, r.key)
}

func (r *refLease) isReleasing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.releasing
}

func (l *refLocker) MaxReleaseAfter() time.Duration { return time.Hour }

func (r *refLease) MaxReleaseAfter() time.Duration { return r.l.MaxReleaseAfter() }

func (r *refLease) ReleaseAfter(ctx context.Context, d time.Duration) error {
	switch {
	case r.l.bug == "ReleaseAfter takes any time":
	case d < 0 || d > r.MaxReleaseAfter():
		return fmt.Errorf("%w: %v", lock.ErrInvalid, d)
	}
	r.mu.Lock()
	if !r.expired() && !r.done || r.l.bug == "ReleaseAfter revives a lost hold" {
		r.until = r.start.Add(d)
	}
	r.mu.Unlock()
	err := r.Release(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.l.bug {
	case "ReleaseAfter leaves the lease":
		r.expiry, r.releasing, r.done = time.Now().Add(d), false, false
	case "a Release undoes ReleaseAfter":
		r.until, r.done = time.Time{}, false
	case "a Release undoes a failed ReleaseAfter":
		if err != nil {
			r.until = time.Time{}
		}
	}
	return err
}

func (r *refLease) Release(ctx context.Context) error {
	b := r.l.bug
	if b != "release obeys its ctx" {
		ctx = context.WithoutCancel(ctx)
	}
	if b != "release is unbounded" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lock.DefaultReleaseTimeout)
		defer cancel()
	}
	r.mu.Lock()
	r.releasing = b != "a failed release allows extends"
	if r.cancel != nil {
		r.cancel()
	}
	r.mu.Unlock()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", lock.ErrUnavailable, ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.done && b == "release is not idempotent":
		return errPlain
	case r.done && b == "release frees another's hold":
		r.l.store.remove(r.key, r.l.id, "")
		return r.final
	case r.done && b == "loss is not final":
		return nil
	case r.done:
		return r.final
	}
	lost := r.expired() && b != "release past expiry is nil"
	if lost {
		r.final = r.errLost()
		if b == "release past expiry sends nothing" {
			r.done = true
			return r.final
		}
	}
	until := r.until
	if b == "a time that has passed keeps the ttl" && !until.IsZero() && until.Before(r.expiry) {
		until = r.expiry
	}
	r.mu.Unlock()
	value := r.value
	if b == "release frees another's hold" {
		value = ""
	}
	err := r.l.call(ctx, func() {
		switch {
		case b == "release leaves the key":
		case until.After(time.Now()), b == "a time that has passed keeps the ttl" && !until.IsZero():
			r.l.store.keep(r.key, r.l.id, value, until)
		default:
			r.l.store.remove(r.key, r.l.id, value)
		}
	})
	r.mu.Lock()
	if err != nil && b == "a failed release is final" {
		r.done, r.final = true, nil
	}
	if err != nil && b == "a failed release is lost" {
		return r.errLost()
	}
	if err != nil {
		return fmt.Errorf("%w: release %q: %w", lock.ErrUnavailable, r.key, err)
	}
	r.done = true
	if b != "a lost lease keeps its Expiry" {
		r.expiry = time.Time{}
	}
	return r.final
}
