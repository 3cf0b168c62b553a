package leader

import (
	"errors"
	"log/slog"
	"time"

	"github.com/tonsurance/lockkeeper/keepalive"
)

// State is where an Elector is; the package page has the diagram.
type State string

// The states.
const (
	Stopped    State = "stopped"
	StandingBy State = "standing by"
	Leading    State = "leading"
	Draining   State = "draining"
	Lost       State = "lost"
)

// Status is an Elector's state at one moment.
type Status struct {
	Key   string
	State State
	Token uint64    // of the term under way; 0 if there is none
	Since time.Time // when State began, on the wall clock: for people only
	Terms int       // begun by this Elector, the one under way included

	// Overdue: the term is lost, and fn has not returned within
	// keepalive.Options.Margin after it was reported. Nothing but the fencing token
	// keeps its work from mixing with the next leader's.
	Overdue bool

	// LastAttempt is why this Elector does not lead, as far as it knows by its last
	// attempt to be elected or by an inspection of the key, which notices a change within
	// a few seconds (for lockers that are a lock.Inspector). It matches lock.ErrHeld (errors.As with a
	// *lock.HeldError names the leader), or else the store could not say. nil while
	// nothing is known since the last term.
	LastAttempt error

	// OutageSince is since when the store does not answer a copy that stands by. It is
	// zero while the store answers, and while this copy leads: a term ends by itself in
	// an outage.
	OutageSince time.Time

	// TTL is that of the lease.
	TTL time.Duration

	// LastResult is how the last term that is over ended: fn's result, joined with
	// lock.ErrLost if the lease was lost. nil while there is none.
	LastResult error
}

// LogValue is what there is to log of s: its key and state, since when, and those of the
// other fields that are not zero.
func (s Status) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("key", s.Key), slog.String("state", string(s.State))}
	if s.Token > 0 {
		attrs = append(attrs, slog.Uint64("token", s.Token))
	}
	if !s.Since.IsZero() {
		attrs = append(attrs, slog.Time("since", s.Since))
	}
	if s.Terms > 0 {
		attrs = append(attrs, slog.Int("terms", s.Terms))
	}
	if s.Overdue {
		attrs = append(attrs, slog.Bool("overdue", true))
	}
	if !s.OutageSince.IsZero() {
		attrs = append(attrs, slog.Time("outage_since", s.OutageSince))
	}
	if s.LastAttempt != nil {
		attrs = append(attrs, slog.String("last_attempt", s.LastAttempt.Error()))
	}
	if s.LastResult != nil {
		attrs = append(attrs, slog.String("last_result", s.LastResult.Error()))
	}
	return slog.GroupValue(attrs...)
}

// errNotReturned is the result of an fn that panicked or exited its goroutine.
var errNotReturned = errors.New("leader: fn did not return: it panicked or exited its goroutine")

// OutOfReach reports whether the store has been out of reach for longer than the ttl.
// A copy that stands by can't take over then, whatever becomes of the leader.
func (s Status) OutOfReach() bool {
	return !s.OutageSince.IsZero() && time.Since(s.OutageSince) > s.TTL
}

// Status reports where the Elector is now. Like IsLeader it looks at the clock: it
// never says Leading after fn's context must have ended.
func (e *Elector) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.status
	if s.OutageSince.IsZero() && !e.asking.IsZero() && time.Since(e.asking) > s.TTL {
		s.OutageSince = e.asking // an attempt that hangs
	}
	if s.State != Leading {
		return s
	}
	if k := e.term.Load(); k.Context().Err() != nil {
		s.State, s.Since = ending(k), time.Now()
	}
	return s
}

// IsLeader reports whether fn runs and its context is alive, by the clock.
func (e *Elector) IsLeader() bool {
	k := e.term.Load()
	return k != nil && k.Context().Err() == nil
}

// learn changes the status without a call of OnChange: for what changes no State.
func (e *Elector) learn(change func(s *Status)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.status)
}

// set changes the status, and passes it on to OnChange if State or Overdue has changed.
func (e *Elector) set(change func(s *Status)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.status
	change(&e.status)
	if e.status.State != before.State {
		e.status.Since = time.Now()
	} else if e.status.Overdue == before.Overdue {
		return
	}
	if e.changes != nil {
		e.changes.put(e.status)
	}
}

func (e *Elector) setState(state State) { e.set(func(s *Status) { s.State = state }) }

// setEnding sets the State of a term that is at its end: Lost, or else Draining. A loss is
// final: it is looked for under mu, so that Draining never comes after Lost.
func (e *Elector) setEnding(k *keepalive.Keeper) {
	e.set(func(s *Status) { s.State = ending(k) })
}

func ending(k *keepalive.Keeper) State {
	select {
	case <-k.Lost():
		return Lost
	default:
		return Draining
	}
}
