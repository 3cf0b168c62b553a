package leader

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// attempts notes why each attempt of one campaign failed: for Status, and in the
// log, where a change is told and never what goes on.
type attempts struct {
	lock.Locker
	e   *Elector
	log *slog.Logger

	// Acquire makes one attempt at a time.
	standing, away bool
}

func (a *attempts) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := a.Locker.TryAcquire(ctx, key, ttl)
	a.e.mu.Lock()
	a.e.status.LastAttempt = err
	a.e.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		a.tell(key, err)
	}
	return lease, err
}

func (a *attempts) tell(key string, err error) {
	held, ok := errors.AsType[*lock.HeldError](err)
	switch {
	case !errors.Is(err, lock.ErrHeld):
		if !a.away {
			a.away = true
			a.log.Warn("no attempt to be elected succeeds", "key", key, "err", err)
		}
		return
	case a.away || !a.standing:
		a.away, a.standing = false, true
		holder := ""
		if ok {
			holder = held.Holder
		}
		a.log.Info("standing by: another leads", "key", key, "holder", holder)
	}
}

// Unwrap lets Acquire find what the locker can do.
func (a *attempts) Unwrap() lock.Locker { return a.Locker }
