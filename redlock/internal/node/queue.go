package node

import (
	"sync"

	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// queue holds the requests to one node that were not sent yet. They are sent one script
// call at a time: what arrives while a call is under way goes into the next one,
// together. It is the group commit of databases' logs. Under load a request takes a third
// of the server's time that a call of its own would, and no goroutine of its own. What
// waits behind a node that hangs was never sent, so that it can be withdrawn and needs no
// cleanup.
type queue struct {
	mu      sync.Mutex // guards all below, and where calls wait; not held while sending
	sending bool       // a goroutine is at it
	waiting [classes]callList
	batch   []*Call           // this and the next two are the sender's own: used without mu
	asked   []*script.Request // the requests of the batch
	results []script.Result   // and what became of them
	busy    map[string]bool   // locks with a call under way, where calls are sent on their own
}

// Class is which requests go first. A batch is run in its order, so that a release
// also comes before the votes that wait beside it.
type Class uint8

const (
	Renewing Class = iota // what keeps or completes a lease
	Freeing               // what lets another one have the lock
	Voting                // what would take a lock, or waits for one
	classes
)

// callList is a linked list, for a call to be withdrawn from the middle of it.
type callList struct{ first, last *Call }

func (l *callList) add(c *Call) {
	if c.prev = l.last; c.prev == nil {
		l.first = c
	} else {
		c.prev.next = c
	}
	l.last = c
}

func (l *callList) remove(c *Call) {
	if c.prev == nil {
		l.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		l.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
}

// add queues a call, and reports whether a sender must be started.
func (q *queue) add(c *Call) (start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.queued = true
	q.waiting[c.Class].add(c)
	start = !q.sending
	q.sending = true
	return start
}

// withdraw takes a call out of the queue; false if it is not in it: it was taken to be sent,
// or its caller has it.
func (q *queue) withdraw(c *Call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !c.queued {
		return false
	}
	c.queued = false
	q.waiting[c.Class].remove(c)
	return true
}

// take gives the sender what to send next. If that is nothing, the sender must end. alone:
// calls are sent on their own, and those of one lock must not overtake each other.
func (q *queue) take(most int, alone bool) []*Call {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.batch) // recycled meanwhile
	q.batch = q.batch[:0]
	for class := range q.waiting {
		for c := q.waiting[class].first; c != nil && len(q.batch) < most; {
			next := c.next
			if !alone || q.claim(c) {
				c.queued = false
				q.waiting[class].remove(c)
				q.batch = append(q.batch, c)
			}
			c = next
		}
	}
	q.sending = len(q.batch) > 0
	return q.batch
}

// requests are those of a batch, for its sender.
func (q *queue) requests(batch []*Call) []*script.Request {
	clear(q.asked)
	q.asked = q.asked[:0]
	for _, c := range batch {
		q.asked = append(q.asked, &c.Request)
	}
	return q.asked
}

// claim makes c its lock's call under way, if there is none. mu is held.
func (q *queue) claim(c *Call) bool {
	if q.busy[c.Keys.Lock] {
		return false
	}
	if q.busy == nil {
		q.busy = map[string]bool{}
	}
	q.busy[c.Keys.Lock], c.alone = true, true
	return true
}

// ended is called when the lock's call under way has been answered, and what follows it
// has been queued. It reports whether a sender must be started.
func (q *queue) ended(lock string) (start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, lock)
	if q.sending {
		return false
	}
	for class := range q.waiting {
		for c := q.waiting[class].first; c != nil; c = c.next {
			if c.Keys.Lock == lock { // all others that wait do so for calls of their own lock
				q.sending = true
				return true
			}
		}
	}
	return false
}
