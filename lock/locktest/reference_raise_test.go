package locktest

import (
	"context"
	"fmt"

	"github.com/tonsurance/lockkeeper/lock"
)

// raise makes least the token of value's hold.
func (s *refStore) raise(key, client, value string, least uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.name(key, client)
	h, held := s.live(name)
	switch {
	case held && h.value == value:
	case held && s.bug == "a raise is anybody's":
		least = h.token // of no use, but it is not refused
	case !held && s.bug == "a raise after the release counts":
	default:
		return false
	}
	if s.bug != "a raise is shown to nobody" {
		h.token = least
	}
	if held {
		s.holds[name] = h
	}
	switch s.bug {
	case "a raise is not counted":
	case "a raised count dies with its hold":
		s.counts[name] = max(s.counts[name], least)
		s.raised = map[string]bool{name: true}
	default:
		s.counts[name] = least
	}
	return true
}

// unraise is what a store does that keeps the raised count with the hold.
func (s *refStore) unraise(name string) {
	if s.raised[name] {
		s.counts[name] /= 2
		delete(s.raised, name)
	}
}

func (r *refLease) RaiseToken(ctx context.Context, least uint64) error {
	b := r.l.bug
	if least > lock.MaxRaise && b != "a raise takes any token" {
		return fmt.Errorf("%w: token %d", lock.ErrInvalid, least)
	}
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.releasing && b != "a raise after the release counts":
		return r.errLostKeeping()
	case r.expired() && b != "a raise after the release counts":
		return r.errLost()
	case ctx.Err() != nil && b != "a raise ignores its ctx":
		return ctx.Err()
	case r.token >= least && b != "a raise lowers":
		return nil
	}
	if b == "a raise ignores its ctx" {
		ctx = context.WithoutCancel(ctx)
	}
	r.mu.Unlock()
	ok := false
	err := r.l.call(ctx, func() { ok = r.l.store.raise(r.key, r.l.id, r.value, least) })
	r.mu.Lock()
	switch {
	case err != nil && b == "a lost reply on a raise is a loss":
		return r.errLost()
	case err != nil && b == "a raise in an outage is local":
	case err != nil:
		return fmt.Errorf("%w: raise %q: %w", lock.ErrUnavailable, r.key, err)
	case !ok:
		return r.errLost()
	}
	if b == "a raise renames the term" {
		r.value += "'"
	}
	r.token = least
	return nil
}
