package cli

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// standby tells why a campaign takes its time: of each change once.
type standby struct {
	lock.Locker
	r    *runner
	told string
}

// Unwrap lets Acquire find what the locker offers.
func (s *standby) Unwrap() lock.Locker { return s.Locker }

func (s *standby) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := s.Locker.TryAcquire(ctx, key, ttl)
	var held *lock.HeldError
	switch {
	case s.r.once || ctx.Err() != nil:
	case errors.As(err, &held):
		s.tell("held by "+name(held.Holder), "standing by: ")
	case errors.Is(err, lock.ErrUnavailable):
		s.tell("unavailable", "waiting for the store: "+err.Error()+" ")
	}
	return lease, err
}

// tell compares what, and says how and what.
func (s *standby) tell(what, how string) {
	if s.told == what {
		return
	}
	s.told = what
	if what == "unavailable" {
		what = ""
	}
	s.r.say("%s%s", how, what)
}

// name is a holder's for people.
func name(holder string) string {
	if holder == "" {
		return "another"
	}
	return holder
}

// logger is for what goes wrong with renewals.
func (r *runner) logger() *slog.Logger {
	level := slog.LevelWarn
	if r.quiet {
		level = slog.LevelError
	}
	return slog.New(slog.NewTextHandler(r.a.err, &slog.HandlerOptions{Level: level}))
}
