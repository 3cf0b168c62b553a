package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Set is the leases that [AcquireAll] or [Both] got, as one [Lease]: a keeper renews it
// like any other. Extend and release its members through it only. It is safe for
// concurrent use.
type Set struct {
	lease   Lease // does for the Set what NewLease does: an expiry, and results that stay final
	members []Lease
	start   time.Time // what releaseAfter's until is counted from
	inTurn  bool      // the members are released one after the other, the last one first
	// older is, by member, for how long it had been held when the Set began, where that may
	// be long; nil: it is not.
	older []time.Duration

	// next is the member whose Expiry is the earliest. It is not used while moving is
	// not 0: then calls are under way that may move any of them. A Keeper's context
	// asks for Expiry in each of its methods, which must not ask all members.
	next   atomic.Pointer[Lease]
	moving atomic.Int32

	mu     sync.Mutex // guards all below, and the choice of next
	grows  bool       // members may still grow by themselves, which counts as moving
	tries  int        // how often the members were released
	failed error      // what the latest try could not release
}

var (
	_ Lease         = (*Set)(nil)
	_ AfterReleaser = (*Set)(nil)
)

// newSet makes one lease of members, all of which are held until expiry. waited says that
// one of them may have been waited for.
func newSet(members []Lease, expiry time.Time, waited bool) *Set {
	s := &Set{members: members, start: time.Now(), grows: waited}
	return s.begin(Grant{Key: jointName(members), Expiry: expiry})
}

// begin makes the lease of s, from g with what the members have.
func (s *Set) begin(g Grant) *Set {
	g.Token, g.Extend, g.Release = s.members[0].Token(), s.extend, s.release
	g.ReleaseTimeout = -1 // each member's Release bounds itself
	if most := s.maxAfter(); most > 0 {
		g.ReleaseAfter, g.Start, g.MaxReleaseAfter = s.releaseAfter, s.start, most
	}
	if s.grows { // before the lease can extend itself
		s.moving.Add(1)
	}
	s.lease = NewLease(g)
	s.moving.Add(1)
	s.moved()
	return s
}

// moved ends a call that may have moved members' expiries, which began with
// moving.Add(1). It chooses next first: so anyone who finds moving at 0 finds a choice
// that has seen all calls. Between calls only a suspension of the machine moves the
// members' expiries, and that moves all of them alike; but for members that grow, and may
// find their loss then: until they are extended, all are asked.
func (s *Set) moved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.moving.Add(-1)
	first := 0
	earliest := s.members[0].Expiry()
	for i, l := range s.members[1:] {
		if expiry := l.Expiry(); expiry.Before(earliest) {
			first, earliest = i+1, expiry
		}
	}
	s.next.Store(&s.members[first])
}

// maxAfter is the least of the members'.
func (s *Set) maxAfter() time.Duration {
	most := maxAfter(s.members[0])
	for _, l := range s.members[1:] {
		most = min(most, maxAfter(l))
	}
	return most
}

// jointName names all members, for people: a long one is cut.
func jointName(members []Lease) string {
	name := members[0].Key()
	for i, l := range members[1:] {
		if len(name)+len(l.Key()) > MaxKeyLen {
			return fmt.Sprintf("%s + %d more", name, len(members)-1-i)
		}
		name += " + " + l.Key()
	}
	return name
}

// Leases are the members, in the order of the keys as they were given, each once.
// What they protect is fenced by their tokens.
func (s *Set) Leases() []Lease {
	leases := make([]Lease, len(s.members))
	for i, l := range s.members {
		leases[i] = &member{l, s}
	}
	return leases
}

// member is a lease of a Set as its user sees it: the Set notices what is done to it.
type member struct {
	Lease
	set *Set
}

func (m *member) Extend(ctx context.Context, ttl time.Duration) error {
	m.set.moving.Add(1)
	defer m.set.moved()
	return m.Lease.Extend(ctx, ttl)
}

func (m *member) Release(ctx context.Context) error {
	m.set.moving.Add(1)
	defer m.set.moved()
	return m.Lease.Release(ctx)
}

func (m *member) ReleaseAfter(ctx context.Context, d time.Duration) error {
	m.set.moving.Add(1)
	defer m.set.moved()
	return ReleaseAfter(ctx, m.Lease, d)
}

func (m *member) MaxReleaseAfter() time.Duration { return maxAfter(m.Lease) }

// Key is a name for messages: the members' keys, joined by " + ". A long one ends
// with how many more there are. Of [Both] it is the key.
func (s *Set) Key() string { return s.lease.Key() }

// Token is that of the first key that was given. It fences what that key protects
// and nothing else, because tokens of two keys can't be compared: for the others,
// see Leases. It is also what [Token] returns under a keeper of the Set. Of [Both] it is
// the token of the key in both stores.
func (s *Set) Token() uint64 { return s.lease.Token() }

// Expiry is the earliest of the members' expiries, and the zero time once one of
// them is lost or Release has begun. After an Extend that failed it does not move
// later, though some members may have been extended.
func (s *Set) Expiry() time.Time {
	expiry := s.lease.Expiry()
	var earliest time.Time
	if s.moving.Load() == 0 {
		earliest = (*s.next.Load()).Expiry()
	} else {
		earliest = s.earliest()
	}
	if earliest.Before(expiry) {
		return earliest
	}
	return expiry
}

// earliest of the members' expiries; zero if one is lost.
func (s *Set) earliest() time.Time {
	earliest := s.members[0].Expiry()
	for _, l := range s.members[1:] {
		if expiry := l.Expiry(); expiry.Before(earliest) {
			earliest = expiry
		}
	}
	return earliest
}

// Extend extends all members at once. If one is lost, the Set is: the error matches
// [ErrLost], and the others are held until they are released. If one fails
// otherwise, Extend may be called again.
func (s *Set) Extend(ctx context.Context, ttl time.Duration) error { return s.lease.Extend(ctx, ttl) }

func (s *Set) extend(ctx context.Context, ttl time.Duration) (time.Time, error) {
	if !time.Now().Before(s.earliest()) {
		return time.Time{}, fmt.Errorf("%w: one of %d keys", ErrLost, len(s.members)) // the others need no more time
	}
	s.moving.Add(1)
	defer s.moved()
	var failed error
	for _, err := range each(s.members, func(l Lease) error { return l.Extend(ctx, ttl) }) {
		failed = also(failed, err)
	}
	if failed == nil { // which ends what grows
		s.grown()
	}
	return s.earliest(), failed
}

func (s *Set) grown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grows {
		s.grows = false
		s.moving.Add(-1)
	}
}

// Release releases all members at once, each whatever becomes of the others, and
// returns when all are done. An error that matches [ErrLost] is final for the Set;
// if it says that a member could not be released, Release may be called again for
// that one all the same.
func (s *Set) Release(ctx context.Context) error {
	return s.conclude(ctx, s.lease.Release)
}

// ReleaseAfter lets the members' holds end by themselves, each d after it began, as
// [AfterReleaser] says. Errors are those of Release.
func (s *Set) ReleaseAfter(ctx context.Context, d time.Duration) error {
	return s.conclude(ctx, func(ctx context.Context) error { return ReleaseAfter(ctx, s.lease, d) })
}

// MaxReleaseAfter is the least of the members'; 0 means that it is not supported.
func (s *Set) MaxReleaseAfter() time.Duration { return maxAfter(s.lease) }

// conclude ends the Set by end.
func (s *Set) conclude(ctx context.Context, end func(context.Context) error) error {
	before, _ := s.released()
	err := end(ctx)
	if !errors.Is(err, ErrLost) {
		return err
	}
	tries, failed := s.released()
	if tries == before && failed != nil {
		// lease has its final result, and did not call release.
		_ = s.release(ctx)
		_, failed = s.released()
	}
	if failed != nil {
		return masked{fmt.Errorf("%w; still there: %w", err, failed)}
	}
	return err
}

// released reports how often the members were released, and what that left.
func (s *Set) released() (tries int, failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries, s.failed
}

func (s *Set) release(ctx context.Context) error {
	// Members on which ReleaseAfter was called finish that.
	return s.each(ctx, func(ctx context.Context, _ int, l Lease) error { return l.Release(ctx) })
}

func (s *Set) releaseAfter(ctx context.Context, until time.Time) error {
	// Each member counts from its own start, which is earlier than that of the Set
	// by what the others took; or, in Both, by the time in which next was waited for.
	d := until.Sub(s.start)
	return s.each(ctx, func(ctx context.Context, i int, l Lease) error {
		if s.older == nil {
			return ReleaseAfter(ctx, l, d)
		}
		return ReleaseAfter(ctx, l, min(d+s.older[i], maxAfter(l)))
	})
}

// each releases all members by release, and keeps what failed.
func (s *Set) each(ctx context.Context, release func(ctx context.Context, i int, l Lease) error) error {
	s.moving.Add(1)
	defer s.moved()
	var lost, failed error
	errs := make([]error, len(s.members))
	if s.inTurn {
		deadline, bounded := aheadOf(ctx)
		for i, l := range slices.Backward(s.members) {
			// Each gets its part of the time: the first could use up all of it, and to the next
			// a ctx that has ended would be no bound.
			part, cancel := ctx, func() {}
			if bounded {
				left := max(time.Until(deadline)/time.Duration(i+1), minPause)
				part, cancel = context.WithTimeout(context.WithoutCancel(ctx), left)
			}
			errs[i] = release(part, i, l)
			cancel()
		}
	} else {
		var wg sync.WaitGroup
		for i, l := range s.members {
			wg.Go(func() { errs[i] = release(ctx, i, l) })
		}
		wg.Wait()
	}
	for _, err := range errs {
		if errors.Is(err, ErrLost) {
			lost = also(lost, err)
		} else {
			failed = also(failed, err)
		}
	}
	s.mu.Lock()
	s.tries, s.failed = s.tries+1, failed
	s.mu.Unlock()
	switch {
	case failed == nil:
		return lost
	case lost == nil:
		return failed
	}
	return fmt.Errorf("%w; %v", failed, lost) // not final yet: the failed ones can be tried again
}
