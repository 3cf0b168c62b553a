package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var _ lock.Awaiter = (*Locker)(nil)

// Await takes key for ttl when its position in the queue is the first: [lock.Awaiter]
// says what holds for it. The queue of a key is first in, first out without exception. Whatever frees the
// key hands it over in the same moment; ttl counts from there. An outage that
// [Locker.FailNext] begins ends the requests of this client that stand in a queue, one
// for each call that is to fail, and so does Close. A request whose reply
// [Locker.LoseReplies] loses never stands in a queue.
//
// refused is called once, when the request enters the queue.
func (l *Locker) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	err := lock.Check(key, ttl)
	if err != nil {
		return nil, fmt.Errorf("memory: acquire: %w", err)
	}
	if refused == nil {
		refused = func(*lock.HeldError) {}
	}
	return l.acquire(ctx, key, ttl, refused)
}

// request is one Await that waits.
type request struct {
	client     *Locker
	ttl, spent time.Duration // spent was on the way to the store
	done       chan struct{} // closed when it has left the queue

	// Set before done is closed.
	token uint64        // of the term that it was granted; 0: none
	start time.Duration // since the store's base: from when ttl counts
	err   error         // why it was granted none
}

// end lets the waiter go on. The shard's mutex is held, and r is out of the queue.
func (r *request) end(err error) {
	r.err = err
	close(r.done)
}

// wait waits until r has left the queue of key. Then the term that it gives is this
// caller's, and nobody else will release it.
func (v *view) wait(ctx context.Context, key string, r *request) (token uint64, start time.Time, err error) {
	select {
	case <-r.done:
	case <-ctx.Done():
	}
	s := v.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil { // this beats a grant that came at the same time
		if t := s.terms[key]; r.token != 0 && t != nil && t.token == r.token {
			s.end(key, t)
		}
		if q := s.queue(key); q != nil {
			q.remove(r)
		}
		return 0, time.Time{}, fmt.Errorf("memory: acquire %q: ended while waiting: %w", key, lock.ContextError(ctx))
	}
	if r.err != nil {
		return 0, time.Time{}, fmt.Errorf("memory: acquire %q: ended while waiting: %w", key, r.err)
	}
	if expiry := r.start + r.ttl; s.store.now() >= expiry {
		// This goroutine came so late that the hold is over, and perhaps another's.
		return 0, time.Time{}, fmt.Errorf("memory: acquire %q: %w: the hand-off was noticed after the ttl of %v", key, lock.ErrUnavailable, r.ttl)
	}
	return r.token, s.store.base.Add(r.start), nil
}
