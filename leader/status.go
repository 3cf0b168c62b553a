package leader

import (
	"errors"
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
	// keepalive.Options.Margin after it was told. Nothing but the fencing token
	// keeps its work from mixing with the next leader's.
	Overdue bool

	// LastAttempt is why the last attempt to be elected failed, nil while none has
	// since the last term. It matches lock.ErrHeld (errors.As with a
	// *lock.HeldError names the leader) or lock.ErrUnavailable.
	LastAttempt error

	// LastResult is how the last term that is over ended: fn's result, joined with
	// lock.ErrLost if the lease was lost. nil while there is none.
	LastResult error
}

// errNotReturned is the result of an fn that panicked or exited its goroutine.
var errNotReturned = errors.New("leader: fn did not return: it panicked or exited its goroutine")

// Status tells where the Elector is now. Like IsLeader it looks at the clock: it
// never says Leading after fn's context must have ended.
func (e *Elector) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.status
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

// set changes the status, and passes it on to OnChange.
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

// setEnding says why k's term goes on no more. A loss is final: it is looked for
// under mu, so that Draining never comes after Lost.
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
