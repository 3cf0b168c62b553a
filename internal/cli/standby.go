package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/lock"
)

// standby reports why a campaign takes its time: of each change once.
type standby struct {
	lock.Locker
	r        *runner
	reported string
	named    map[string]bool // of a key with several holders: those that were said
}

// Unwrap lets Acquire find what the locker offers.
func (s *standby) Unwrap() lock.Locker { return s.Locker }

// As lets Acquire stand in the store's own queue.
func (s *standby) As(target any) bool {
	return lock.PassAwaiter(target, s.Locker, func(inner lock.Awaiter) lock.Awaiter { return queuedStandby{s, inner} })
}

func (s *standby) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := s.Locker.TryAcquire(ctx, key, ttl)
	s.answered(ctx, key, err)
	return lease, err
}

type queuedStandby struct {
	s     *standby
	inner lock.Awaiter
}

func (q queuedStandby) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	lease, err := q.inner.Await(ctx, key, ttl, func(held *lock.HeldError) {
		q.s.answered(ctx, key, held)
		refused(held)
	})
	q.s.answered(ctx, key, err)
	return lease, err
}

// answered says why the lease was not granted.
func (s *standby) answered(ctx context.Context, key string, err error) {
	var held *lock.HeldError
	switch {
	case s.r.once || ctx.Err() != nil:
	case errors.As(err, &held):
		if s.r.exclusive { // it waits for all readers, who refuse it in turn
			if s.named[held.Holder] {
				return
			}
			if s.named == nil {
				s.named = map[string]bool{}
			}
			s.named[held.Holder] = true
		}
		s.report("held by "+name(held.Holder), fmt.Sprintf("standing by for %s in %s: ", key, s.r.store.shown()))
	case errors.Is(err, lock.ErrUnavailable):
		s.report("unavailable", "waiting for the store: "+words(err)+" ")
	}
}

// report compares what, and says how and what.
func (s *standby) report(what, how string) {
	if s.reported == what {
		return
	}
	s.reported = what
	if what == "unavailable" {
		what = ""
	}
	s.r.sayStore(false)
	s.r.say("%s%s", how, what)
}

// name is a holder's for people.
func name(holder string) string { return plain.Holder(holder) }

// renewals reports renewals that fail: once in a row of them, and once when it is
// over. A loss the runner reports itself.
type renewals struct {
	r    *runner
	ends string // what ends if none succeeds
}

func (h renewals) Enabled(_ context.Context, level slog.Level) bool { return level < slog.LevelError }

func (h renewals) Handle(_ context.Context, record slog.Record) error {
	values := map[string]slog.Value{}
	record.Attrs(func(a slog.Attr) bool {
		values[a.Key] = a.Value.Resolve()
		return true
	})
	if record.Level >= slog.LevelWarn {
		if values["failures"].String() == "1" {
			left, _ := values["left"].Any().(time.Duration)
			h.r.say("%s, which ends %s in %s unless one succeeds: %v", record.Message, h.ends, short(left), values["err"].Any())
		}
		return nil
	}
	h.r.say("%s", record.Message)
	return nil
}

func (h renewals) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h renewals) WithGroup(string) slog.Handler { return h }
