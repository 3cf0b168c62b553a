package lockgocron

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-co-op/gocron/v2"

	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// ErrNotLeading is returned by [Elector.IsLeader] of a scheduler that does not lead, and
// by runs of [Elector.Task] there.
var ErrNotLeading = errors.New("lockgocron: this scheduler does not lead")

// Elector is a [gocron.Elector]. It is safe for concurrent use.
type Elector struct {
	elector *leader.Elector

	mu   sync.Mutex // protects term, and what begins in it
	term *term      // under way, or nil
}

// term is one term of leadership: its context, and the runs that began in it.
type term struct {
	ctx  context.Context
	runs sync.WaitGroup
}

var _ gocron.Elector = (*Elector)(nil)

// NewElector makes an Elector that leads by e, whose Status and the like may be used
// besides, but whose Run must be left to [Elector.Run]. e must not be nil.
func NewElector(e *leader.Elector) (*Elector, error) {
	if e == nil {
		return nil, fmt.Errorf("lockgocron: new elector: %w: elector is nil", lock.ErrInvalid)
	}
	return &Elector{elector: e}, nil
}

// Run campaigns, leads and stands by until ctx ends, as [leader.Elector.Run] does, whose
// results it has. A term that ends waits for the runs of [Elector.Task] that began in it;
// only then may another scheduler lead. No jobs run where Run does not. Shut the scheduler
// down when Run has returned.
func (e *Elector) Run(ctx context.Context) error {
	return e.elector.Run(ctx, func(ctx context.Context) error {
		t := &term{ctx: ctx}
		e.set(t)
		<-ctx.Done()
		e.set(nil) // no run begins in t from here on
		t.runs.Wait()
		return nil
	})
}

func (e *Elector) set(t *term) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term = t
}

// begin starts a run in the term under way, or returns nil.
func (e *Elector) begin() *term {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.term
	// Err looks at the clock: also where the term is over and no timer has run since.
	if t == nil || t.ctx.Err() != nil {
		return nil
	}
	t.runs.Add(1)
	return t
}

// IsLeader is nil while this scheduler leads. Otherwise the error matches
// [ErrNotLeading], and the reason where it is known, such as [lock.ErrHeld].
func (e *Elector) IsLeader(context.Context) error {
	e.mu.Lock()
	t := e.term
	e.mu.Unlock()
	if t != nil && t.ctx.Err() == nil {
		return nil
	}
	return e.notLeading()
}

func (e *Elector) notLeading() error {
	if why := e.elector.Status().LastAttempt; why != nil {
		return fmt.Errorf("%w: %w", ErrNotLeading, why)
	}
	return ErrNotLeading
}

// Task makes a task of fn that runs in a term only: its context ends with gocron's, and
// before another scheduler can lead; it carries the term's fencing token ([lock.Token]).
// fn must return soon after that; the term waits for it. Where this scheduler does not
// lead, a run fails with [ErrNotLeading], and fn is not called. It panics if fn is nil.
func (e *Elector) Task(fn func(context.Context) error) gocron.Task {
	if fn == nil {
		panic("lockgocron: Task: fn is nil")
	}
	return gocron.NewTask(func(ctx context.Context) error {
		t := e.begin()
		if t == nil {
			return e.notLeading()
		}
		defer t.runs.Done()
		run, cancel := context.WithCancelCause(t.ctx)
		defer cancel(nil)
		defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
		return fn(run)
	})
}
