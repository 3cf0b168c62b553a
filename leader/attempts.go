package leader

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// attempts notes what each attempt of one campaign learns, for Status.
type attempts struct {
	lock.Locker
	e *Elector
}

func (a *attempts) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	start := time.Now()
	a.e.learn(func(s *Status) { a.e.asking = start })
	lease, err := a.Locker.TryAcquire(ctx, key, ttl)
	a.e.learn(func(s *Status) {
		s.LastAttempt, a.e.asking = err, time.Time{}
		switch {
		case err == nil, errors.Is(err, lock.ErrHeld):
			s.OutageSince = time.Time{}
		case ctx.Err() == nil && s.OutageSince.IsZero():
			s.OutageSince = start
		}
	})
	if errors.Is(err, lock.ErrRefused) && a.e.Status().Terms > 0 {
		return nil, outage{err} // what worked once may work again
	}
	return lease, err
}

// Unwrap lets Acquire find what the locker can do.
func (a *attempts) Unwrap() lock.Locker { return a.Locker }

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

// standingBy takes in why the campaign goes on. Acquire calls it when that changes.
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
