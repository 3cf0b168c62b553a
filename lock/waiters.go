package lock

import (
	"context"
	"sync"
	"sync/atomic"
)

// Waiters queues the waiters of one process for one key, first come, first served:
// only the first of them asks the store. A backend embeds it; [Acquire] finds it
// there, also through [Prefix], [Semaphore] and whatever has Unwrap, and all who wait
// for one key of the store stand in one queue, by whatever composition they came in.
// The zero value is ready; it must not be copied after its first use.
//
// A Locker that embeds it must not call Acquire for a key within its TryAcquire
// of that key: it would wait for itself.
type Waiters struct {
	mu    sync.Mutex // guards lines, spare, and every line
	lines map[string]*line
	spare *line // of a line that emptied, so that a lone waiter costs no allocation

	granted atomic.Bool // an Acquire or AcquireAll got a lease: the store does work
}

// liner is a locker that has lines. line returns the Waiters in which the waiters for key
// stand, and the name of their line there. A decorator that changes keys returns those of
// its inner locker, for the name that the key has there.
type liner interface {
	line(key string) (w *Waiters, name string)
}

var _ liner = (*Waiters)(nil)

func (w *Waiters) line(key string) (*Waiters, string) { return w, key }

// lineOf is where those who wait for key in l stand; a nil w: l has no Waiters.
func lineOf(l Locker, key string) (w *Waiters, name string) {
	if in, ok := As[liner](l); ok {
		return in.line(key)
	}
	return nil, ""
}

// line is the queue of those who wait for one name; it has at least one. The first of
// them asks the store, and the others sleep.
type line struct {
	waiters     *Waiters
	name        string
	first, last *place
	seat        place  // the place of the first
	pauses      pauses // of the most eager: one who hardly asks must not slow those behind
	known       error  // what the store said last of the name; nil: nothing yet
	granted     bool   // the one before the first got a lease of this very name, which is thus not free
	observing   int    // calls of observers under way, about attempts of the first: see observeWithin
}

// place is the position of one waiter in its line. After leave it must not be used.
type place struct {
	line       *line
	prev, next *place
	// turn receives when this place has become the first, once, and after that when the
	// line's pauses have changed.
	turn chan struct{}
}

func (p *place) signal() {
	select {
	case p.turn <- struct{}{}:
	default:
	}
}

// stand takes the last place in name's line, which may be the first as well. It is
// nil while an observer receives an attempt of the first.
func (w *Waiters) stand(name string, pauses pauses) (p *place, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.lines[name]
	if l != nil && l.observing > 0 {
		return nil, true
	}
	if l == nil {
		l, w.spare = w.spare, nil
		if l == nil {
			l = new(line)
		}
		l.waiters, l.name, l.pauses = w, name, pauses
		l.first, l.last = &l.seat, &l.seat
		l.seat.line = l
		if w.lines == nil {
			w.lines = make(map[string]*line)
		}
		w.lines[name] = l
		return &l.seat, true
	}
	p = &place{line: l, prev: l.last, turn: make(chan struct{}, 1)}
	l.last.next, l.last = p, p
	if eager := l.pauses.most(pauses); eager != l.pauses {
		l.pauses = eager
		l.first.signal()
	}
	return p, false
}

type placeKey struct{}

// observeWithin calls notify, an observer's callback about an attempt that Acquire made
// with ctx. The callback may wait for the same key: Acquires that begin meanwhile do not
// enqueue, because they would wait for the callback to return.
func observeWithin(ctx context.Context, notify func()) {
	at, ok := ctx.Value(placeKey{}).(lineName)
	if !ok {
		notify()
		return
	}
	l := at.observing(nil, 1)
	defer at.observing(l, -1)
	notify()
}

// lineName names a queue of waiters, which may be gone by the time that an observer
// receives a call that went on in the background.
type lineName struct {
	in   *Waiters
	name string
}

// observing counts an observer in or, with the queue where it was counted, out.
func (at lineName) observing(in *line, n int) *line {
	at.in.mu.Lock()
	defer at.in.mu.Unlock()
	l := at.in.lines[at.name]
	if l != nil && (in == nil && n > 0 || l == in && l.observing > 0) {
		l.observing += n
	}
	return l
}

// leave gives the place up, wherever in the line it is; if it was the first, the
// next one is asking from now on. lease is what it got, or nil.
func (p *place) leave(lease Lease) {
	l, w := p.line, p.line.waiters
	w.mu.Lock()
	defer w.mu.Unlock()
	first := l.first == p
	if first {
		l.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		l.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	switch {
	case l.first == nil:
		delete(w.lines, l.name)
		*l = line{}
		w.spare = l
	case first:
		l.granted = lease != nil && lease.Key() == l.name // and not of one of several slots
		if lease != nil {
			l.known = &HeldError{Key: lease.Key(), Holder: "this process"}
		}
		l.first.signal()
	}
}

// state reports whether the place is the first, and what line.granted and line.known
// say.
func (p *place) state() (first, granted bool, known error) {
	l := p.line
	l.waiters.mu.Lock()
	defer l.waiters.mu.Unlock()
	return l.first == p, l.granted, l.known
}

// report notes, for those behind, what the store said of the name.
func (p *place) report(known error) {
	p.line.waiters.mu.Lock()
	defer p.line.waiters.mu.Unlock()
	p.line.known = known
}

// pauses are the line's, with the channel that receives when they have changed. Only the
// first in the line asks for them.
func (p *place) pauses() (pauses, <-chan struct{}) {
	p.line.waiters.mu.Lock()
	defer p.line.waiters.mu.Unlock()
	if p.turn == nil {
		p.turn = make(chan struct{}, 1)
	}
	return p.line.pauses, p.turn
}
