package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

// checks is what a Locker has found out about its store before it relies on it.
type checks struct {
	slot   chan struct{} // has room for the one that checks
	passed atomic.Bool   // conditional writes are honoured, and the clocks were compared

	clocksAgree atomic.Bool
	hashes      atomic.Bool  // an ETag is the MD5 of the content
	difference  atomic.Int64 // of the store's clocks at least, in ns
}

func newChecks() *checks { return &checks{slot: make(chan struct{}, 1)} }

func (c *checks) differ() time.Duration { return time.Duration(c.difference.Load()) }

// rounds bounds how often a check is done anew because others check at the same time.
const rounds = 8

// check finds out, before anything else is done, whether the store honours If-None-Match and
// If-Match, and whether its clocks agree. It works on an object of its own. Where a precondition
// is ignored, two processes would both be granted one lock: the store is refused.
func (s *store) check(ctx context.Context) error {
	c := s.checks
	if c.passed.Load() {
		return nil
	}
	select {
	case c.slot <- struct{}{}:
		defer func() { <-c.slot }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.passed.Load() {
		return nil
	}
	if err := s.checkAll(ctx); err != nil {
		return err
	}
	c.passed.Store(true)
	return nil
}

func (s *store) checkAll(ctx context.Context) error {
	// The SDK repeats a write whose reply was lost: the repetition of a create is refused by what
	// the first one made. So a store is refused only for what it does each time.
	var seen sight
	var err error
	for range 3 {
		if seen, err = s.checkRefusals(ctx); err == nil || !errors.Is(err, errWritten) {
			break
		}
	}
	if err != nil {
		return err
	}
	replaced := false
	for range rounds {
		next, err := s.look(ctx, seen)
		if err != nil {
			return err
		}
		if next.object.etag != seen.object.etag {
			replaced = true
			s.checks.hashes.Store(next.object.hashed())
			if s.compareClocks(next.object, time.Since(seen.asked)) {
				return nil
			}
		}
		seen = next
	}
	if !replaced {
		return fmt.Errorf("%s refuses each time to replace the object that it shows (%s)", s, internal(s.prefix, "check"))
	}
	return nil // too slow to compare clocks: ages are not used
}

// sight is the check's object as it was after asked.
type sight struct {
	object object
	asked  time.Time
}

// look reads the object; after a sight of it, it replaces that over its ETag first. If another
// process's check was quicker, what that one wrote serves as well. The ETag is still the same if
// nobody has written.
func (s *store) look(ctx context.Context, before sight) (sight, error) {
	name := internal(s.prefix, "check")
	if before.object.etag != "" {
		if _, err := s.write(ctx, name, []byte(rand.Text()), before.object.etag); err != nil && !errors.Is(err, record.ErrChanged) {
			return sight{}, err
		}
	}
	asked := time.Now()
	o, err := s.read(ctx, name)
	if err == nil && o.etag == "" {
		err = fmt.Errorf("%s shows no object where it refuses to make one (%s)", s, name)
	}
	return sight{o, asked}, err
}

// errWritten is why a store is refused.
var errWritten = fmt.Errorf("%w: it does not honour conditional writes, so two processes could hold one lock; "+
	"use a store that honours If-None-Match and If-Match in PUT requests, as Amazon S3 does, or a newer version of this one", lock.ErrRefused)

func (s *store) ignores(header, how string) error {
	return fmt.Errorf("%s, %s %s: %w", s, header, how, errWritten)
}

// checkRefusals tries that a create of what is there, and a write over another ETag, fail and
// change nothing.
func (s *store) checkRefusals(ctx context.Context) (sight, error) {
	name := internal(s.prefix, "check")
	created, again, wrong := []byte(rand.Text()), []byte(rand.Text()), []byte(rand.Text())
	_, err := s.write(ctx, name, created, "")
	if err == nil { // it was the first; or the condition was ignored
		if _, err = s.write(ctx, name, again, ""); err == nil {
			return sight{}, s.ignores("If-None-Match", "is ignored")
		}
		created = nil // may be there
	}
	if !errors.Is(err, record.ErrChanged) {
		return sight{}, err
	}
	const noETag = `"00000000000000000000000000000000"`
	switch _, err = s.write(ctx, name, wrong, noETag); {
	case err == nil:
		return sight{}, s.ignores("If-Match", "is ignored")
	case !errors.Is(err, record.ErrChanged):
		return sight{}, err
	}
	seen, err := s.look(ctx, sight{})
	if err != nil {
		return sight{}, err
	}
	switch body := string(seen.object.body); body {
	case string(created), string(again):
		return sight{}, s.ignores("If-None-Match", "is answered with 412, and the object written")
	case string(wrong):
		return sight{}, s.ignores("If-Match", "is answered with 412, and the object written")
	}
	return seen, nil
}

// compareClocks takes an object that was put within the last d, and reports whether that shows
// if the clocks agree which an age goes by. They are read in whole seconds: the one that is read
// now is ahead of the one that stamped by less than what the object's age seems to be and a second,
// because the object may be new. So a slow answer shows nothing, and a difference of less than
// two seconds is not seen.
func (s *store) compareClocks(o object, d time.Duration) (conclusive bool) {
	if s.skew < 0 || o.date.IsZero() || o.put.IsZero() {
		return true // ages are not used
	}
	apparent, allowed := o.date.Sub(o.put), time.Second+s.skew
	agree := -allowed <= apparent && apparent <= max(time.Second, s.skew-time.Second)
	differ := apparent < -allowed || apparent > d+allowed
	s.checks.difference.Store(int64(max(apparent-d, -apparent, 0)))
	s.checks.clocksAgree.Store(agree)
	return agree || differ
}
