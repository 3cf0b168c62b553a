package locktest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// refLocker is one client.
type refLocker struct {
	*lock.Waiters

	store *refStore
	bug   bug
	id    string

	mu     sync.Mutex // guards all below
	delay  time.Duration
	lose   bool
	outage bool
	closed bool
	dead   bool // killed, and closed
	cut    int  // the request whose reply is lost; 0: none
	repeat bool
	clash  bool // the next request meets a false conflict
	stale  bool
}

func newRefLocker(s *refStore) *refLocker {
	l := &refLocker{store: s, bug: s.bug, id: "client-" + rand.Text()[:5]}
	if l.bug != "its waiters have no line" {
		l.Waiters = new(lock.Waiters)
	}
	return l
}

var _ interface {
	lock.Locker
	lock.Watcher
	lock.Inspector
	lock.ForceReleaser
	lock.HealthChecker
} = (*refLocker)(nil)

var errPlain = errors.New("no")

// call is one request: apply at the store, then wait for the reply.
func (l *refLocker) call(ctx context.Context, apply func()) error {
	l.mu.Lock()
	delay, lose, outage, closed := l.delay+100*time.Microsecond, l.lose, l.outage, l.closed
	l.lose = l.lose && outage
	conflict, repeat := l.clash, l.repeat
	l.clash = false
	if l.cut > 0 {
		l.cut--
		lose = lose || l.cut == 0
	}
	l.mu.Unlock()
	if closed {
		if l.bug == "closed looks unavailable" {
			return lock.ErrUnavailable
		}
		return lock.ErrClosed
	}
	if outage {
		if l.bug == "an outage is a plain error" {
			return errPlain
		}
		if l.bug == "an outage looks closed" {
			return lock.ErrClosed
		}
		return fmt.Errorf("%w: connection refused", lock.ErrUnavailable)
	}
	if conflict {
		if l.bug == "a conflict is a loss" {
			return lock.ErrLost
		}
		return fmt.Errorf("%w: changed meanwhile", lock.ErrUnavailable)
	}
	// What is on its way arrives, also if ctx ends meanwhile.
	applied := make(chan struct{})
	arrive := func() {
		defer close(applied)
		apply()
		if repeat {
			apply()
		}
	}
	if l.bug == "wakes block" {
		arrive() // for its caller to wait
	} else {
		time.AfterFunc(delay/4, arrive)
	}
	select {
	case <-applied:
	case <-ctx.Done():
		return l.ended(ctx)
	}
	timer := time.NewTimer(delay - delay/4)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return l.ended(ctx)
	}
	if lose {
		return fmt.Errorf("%w: connection reset", lock.ErrUnavailable)
	}
	return nil
}

func (l *refLocker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := l.tryAcquire(ctx, key, ttl)
	if err == nil {
		return lease, nil
	}
	if l.bug != "errors do not name the key" {
		err = fmt.Errorf("acquire %.520q: %w", key, err)
	}
	if l.bug == "typed nil lease on error" {
		return lease, err
	}
	return nil, err
}

func (l *refLocker) tryAcquire(ctx context.Context, key string, ttl time.Duration) (*refLease, error) {
	if err := lock.Check(key, ttl); err != nil && l.bug != "validates after I/O" {
		switch {
		case l.bug == "accepts any key" && lock.Check("k", ttl) == nil:
		case l.bug == "accepts any ttl" && lock.Check(key, time.Second) == nil:
		default:
			return nil, err
		}
	}
	if l.bug == "leaks a goroutine for each attempt" {
		go time.Sleep(time.Hour)
	}
	switch l.bug {
	case "an attempt ignores its ctx":
		ctx = context.WithoutCancel(ctx)
	case "grants under an ended ctx":
		if ctx.Err() != nil {
			ctx = context.WithoutCancel(ctx)
		}
	case "an outage is granted locally":
		if l.isCut() {
			return &refLease{l: l, key: key, value: "?", token: 1, start: time.Now(), expiry: time.Now().Add(ttl), turn: make(chan struct{}, 1)}, nil
		}
	case "a newcomer must observe first":
		if l.store.unseen(l.id, key) {
			return nil, &lock.HeldError{Key: key, Holder: "?"}
		}
	case "an outage looks held":
		if l.isCut() {
			return nil, &lock.HeldError{Key: key}
		}
	}
	if ctx.Err() != nil {
		return nil, l.ended(ctx)
	}
	start := time.Now()
	value := rand.Text()
	var h refHold
	var granted bool
	err := l.call(ctx, func() { h, granted = l.store.grant(key, l.id, value, ttl) })
	for err == nil && !granted && l.bug == "waits for the holder" && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
		err = l.call(ctx, func() { h, granted = l.store.grant(key, l.id, value, ttl) })
	}
	if err == nil && l.bug == "validates after I/O" {
		err = lock.Check(key, ttl)
	}
	if l.bug == "expiry counted from the reply" {
		start = time.Now()
	}
	expiry := start.Add(ttl)
	if err == nil && granted && !time.Now().Before(expiry) && l.bug != "grants with no time left" {
		err = fmt.Errorf("%w: granted too late", lock.ErrUnavailable)
	}
	if err != nil {
		l.cleanUp(ctx, key, value)
		return nil, err
	}
	if !granted && l.bug == "a slow observer takes over early" && l.store.silent(l.id, h, start) {
		err = l.call(ctx, func() {
			l.store.remove(key, l.id, h.value)
			h, granted = l.store.grant(key, l.id, value, ttl)
		})
		if err != nil {
			l.cleanUp(ctx, key, value)
			return nil, err
		}
	}
	if !granted && l.isStale() && l.bug == "old states are believed" {
		l.store.remove(key, l.id, "")
		_ = l.call(ctx, func() { h, granted = l.store.grant(key, l.id, value, ttl) })
	}
	if !granted {
		return nil, l.refusal(h, key)
	}
	if l.bug == "expiry is twice the ttl away" {
		expiry = start.Add(2 * ttl)
	}
	if l.bug == "Expiry has no monotonic reading" {
		expiry = expiry.Round(0)
	}
	lease := &refLease{l: l, key: key, value: value, token: h.token, start: start, expiry: expiry, turn: make(chan struct{}, 1)}
	if l.bug == "ctx ends the lease" {
		context.AfterFunc(ctx, func() { l.store.remove(key, l.id, value) })
	}
	return lease, nil
}

func (l *refLocker) ended(ctx context.Context) error {
	if l.bug == "the cause of ctx is dropped" {
		return ctx.Err()
	}
	return lock.ContextError(ctx)
}

func (l *refLocker) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.outage
}

// cleanUp goes to the store directly: the reference needs no second connection.
func (l *refLocker) cleanUp(ctx context.Context, key, value string) {
	l.store.mu.Lock()
	l.store.dead[value] = true
	l.store.mu.Unlock()
	switch l.bug {
	case "a lost reply is not cleaned up":
		if ctx.Err() != nil {
			l.store.remove(key, l.id, value)
		}
	case "failed attempts are not cleaned up":
		l.store.mu.Lock()
		delete(l.store.dead, value)
		l.store.mu.Unlock()
	case "cleanup frees another's hold":
		time.AfterFunc(1500*time.Millisecond, func() { l.store.remove(key, l.id, "") })
	case "cleanup counts afresh":
		l.store.mu.Lock()
		delete(l.store.counts, key)
		l.store.mu.Unlock()
		fallthrough
	default:
		l.store.remove(key, l.id, value)
	}
}

func (l *refLocker) refusal(h refHold, key string) error {
	if h.key == "" {
		return fmt.Errorf("%w: given up", lock.ErrUnavailable)
	}
	held := &lock.HeldError{Key: key, Holder: h.client, RetryAfter: time.Until(h.until)}
	switch l.bug {
	case "HeldError without a key":
		held.Key = ""
	case "RetryAfter is too short":
		held.RetryAfter /= 4
	case "RetryAfter is too long":
		held.RetryAfter *= 4
	case "contention is a plain error":
		return errPlain
	case "contention looks like an outage too":
		return fmt.Errorf("%w: %w", lock.ErrUnavailable, held)
	case "contention without a HeldError":
		return lock.ErrHeld
	}
	return held
}
