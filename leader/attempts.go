package leader

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// attempts is the locker of one campaign: it notes the outcome of each attempt, for Status.
type attempts struct {
	lock.Locker
	e *Elector
}

func (a *attempts) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	start := a.begin()
	lease, err := a.Locker.TryAcquire(ctx, key, ttl)
	return lease, a.answered(ctx, start, err)
}

// Unwrap lets Acquire find what the locker can do.
func (a *attempts) Unwrap() lock.Locker { return a.Locker }

// As lets Acquire stand in the store's own queue.
func (a *attempts) As(target any) bool {
	return lock.PassAwaiter(target, a.Locker, func(inner lock.Awaiter) lock.Awaiter { return queued{a, inner} })
}

type queued struct {
	a     *attempts
	inner lock.Awaiter
}

func (q queued) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	start := q.a.begin()
	lease, err := q.inner.Await(ctx, key, ttl, func(held *lock.HeldError) {
		_ = q.a.answered(ctx, start, held)
		refused(held)
	})
	return lease, q.a.answered(ctx, start, err)
}

// begin notes that the store is asked, and since when.
func (a *attempts) begin() (start time.Time) {
	start = time.Now()
	a.e.learn(func(*Status) { a.e.asking = start })
	return start
}

// answered notes what the store answered. It returns the error for Acquire.
func (a *attempts) answered(ctx context.Context, start time.Time, err error) error {
	a.e.learn(func(s *Status) {
		stood := a.e.asking.IsZero() // an earlier answer says so: the request stands in the store's queue
		a.e.asking = time.Time{}
		if stood && err != nil && ctx.Err() != nil {
			return // this process ended the wait, and the store has not answered again
		}
		if stood {
			start = time.Now() // an outage begins now: until now the request stood in the queue
		}
		s.LastAttempt = err
		switch {
		case err == nil, errors.Is(err, lock.ErrHeld):
			s.OutageSince = time.Time{}
		case ctx.Err() == nil && s.OutageSince.IsZero():
			s.OutageSince = start
		}
	})
	if errors.Is(err, lock.ErrRefused) && a.e.Status().Terms > 0 {
		return outage{err} // what worked once may work again
	}
	return err
}

// outage is a store's refusal that does not end a campaign.
type outage struct{ err error }

func (o outage) Error() string { return o.err.Error() }

func (o outage) Is(target error) bool {
	switch target {
	case lock.ErrRefused:
		return false
	case lock.ErrUnavailable:
		return true
	}
	return errors.Is(o.err, target)
}

func (o outage) As(target any) bool { return errors.As(o.err, target) }

// standingBy notes and logs why the campaign goes on. Acquire calls it when that changes.
func (e *Elector) standingBy(log *slog.Logger, err error) {
	held, holder := errors.Is(err, lock.ErrHeld), ""
	if h, ok := errors.AsType[*lock.HeldError](err); ok {
		holder = h.Holder
	}
	e.mu.Lock()
	e.status.LastAttempt = err
	switch {
	case held:
		e.status.OutageSince = time.Time{}
	case e.status.OutageSince.IsZero():
		e.status.OutageSince = time.Now()
	}
	if e.changes != nil {
		e.changes.put(e.status)
	}
	e.mu.Unlock()
	if held {
		log.Info("standing by: another leads", "key", e.key, "holder", holder)
	} else {
		log.Warn("no attempt to be elected succeeds", "key", e.key, "err", err)
	}
}
