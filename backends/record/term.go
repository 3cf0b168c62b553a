package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// rewrites bounds how often one extend or release is written anew because those who
// wait have changed the record: each of them does so once.
const rewrites = 100

var errStale = fmt.Errorf("%w: the store shows an old state", lock.ErrUnavailable)

var (
	_ lock.TermAfterReleaser = (*term)(nil)
	_ lock.TermTokenRaiser   = (*term)(nil)
)

// term is one hold, and the lock.Term of its lease. Its methods never overlap.
type term struct {
	l      *Locker
	name   string
	record Record // as this term has last written or read it
	// version is that of record, as far as is known; unsure says that a write of which
	// nothing is known may have replaced it.
	version string
	unsure  bool
	seq     uint64    // the highest of all writes tried: no two are equal
	least   uint64    // what its token was asked to be, by lock.RaiseToken; each write has it
	expiry  time.Time // before it, nobody else can have the key
	freeing bool      // a release has been sent
}

// ExtendTerm writes a new ttl over this term's record.
func (t *term) ExtendTerm(ctx context.Context, key string, _ uint64, ttl time.Duration) (time.Time, error) {
	ctx, done, err := t.l.begin(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer done()
	return t.rewrite(ctx, key, ttl, true)
}

// ReleaseTermAfter has the record stand until then: for others that is a hold like any
// other, which ends when it has not changed for its ttl.
func (t *term) ReleaseTermAfter(ctx context.Context, key string, _ uint64, until time.Time) error {
	// The lease makes no claim any more. From until on another may have the key.
	if until.Before(t.expiry) {
		t.expiry = until
	}
	_, err := t.rewrite(ctx, key, max(time.Until(until), time.Microsecond), false)
	return err
}

// RaiseTermToken writes a larger token over this term's record: the next term counts on from
// there, by whatever version of this package. To others it is as a renewal.
func (t *term) RaiseTermToken(ctx context.Context, key string, _, least uint64) (uint64, error) {
	ctx, done, err := t.l.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	if t.record.Token >= least {
		return t.record.Token, nil
	}
	t.least = max(t.least, least)
	// With the time that the lease has left, so that its expiry stays what it is.
	_, err = t.rewrite(ctx, key, lasting(max(time.Until(t.expiry), time.Microsecond)), true)
	return t.record.Token, err
}

// rewrite gives the record of this term, and of no other, a ttl from now on. held says that
// the lease counts on its present expiry until this has succeeded.
func (t *term) rewrite(ctx context.Context, key string, ttl time.Duration, held bool) (time.Time, error) {
	t.adopt()
	var sent Record
	var start time.Time
	known := !t.unsure // no write of this term is under way that could be what refuses the next
	for n := range rewrites {
		if t.unsure {
			if err := t.look(ctx, key, n > 0, known); err != nil {
				return time.Time{}, err
			}
			if n > 0 && t.record.Beat == sent.Beat {
				return t.extended(start, ttl), nil // what refused the write was the write itself, sent twice
			}
		}
		start = time.Now()
		stands := ttl
		if held {
			// If this write is applied and its reply is lost, the lease keeps its old
			// expiry: so the record stands until then, however short the new ttl is.
			stands = max(ttl, lasting(t.expiry.Sub(start)))
		}
		sent = t.next(stands, start.Add(stands))
		version, err := t.l.put(ctx, t.name, sent, t.version)
		switch {
		case err == nil:
			t.record, t.version, t.unsure = sent, version, false
			return t.extended(start, ttl), nil
		case !errors.Is(err, ErrChanged):
			t.unsure = true // applied or not, now or later
			return time.Time{}, err
		}
		t.unsure = true // by an own write of before, by somebody who waits, or by another holder
	}
	return time.Time{}, fmt.Errorf("%w: others changed the record %d times", lock.ErrUnavailable, rewrites)
}

// extended notes that the write which was sent after start stands: it replaced a state of
// this very term, so nobody else has had the key, and others count ttl from later than start.
func (t *term) extended(start time.Time, ttl time.Duration) time.Time {
	t.expiry = start.Add(ttl - drift(ttl))
	return t.expiry
}

// lasting is a ttl whose lease lasts at least d.
func lasting(d time.Duration) time.Duration { return d + d/99 + 1 }

// next is this term's record with another ttl, unlike every write before it.
func (t *term) next(ttl time.Duration, until time.Time) Record {
	r := t.record
	t.seq = max(t.seq, r.Seq) + 1
	r.TTL, r.Seq, r.Beat, r.Until = ttl, t.seq, t.seq, until
	r.Token = max(r.Token, t.least)
	return r
}

// adopt takes a newer state of this term that was received meanwhile: what those who wait
// wrote, by notification or otherwise. It saves a refused write.
func (t *term) adopt() {
	if e, ok := t.l.newest(t.name); ok && !t.unsure && e.Record.sameTerm(t.record) && e.Record.newer(t.record) && e.Record.TTL > 0 {
		t.record, t.version = e.Record, e.Version
	}
}

// look reads the present state of the term. refused says that the store has just refused
// to replace t.version, known that this is what the term's last write got.
func (t *term) look(ctx context.Context, key string, refused, known bool) error {
	e, err := t.l.get(ctx, t.name, key)
	switch {
	case err != nil:
		return err
	case e.Version == "" && !refused:
		return nil // it may be an old read; the write decides
	case e.Version == "" && !known:
		return errStale // it may be an old read, and an own write what was in the way
	case e.Version == "":
		return fmt.Errorf("%w: its record is gone", lock.ErrLost)
	case !e.Record.sameTerm(t.record) && e.Record.Token > t.record.Token:
		return fmt.Errorf("%w: token %d has the key", lock.ErrLost, e.Record.Token)
	case !e.Record.sameTerm(t.record), e.Record.Seq < t.record.Seq:
		return errStale
	case e.Record.TTL == 0:
		return fmt.Errorf("%w: released by another", lock.ErrLost)
	}
	t.record, t.version, t.unsure = e.Record, e.Version, false
	return nil
}

// ReleaseTerm frees this term's record.
func (t *term) ReleaseTerm(ctx context.Context, _ string, _ uint64) error {
	t.adopt()
	r := t.record
	r.Seq = max(r.Seq, t.seq) // of no write that may still come
	version := t.version
	if t.unsure {
		version = ""
	}
	sent, err := t.l.free(ctx, t.name, r, version, nil)
	t.unsure, t.freeing = true, t.freeing || sent
	if errors.Is(err, lock.ErrLost) && t.freeing && time.Now().Before(t.expiry) {
		// Another term before this one has expired: a release made that possible, one of
		// this lease, although its reply said no or nothing.
		return nil
	}
	return err
}

// free ends the term of mine, whose record has version; "": look. base is the state that
// the term's first write was to replace, if it is not known whether it was applied: a
// record that is still in that state is written over, so that the write can't be applied
// late. sent says that a write has been sent, which may have been applied whatever err is.
func (l *Locker) free(ctx context.Context, name string, mine Record, version string, base *Entry) (sent bool, err error) {
	free := mine
	free.TTL = 0
	for range rewrites {
		if version == "" {
			e, err := l.get(ctx, name, mine.Key)
			switch {
			case err != nil:
				return sent, err
			case e.Version == "":
				return sent, nil // gone, and with it every version that a write could replace
			case e.Record.sameTerm(mine):
				if e.Record.TTL == 0 {
					return sent, nil
				}
				// Its token may have been raised by a write of which nothing is known.
				free.Token = max(free.Token, e.Record.Token)
				free.Seq, free.Queue = max(free.Seq, e.Record.Seq), e.Record.Queue
			case base != nil && e.Version == base.Version:
				// Under a term of its own: nobody has held it with that token.
				free.Queue = e.Record.Queue
			case e.Record.newer(mine), base != nil && e.Record.newer(base.Record):
				return sent, fmt.Errorf("%w: token %d has or had the key", lock.ErrLost, e.Record.Token)
			default:
				return sent, errStale
			}
			version = e.Version
		}
		free.Seq++
		free.Beat, free.Until = free.Seq, time.Now()
		sent = true
		_, err := l.put(ctx, name, free, version)
		if !errors.Is(err, ErrChanged) {
			return sent, err
		}
		version = ""
	}
	return sent, fmt.Errorf("%w: others changed the record %d times", lock.ErrUnavailable, rewrites)
}

// cleanUp sees to it in the background that a write whose outcome is not known holds
// nothing. It goes on while the hold could last, and Close cuts it short to
// Options.Timeout; the store may be out of reach for as long as that.
func (l *Locker) cleanUp(name string, mine Record, base Entry) {
	// Of an attempt, which Close waits for: so this is counted before Close has returned.
	l.jobs.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), max(mine.TTL, l.opts.Timeout))
		defer cancel()
		stop := context.AfterFunc(l.closing, func() { time.AfterFunc(l.opts.Timeout, cancel) })
		defer stop()
		var err error
		for wait := 5 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 500*time.Millisecond) {
			err = l.cleanUpOnce(ctx, name, mine, base)
			if err == nil || errors.Is(err, lock.ErrLost) {
				return
			}
			pause(ctx, wait)
		}
		l.opts.Logger.Warn("an attempt of unknown outcome could not be cleaned up: it may hold the key until its ttl is over",
			"key", mine.Key, "token", mine.Token, "ttl", mine.TTL, "error", err)
	})
}

func (l *Locker) cleanUpOnce(ctx context.Context, name string, mine Record, base Entry) error {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	_, err := l.free(ctx, name, mine, "", &base)
	return err
}
