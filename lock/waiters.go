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
	mu     sync.Mutex // guards queues, spare, and every queue
	queues map[string]*queue
	spare  *queue // one that emptied, so that a lone waiter costs no allocation

	granted atomic.Bool // an Acquire or AcquireAll got a lease: the store does work
}

// queuer is a locker that has queues. queue returns the Waiters in which the waiters for key
// stand, and the name of their queue there. A decorator that changes keys returns those of
// its inner locker, for the name that the key has there.
type queuer interface {
	queue(key string) (w *Waiters, name string)
}

var _ queuer = (*Waiters)(nil)

func (w *Waiters) queue(key string) (*Waiters, string) { return w, key }

// queueOf is where those who wait for key in l stand; a nil w: l has no Waiters.
func queueOf(l Locker, key string) (w *Waiters, name string) {
	if in, ok := As[queuer](l); ok {
		return in.queue(key)
	}
	return nil, ""
}

// queue is that of the waiters for one name; it has at least one. The first of
// them asks the store, and the others sleep.
type queue struct {
	waiters     *Waiters
	name        string
	first, last *position
	front       position // that of the first who came, so that a lone waiter costs no allocation
	pauses      pauses   // of the most eager: one who hardly asks must not slow those behind
	known       error    // what the store said last of the name; nil: nothing yet
	granted     bool     // the one before the first got a lease of this very name, which is thus not free
	observing   int      // calls of observers under way, about attempts of the first: see observeWithin
}

// position is that of one waiter in its queue. After dequeue it must not be used.
type position struct {
	queue      *queue
	prev, next *position
	// wake receives when this position has become the first, once, and after that when the
	// queue's pauses have changed.
	wake chan struct{}
}

func (p *position) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// enqueue takes the last position in name's queue, which may be the first as well. It is
// nil while an observer receives an attempt of the first.
func (w *Waiters) enqueue(name string, pauses pauses) (p *position, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queues[name]
	if q != nil && q.observing > 0 {
		return nil, true
	}
	if q == nil {
		q, w.spare = w.spare, nil
		if q == nil {
			q = new(queue)
		}
		q.waiters, q.name, q.pauses = w, name, pauses
		q.first, q.last = &q.front, &q.front
		q.front.queue = q
		if w.queues == nil {
			w.queues = make(map[string]*queue)
		}
		w.queues[name] = q
		return &q.front, true
	}
	p = &position{queue: q, prev: q.last, wake: make(chan struct{}, 1)}
	q.last.next, q.last = p, p
	if eager := q.pauses.most(pauses); eager != q.pauses {
		q.pauses = eager
		q.first.signal()
	}
	return p, false
}

type queueKey struct{}

// observeWithin calls notify, an observer's callback about an attempt that Acquire made
// with ctx. The callback may wait for the same key: Acquires that begin meanwhile do not
// enqueue, because they would wait for the callback to return.
func observeWithin(ctx context.Context, notify func()) {
	at, ok := ctx.Value(queueKey{}).(queueName)
	if !ok {
		notify()
		return
	}
	q := at.observing(nil, 1)
	defer at.observing(q, -1)
	notify()
}

// queueName names a queue of waiters, which may be gone by the time that an observer
// receives a call that went on in the background.
type queueName struct {
	in   *Waiters
	name string
}

// observing counts an observer in or, with the queue where it was counted, out.
func (at queueName) observing(in *queue, n int) *queue {
	at.in.mu.Lock()
	defer at.in.mu.Unlock()
	q := at.in.queues[at.name]
	if q != nil && (in == nil && n > 0 || q == in && q.observing > 0) {
		q.observing += n
	}
	return q
}

// dequeue gives the position up, wherever in the queue it is; if it was the first, the
// next one is asking from now on. lease is what it got, or nil.
func (p *position) dequeue(lease Lease) {
	q, w := p.queue, p.queue.waiters
	w.mu.Lock()
	defer w.mu.Unlock()
	first := q.first == p
	if first {
		q.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		q.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	switch {
	case q.first == nil:
		delete(w.queues, q.name)
		*q = queue{}
		w.spare = q
	case first:
		q.granted = lease != nil && lease.Key() == q.name // and not of one of several slots
		if lease != nil {
			q.known = &HeldError{Key: lease.Key(), Holder: "this process"}
		}
		q.first.signal()
	}
}

// state reports whether the position is the first, and what queue.granted and queue.known
// say.
func (p *position) state() (first, granted bool, known error) {
	q := p.queue
	q.waiters.mu.Lock()
	defer q.waiters.mu.Unlock()
	return q.first == p, q.granted, q.known
}

// report notes, for those behind, what the store said of the name.
func (p *position) report(known error) {
	p.queue.waiters.mu.Lock()
	defer p.queue.waiters.mu.Unlock()
	p.queue.known = known
}

// pauses are the queue's, with the channel that receives when they have changed. Only the
// first in the queue asks for them.
func (p *position) pauses() (pauses, <-chan struct{}) {
	p.queue.waiters.mu.Lock()
	defer p.queue.waiters.mu.Unlock()
	if p.wake == nil {
		p.wake = make(chan struct{}, 1)
	}
	return p.queue.pauses, p.wake
}
