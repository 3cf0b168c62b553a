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
	since    int64  // of its record
	raised   uint64 // the largest token that was asked for; 0: none
	released bool   // a release was begun
	done     bool   // it no longer needs the sign of life
}

var (
	_ lock.TermAfterReleaser = (*term)(nil)
	_ lock.TermTokenRaiser   = (*term)(nil)
)

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

// RaiseTermToken makes least the token of the record, if it still names this term: the next
// one counts on from there, by whatever version of this package.
func (t *term) RaiseTermToken(ctx context.Context, key string, token, least uint64) (uint64, error) {
	f, r, err := t.own(ctx, key, token)
	if err != nil {
		return 0, err
	}
	defer f.close()
	switch {
	case r.Life == lifeless:
		return 0, errForced
	case time.Duration(r.Expiry) <= t.l.clock.Now():
		return 0, fmt.Errorf("%w: expired", lock.ErrLost)
	case r.Token >= least:
		return r.Token, nil
	}
	t.raised = max(t.raised, least) // before it is written: own must know it whatever write says
	r.Token = least
	if r.Token < r.Reserved {
		err = f.write(&r)
	} else if err = reserveTokens(f.fd, &r); err != nil {
		err = f.failed(err)
	}
	return r.Token, err
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
		t.l.dropHold()
	}
}

// is reports whether r is of this term, which was granted with this token.
func (t *term) is(r *record, token uint64) bool {
	switch {
	case r.Boot != t.l.boot:
		return false
	case r.Token == token, t.raised == 0:
		return r.Token == token
	case r.Life == lifeless: // nobody holds it: nothing that is another's can be touched
		return r.Token > token && r.Token <= t.raised
	}
	// Another's term may have that token, if the raised one was not written. It has another
	// sign of life, or began at another time.
	return r.Since == t.since && t.l.isMine(r.Life)
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
	if err == nil && !t.is(&r, token) {
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
