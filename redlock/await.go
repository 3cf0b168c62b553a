package redlock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/waiting"
)

var _ lock.Awaiter = (*Locker)(nil)

// Await implements [lock.Awaiter]: a request that stands in the queue of every node, and is
// granted there by whatever frees the lock. A hand-over takes one message to the nodes and
// one back. All nodes order those who wait by how long they have waited, up to the jitter
// of the network: a request that stands on a quorum is overtaken only by one that it split
// the votes with, or while its notifications do not arrive. A waiter that has died is passed
// over; one that hangs costs those behind it a second at most.
//
// The lease is for a second at first, or for ttl if that is less, counted from when its
// request was last refreshed, and extends itself to ttl when a quarter of what is left of
// that has gone.
//
// Where nodes refuse what the queue needs (see the page beside this package), Await makes
// one attempt, as TryAcquire does: the caller waits by asking again.
func (l *Locker) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	if refused == nil {
		refused = func(*lock.HeldError) {}
	}
	lease, err := l.await(ctx, key, ttl, refused)
	if errors.Is(err, errNoQueue) {
		return l.TryAcquire(ctx, key, ttl)
	}
	if err != nil {
		return nil, fmt.Errorf("redlock: acquire: %w", err)
	}
	return lease, nil
}

// errNoQueue says that no quorum lets requests stand, and that some node refuses to.
var errNoQueue = errors.New("the nodes keep no queue of those who wait")

func (l *Locker) await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	s, err := l.newStanding(ctx, key, ttl)
	if err == nil {
		err = l.begin(1)
	}
	if err != nil {
		return nil, err
	}
	defer l.wg.Done()
	if err := l.agreement.mayAsk(ctx, ttl); err != nil {
		return nil, fmt.Errorf("%q: %w", key, err)
	}
	s.begin()
	l.agreement.keep(ttl)
	agreed := false
	for {
		select {
		case <-s.changed:
		case <-ctx.Done():
		case <-l.done:
		}
		held, issued, failed := s.outcome()
		switch {
		case ctx.Err() != nil: // cancellation beats a simultaneous grant
			err = ended(ctx)
		case l.ending():
			err = lock.ErrClosed
		case failed != nil:
			err = failed
		case issued != nil || held != nil && !agreed:
			// Not held before it is certain that the clients whose votes these could be
			// agree; and nobody waits for a lock that will be refused in the end.
			err = l.agreement.wait(ctx, ttl)
			if issued == nil && !errors.Is(err, lock.ErrRefused) {
				err = nil
			}
			agreed = err == nil
		}
		switch {
		case err != nil:
			s.giveUp()
			return nil, fmt.Errorf("%q: %w", key, err)
		case issued != nil:
			l.served.Store(true)
			lease, err := s.take(*issued)
			if err != nil {
				s.giveUp()
				return nil, fmt.Errorf("%q: %w", key, err)
			}
			return lease, nil
		case held != nil:
			l.served.Store(true)
			refused(held)
		}
	}
}

// ending reports whether Close was called.
func (l *Locker) ending() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// take makes the lease of what the wait has come to.
func (s *standing) take(issued waiting.Lease) (lock.Lease, error) {
	// Begun before the clock of the wait is read: a suspension between the two is counted
	// by both, which only shortens the lease.
	suspended := s.l.suspended()
	// Read before the clock of the wait: if this process is stopped between the two, the
	// lease is the shorter for it, never the longer.
	at := time.Now()
	now := s.now()
	left := issued.Expiry - now
	if left < minValidity {
		return nil, fmt.Errorf("%w: a quorum granted it, but the hold is over", lock.ErrUnavailable)
	}
	// The machine counts from before the requests that were granted, on a clock that goes
	// on while this machine is suspended: what is left is certain from at on.
	// A claim of the whole ttl is short as well if its request was refreshed a while ago.
	return lock.NewLease(lock.Grant{
		Key: s.key, Token: issued.Token, Expiry: at.Add(left), GrowTo: s.ttl, Term: s.h,
		Start: at.Add(issued.Start - now), MaxReleaseAfter: s.l.MaxReleaseAfter(),
		ReleaseTimeout: -1, // each wait is bounded by the node timeout
		Suspended:      suspended,
	}), nil
}
