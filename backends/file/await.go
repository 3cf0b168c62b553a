//go:build linux || darwin || freebsd

package file

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

var _ lock.Awaiter = (*Locker)(nil)

// Await takes key for ttl when its position in the queue is the first: [lock.Awaiter]
// says what holds for it. The queue is in the key's record, first in, first out among
// all processes: a key that is free is kept for the first in it for at most 50ms, then
// for the second, and so on, and everybody else is refused meanwhile. A process that
// has died is passed over at once, and one that hangs costs those behind it 50ms, once.
//
// A Locker has one position in the queue of a key. Of several Awaits of it the first one
// uses the position, and the next enters the queue when that has left.
func (l *Locker) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	err := check(ctx, key, ttl)
	if err != nil {
		return nil, fmt.Errorf("file: acquire: %w", err)
	}
	if refused == nil {
		refused = func(*lock.HeldError) {}
	}
	lease, err := l.await(ctx, key, ttl, refused)
	if err != nil {
		return nil, fmt.Errorf("file: acquire %q: %w", key, err)
	}
	return lease, nil
}

func (l *Locker) await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	first := l.awaits.enter(key)
	defer l.awaits.leave(key, first)
	select {
	case <-first:
	default:
		if info, err := l.Inspect(ctx, key); err == nil && info.Holder != "" {
			refused(&lock.HeldError{Key: key, Holder: info.Holder, RetryAfter: max(0, info.TTL)})
		}
		select {
		case <-first:
		case <-ctx.Done():
			return nil, fmt.Errorf("ended while waiting: %w", ended(ctx))
		}
	}

	lease, err := l.tryAcquire(ctx, key, ttl, true)
	if !errors.Is(err, lock.ErrHeld) {
		return lease, err
	}
	// From here on an attempt that is refused enters the queue.
	wake := make(chan struct{}, 1)
	stop, err := l.Watch(ctx, key, wake)
	if err != nil {
		return nil, err
	}
	defer stop() // gives the position up, if it still has one
	for {
		lease, err := l.tryAcquire(ctx, key, ttl, true)
		held, ok := errors.AsType[*lock.HeldError](err)
		if !ok {
			return lease, err
		}
		refused(held)
		select {
		case <-wake:
		case <-time.After(lock.DefaultPoll): // the way out if the kernel reports nothing
		case <-ctx.Done():
			return nil, fmt.Errorf("ended while waiting: %w", ended(ctx))
		}
	}
}

// awaits are the Awaits of one Locker under way, in the order in which they came. Its
// zero value is ready.
type awaits struct {
	mu sync.Mutex
	of map[string][]chan struct{} // by key; a channel is closed when it is the first
}

// enter adds one. first is closed once it is the first.
func (a *awaits) enter(key string) (first chan struct{}) {
	first = make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[string][]chan struct{}{}
	}
	if a.of[key] = append(a.of[key], first); len(a.of[key]) == 1 {
		close(first)
	}
	return first
}

// leave takes one out, wherever it stands.
func (a *awaits) leave(key string, of chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	queue := a.of[key]
	for i, first := range queue {
		if first != of {
			continue
		}
		if len(queue) == 1 {
			delete(a.of, key)
			return
		}
		queue = append(queue[:i], queue[i+1:]...)
		if a.of[key] = queue; i == 0 {
			close(queue[0])
		}
		return
	}
}

// any reports whether somebody waits for key in this Locker.
func (a *awaits) any(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.of[key]) > 0
}
