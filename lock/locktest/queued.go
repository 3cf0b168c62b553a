package locktest

import (
	"context"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// queued is one Await.
type queued struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	lease  lock.Lease
	err    error
	began  time.Time

	mu       sync.Mutex // guards all below
	reported []*lock.HeldError
	stands   chan struct{} // closed at the first refusal
	inside   bool          // refused is being called
	overlap  bool
	ended    bool
	late     bool // it was called after the end
}

func (w *queued) refused(held *lock.HeldError) {
	w.mu.Lock()
	w.overlap = w.overlap || w.inside
	w.late = w.late || w.ended
	w.inside = true
	w.reported = append(w.reported, held)
	if len(w.reported) == 1 {
		close(w.stands)
	}
	w.mu.Unlock()
	time.Sleep(time.Microsecond) // for another call to meet this one
	w.mu.Lock()
	w.inside = false
	w.mu.Unlock()
}

// await has l wait for key.
func (c *check) await(l lock.Locker, key string, ttl time.Duration) *queued {
	c.Helper()
	awaiter := offered[lock.Awaiter](c, l, needAwaiter)
	return c.startAwait(func(ctx context.Context, w *queued) (lock.Lease, error) {
		return awaiter.Await(ctx, key, ttl, w.refused)
	})
}

// startAwait is await by that call.
func (c *check) startAwait(call func(ctx context.Context, w *queued) (lock.Lease, error)) *queued {
	c.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	w := &queued{cancel: cancel, done: make(chan struct{}), stands: make(chan struct{}), began: time.Now()}
	c.group().Go(func() {
		lease, err := call(ctx, w)
		switch {
		case err == nil && lease == nil:
			err = errNoAnswer
		case lease != nil:
			c.releaseLater(lease)
		}
		w.mu.Lock()
		w.ended = true
		w.lease, w.err = lease, err
		w.mu.Unlock()
		close(w.done)
	})
	c.cleanup(func() { cancel(nil) }) // before the group's own is waited for
	return w
}

// queue is await for a key that is held: it returns when the request stands.
func (c *check) queue(l lock.Locker, key string, ttl time.Duration) *queued {
	c.Helper()
	w := c.await(l, key, ttl)
	select {
	case <-w.stands:
	case <-w.done:
		c.fatalf("Await of a key that is held ended with %v", show(w.err))
	case <-time.After(c.bound()):
		c.fatalf("Await of a key that is held has not called refused for %v", c.bound())
	}
	time.Sleep(c.poll()) // the first answer may come from a part of the store
	return w
}

// over waits for w to end.
func (c *check) over(w *queued, what string) {
	c.Helper()
	select {
	case <-w.done:
	case <-time.After(c.bound()):
		c.fatalf("%s: Await has not returned for %v", what, c.bound())
	}
	if w.err != nil && w.lease != nil {
		c.Errorf("%s: Await returned a lease beside the error %v, want nil", what, show(w.err))
	}
}

// got waits for w to have the lease.
func (c *check) handed(w *queued, what string) lock.Lease {
	c.Helper()
	c.over(w, what)
	if w.err != nil {
		c.fatalf("%s: %v", what, w.err)
	}
	if left := time.Until(w.lease.Expiry()); left <= 0 {
		c.fatalf("%s: Await returned a lease that has ended %v ago", what, -left)
	}
	return w.lease
}

func (w *queued) isOver() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// clients are n that wait: other processes, where there can be some.
func (c *check) clients(n int) []lock.Locker {
	clients := []lock.Locker{c.l}
	for len(clients) < n {
		l := c.l
		if c.h.Peer != nil {
			l = c.newPeer()
		}
		clients = append(clients, l)
	}
	return clients
}
