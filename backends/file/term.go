//go:build linux || darwin || freebsd

package file

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// term is one lease's side of the store. Calls never overlap.
type term struct {
	l        *Locker
	released bool // a release was begun
	done     bool // it no longer needs the sign of life
}

var _ lock.TermAfterReleaser = (*term)(nil)

// ExtendTerm moves the record's expiry, if the record still names this term.
func (t *term) ExtendTerm(ctx context.Context, key string, token uint64, ttl time.Duration) (time.Time, error) {
	expiry := time.Now().Add(ttl)
	until := t.l.recordExpiry(ttl)
	f, r, err := t.own(ctx, key, token)
	if err != nil {
		return time.Time{}, err
	}
	defer f.close()
	if r.Life == lifeless {
		return time.Time{}, errForced
	}
	if time.Duration(r.Expiry) <= t.l.clock.Now() {
		return time.Time{}, fmt.Errorf("%w: expired", lock.ErrLost)
	}
	// Never shorter than before: should this call's answer not count, the lease
	// keeps its old deadline.
	r.Expiry = max(r.Expiry, int64(until))
	if err := f.write(&r); err != nil {
		return time.Time{}, err
	}
	return expiry, nil
}

var errForced = fmt.Errorf("%w: released by force", lock.ErrLost)

// ReleaseTerm frees the key, if the record still names this term.
func (t *term) ReleaseTerm(ctx context.Context, key string, token uint64) error {
	return t.end(ctx, key, token, (*keyFile).free)
}

// ReleaseTermAfter lets the hold end by itself at until, whatever becomes of this
// process: the record says so, and is not looked at together with the sign of life any
// more. A process of a version before this field goes by the sign of life alone.
func (t *term) ReleaseTermAfter(ctx context.Context, key string, token uint64, until time.Time) error {
	return t.end(ctx, key, token, func(f *keyFile, r *record) error {
		// The record's clock is read last, so that what comes in between lengthens what
		// others see.
		left := time.Until(until)
		if time.Duration(r.Expiry) <= t.l.clock.Now() {
			return fmt.Errorf("%w: expired", lock.ErrLost)
		}
		r.Kept, r.Expiry = true, int64(t.l.recordExpiry(left))
		return f.write(r)
	})
}

// end ends the term in the record, if it still names it, by how.
func (t *term) end(ctx context.Context, key string, token uint64, how func(*keyFile, *record) error) error {
	f, r, err := t.own(ctx, key, token)
	if err == nil {
		defer f.close()
		switch {
		case r.Life != lifeless:
			t.released = true
			err = how(f, &r)
		case !t.released: // else an earlier call did it, and failed afterwards
			err = errForced
		}
	}
	if err == nil || errors.Is(err, lock.ErrLost) {
		t.over()
	}
	return err
}

func (t *term) over() {
	if !t.done {
		t.done = true
		t.l.unlive()
	}
}

// own opens and locks key's file, whose last term was this one.
func (t *term) own(ctx context.Context, key string, token uint64) (*keyFile, record, error) {
	f, err := t.l.open(key)
	if err == nil {
		if err = f.lock(ctx); err != nil {
			f.close()
		}
	}
	if err == errNoFile {
		return nil, record{}, fmt.Errorf("%w: its record was deleted: %s", lock.ErrLost, t.l.keyPath(key))
	}
	if err != nil {
		return nil, record{}, err
	}
	r, err := f.read()
	if err == nil && (r.Token != token || r.Boot != t.l.boot) {
		err = fmt.Errorf("%w: the key is at token %d", lock.ErrLost, r.Token)
		if r.Holder != "" {
			err = fmt.Errorf("%w, of %s", err, (&lock.HeldError{Holder: r.Holder}).By())
		}
	}
	if err != nil {
		f.close()
		return nil, record{}, err
	}
	return f, r, nil
}
