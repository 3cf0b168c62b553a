package lock_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// queueStore is a backend for one process, with queues.
type queueStore struct {
	lock.Waiters
	try func(ctx context.Context, key string) error // before all else; not under mu

	mu    sync.Mutex // guards all below
	held  map[string]bool
	down  error    // what every attempt fails with; nil: it works
	tries []string // the keys that were asked for
	token uint64
}

func (l *queueStore) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	l.mu.Lock()
	l.tries = append(l.tries, key)
	l.mu.Unlock()
	if l.try != nil {
		if err := l.try(ctx, key); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil {
		return nil, l.down
	}
	if l.held[key] {
		return nil, &lock.HeldError{Key: key, Holder: "host-1"}
	}
	l.set(key, true)
	l.token++
	return new(store).lease(func(g *lock.Grant) {
		g.Key, g.Token, g.Expiry = key, l.token, time.Now().Add(ttl)
		g.Release = func(context.Context) error { l.free(key); return nil }
	}), nil
}

func (l *queueStore) set(key string, held bool) {
	if l.held == nil {
		l.held = map[string]bool{}
	}
	l.held[key] = held
}

func (l *queueStore) hold(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(key, true)
}

func (l *queueStore) free(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(key, false)
	l.down = nil
}

// asked is how often the store was asked since the last call.
func (l *queueStore) asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.tries)
	l.tries = nil
	return n
}

// through is a decorator that changes nothing.
type through struct{ lock.Locker }

func (d through) Unwrap() lock.Locker { return d.Locker }

// waiting is one Acquire that goes on beside the test.
type waiting struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	lease  lock.Lease
	err    error
	ended  time.Time
}

// stand has an Acquire come, and returns when it has gone as far as it can.
func stand(t *testing.T, l lock.Locker, key string, opts *lock.AcquireOptions) *waiting {
	ctx, cancel := context.WithCancelCause(t.Context())
	w := &waiting{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.lease, w.err = lock.Acquire(ctx, l, key, ttl, opts)
		w.ended = time.Now()
	}()
	synctest.Wait()
	return w
}

func (w *waiting) over() bool {
	synctest.Wait()
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

var steady = &lock.AcquireOptions{Jitter: -1}
