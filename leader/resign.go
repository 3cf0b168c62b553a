package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/internal/resign"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// ErrResigned is the cause of fn's context in a term that Resign ended.
var ErrResigned = errors.New("leader: resigned")

// maxAside bounds how long a copy that has resigned lets the others lead first.
const maxAside = 5 * time.Second

// Resign ends the term under way, if there is one, and reports whether there was: fn's
// context ends with the cause [ErrResigned], fn winds down under the lease, which is
// renewed for keepalive.Options.DrainTimeout, and when fn has returned the lease is
// released. Then Run campaigns again (with Options.Once it returns fn's result), but lets
// another copy lead first: it waits until another does, for a ttl or 5s at most, whichever
// is less, so that a copy that is alone leads again. Resign does not wait for any of that.
//
// What fn returns after Resign does not end Run.
func (e *Elector) Resign() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := e.term.Load()
	if k == nil || e.endTerm == nil || k.Context().Err() != nil {
		return false
	}
	e.endedBy = true
	e.endTerm(ErrResigned)
	return true
}

// resigned reports whether Resign ended the last term.
func (e *Elector) resigned() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.endedBy
}

// closeTerm is called when fn has returned: from here on there is no term to resign from, and
// IsLeader is false. The function that it returns frees the term's context.
func (e *Elector) closeTerm() (end context.CancelCauseFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term.Store(nil)
	end, e.endTerm = e.endTerm, nil
	return end
}

// RequestResign asks the process that leads key to [Elector.Resign], and
// returns the term that it has asked. It does not wait: the leader learns of it when its
// next renewal is due (keepalive.Options.Interval), and needs as long to end as its
// function does. A request is for one term, and never meets the next leader. A leader
// that is older than this function, or whose locker is no [lock.Inspector], does not
// learn of it.
//
// Where locker is a [lock.Semaphore], key may have several leaders. All of them are asked,
// whichever slots are free, and the term is that of the first slot that has a leader. They
// then wind down at the same time, so to keep some at work, ask one after the other: each
// by the name of its slot, as in "crawl;slot=2", and the locker in the semaphore. If one
// can't be asked, the others are, and the error says so.
//
// Anyone who may write to the store can ask. The request is a lock beside key, named after
// it and the term, which ends by itself.
//
// An error matches [ErrNobodyLeads], [errors.ErrUnsupported] for a locker that is no
// lock.Inspector, or is that of [lock.Inspector] or [lock.Locker].
func RequestResign(ctx context.Context, locker lock.Locker, key string) (lock.Info, error) {
	if locker == nil {
		return lock.Info{}, fmt.Errorf("leader: request to resign: %w: locker is nil", lock.ErrInvalid)
	}
	below, names := resign.Slots(locker, key)
	var first lock.Info // the zero Info: nobody leads
	var failed error
	for _, name := range names {
		term, request, err := resign.Ask(ctx, below, name)
		if errors.Is(err, resign.ErrNobody) {
			continue
		}
		if err == nil {
			err = resign.Leave(ctx, request)
		}
		if first.Holder == "" {
			first = term
		}
		failed = cmp.Or(failed, err)
	}
	switch {
	case failed != nil:
		return first, fmt.Errorf("leader: request to resign: %w", failed)
	case first.Holder == "":
		return lock.Info{Key: key}, fmt.Errorf("%w: %q", ErrNobodyLeads, key)
	}
	return first, nil
}

// ErrNobodyLeads says that there is no term to end.
var ErrNobodyLeads = errors.New("leader: nobody leads")

// requests looks once an interval whether somebody asks for the end of k's term, until
// ctx ends. A store that does not answer is no reason to end it.
func (e *Elector) requests(ctx context.Context, s settings, k *keepalive.Keeper) {
	below, names := resign.Slots(e.locker, e.key)
	inspector, ok := lock.As[lock.Inspector](below)
	if !ok {
		return
	}
	name := resign.SlotOf(k, names)
	ticker := time.NewTicker(s.keepalive.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(ctx, s.keepalive.Interval)
		by, err := resign.Asked(ctx, inspector, name, k.Token())
		cancel()
		if err == nil && by != "" && e.Resign() {
			s.log.Info("asked to resign", "key", e.key, "token", k.Token(), "by", by)
			return
		}
	}
}

// aside lets another copy lead first: it returns when one does, when ctx has ended (with
// its cause), or after a bounded time.
func (e *Elector) aside(ctx context.Context, s settings) error {
	bound, cancel := context.WithTimeout(ctx, min(s.ttl, maxAside))
	defer cancel()
	inspector, ok := lock.As[lock.Inspector](e.locker)
	for {
		if ok {
			if info, err := inspector.Inspect(bound, e.key); err == nil && info.Holder != "" {
				return nil
			}
		}
		// Other copies may poll, with pauses of their own, so there is no need to look often.
		timer := time.NewTimer(min(s.ttl, maxAside) / 20)
		select {
		case <-timer.C:
		case <-bound.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return nil
		}
	}
}
