package locktest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// refClaim is for how long the reference hands a key over at first.
const refClaim = time.Second

// refWait is a request in a queue.
type refWait struct {
	l          *refLocker
	key, value string
	ttl        time.Duration
	asked      time.Time // when it was sent or, later, refreshed
	hold       refHold
	claim      time.Duration
	start      time.Time // from when its lease counts
	granted    bool
}

// passOn hands name over to the first in its queue, if it is free. mu is held.
func (s *refStore) passOn(name string) {
	for len(s.waits[name]) > 0 {
		if _, held := s.live(name); held {
			return
		}
		at := 0
		if s.bug == "the queue is last in, first out" {
			at = len(s.waits[name]) - 1
		}
		w := s.waits[name][at]
		s.waits[name] = slices.Delete(s.waits[name], at, at+1)
		if w.l.isClosed() && s.bug != "a dead waiter is granted the key" {
			continue
		}
		w.claim = min(w.ttl, refClaim)
		switch s.bug {
		case "a dead waiter is granted the key", "a hand-off takes the whole ttl",
			"a wait that ends stays in the queue", "a grant that meets the end of ctx is kept":
			w.claim = w.ttl
		}
		if s.bug != "a hand-off is not counted" {
			s.counts[name]++
		}
		w.hold = refHold{key: w.key, client: w.l.id, value: w.value, token: s.counts[name], ttl: w.ttl, until: s.now().Add(w.claim)}
		w.start, w.granted = w.asked, true
		if s.bug == "a hand-off is kept for half of its time" {
			w.hold.until = s.now().Add(w.claim / 2)
		}
		s.holds[name] = w.hold
	}
}

// leave takes w out of the queue of name, and frees what it was granted. mu is held.
func (s *refStore) leave(name string, w *refWait) {
	if s.bug == "a wait that ends stays in the queue" {
		return
	}
	s.waits[name] = slices.DeleteFunc(s.waits[name], func(x *refWait) bool { return x == w })
	if h, held := s.live(name); held && h.value == w.value && s.bug != "a grant that meets the end of ctx is kept" {
		delete(s.holds, name)
		s.passOn(name)
	}
}

func (l *refLocker) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *refLocker) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

var _ lock.Awaiter = (*refLocker)(nil)

func (l *refLocker) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	if err := lock.Check(key, ttl); err != nil {
		if l.bug != "await accepts any input" {
			return nil, err
		}
		return nil, lock.ErrUnavailable
	}
	if refused == nil && l.bug != "refused must not be nil" {
		refused = func(*lock.HeldError) {}
	}
	if l.bug == "await ignores its ctx" {
		ctx = context.WithoutCancel(ctx)
	}
	lease, err := l.await(ctx, key, ttl, refused)
	if err != nil {
		return nil, fmt.Errorf("acquire %q: %w", key, err)
	}
	return lease, nil
}

func (l *refLocker) await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (*refLease, error) {
	if l.bug != "await never asks first" {
		lease, err := l.tryAcquire(ctx, key, ttl)
		if err == nil || !errors.Is(err, lock.ErrHeld) {
			return lease, err
		}
	}
	s := l.store
	began := time.Now()
	w := &refWait{l: l, key: key, value: rand.Text(), ttl: ttl, asked: began}
	s.mu.Lock()
	name := s.name(key, l.id)
	s.waits[name] = append(s.waits[name], w)
	h, _ := s.live(name)
	s.mu.Unlock()
	if l.bug == "refused is called after the end" {
		time.AfterFunc(100*time.Millisecond, func() { refused(&lock.HeldError{Key: key}) })
	}
	refusal := &lock.HeldError{Key: key, Holder: h.client, RetryAfter: time.Until(h.until)}
	if l.bug == "refused gets nil" {
		refusal = nil
	}
	refused(refusal)

	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-ticker.C:
		case <-ctx.Done():
			err = l.ended(ctx)
		}
		switch {
		case err != nil:
		case l.bug == "await gives up at once":
			err = &lock.HeldError{Key: key}
		case l.isDead():
			return nil, lock.ErrClosed // it does nothing any more
		case l.isClosed():
			err = lock.ErrClosed
		case l.isCut() && l.bug == "an outage does not end the wait":
			continue
		case l.isCut():
			// Its request stays where it is: nobody can take it out.
			return nil, fmt.Errorf("%w: connection refused", lock.ErrUnavailable)
		}
		s.mu.Lock()
		if err != nil {
			s.leave(name, w)
			s.mu.Unlock()
			return nil, err
		}
		if s.bug != "nobody is handed the key" {
			s.passOn(name) // an expiry is found by who looks
		}
		granted := w.granted
		w.asked = time.Now()
		s.mu.Unlock()
		if granted {
			return l.handed(w, began), nil
		}
	}
}

// handed is the lease of a request that was granted.
func (l *refLocker) handed(w *refWait, began time.Time) *refLease {
	start, claim := w.start, w.claim
	if l.bug == "a lease that waited counts from the start of the wait" {
		start = began
	}
	lease := &refLease{l: l, key: w.key, value: w.value, token: w.hold.token, start: w.start, expiry: start.Add(claim), turn: make(chan struct{}, 1)}
	if claim < w.ttl && l.bug != "a lease that waited never grows" {
		time.AfterFunc(claim/4, func() {
			if time.Until(lease.Expiry()) < claim { // nobody has extended it
				_ = lease.Extend(context.Background(), w.ttl)
			}
		})
	}
	return lease
}
