package lock_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// oneProcess is a locker for these examples: a whole backend for one process.
type oneProcess struct {
	mu    sync.Mutex
	terms map[string]hold
}

type hold struct {
	token uint64
	until time.Time
}

func (p *oneProcess) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if err := lock.Check(key, ttl); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now, last := time.Now(), p.terms[key]
	if now.Before(last.until) {
		return nil, &lock.HeldError{Key: key, Holder: "this process", RetryAfter: last.until.Sub(now)}
	}
	if p.terms == nil {
		p.terms = make(map[string]hold)
	}
	term := hold{token: last.token + 1, until: now.Add(ttl)}
	p.terms[key] = term
	return lock.NewLease(lock.Grant{
		Key: key, Token: term.token, Expiry: term.until,
		Extend: func(_ context.Context, ttl time.Duration) (time.Time, error) {
			until := time.Now().Add(ttl)
			return until, p.set(key, term.token, until)
		},
		Release: func(context.Context) error { return p.set(key, term.token, time.Time{}) },
	}), nil
}

// set changes how long the term with this token lasts.
func (p *oneProcess) set(key string, token uint64, until time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terms[key].token != token {
		return lock.ErrLost
	}
	p.terms[key] = hold{token, until}
	return nil
}

func ExampleLocker() {
	ctx := context.Background()
	var locker lock.Locker = &oneProcess{}

	lease, err := locker.TryAcquire(ctx, "prices", time.Minute)
	fmt.Println("first:", lease.Token(), err)

	_, err = locker.TryAcquire(ctx, "prices", time.Minute)
	fmt.Println("second is refused:", errors.Is(err, lock.ErrHeld))

	fmt.Println("released:", lease.Release(ctx))
	lease, err = locker.TryAcquire(ctx, "prices", time.Minute)
	fmt.Println("next:", lease.Token(), err)
	// Output:
	// first: 1 <nil>
	// second is refused: true
	// released: <nil>
	// next: 2 <nil>
}

func ExampleAcquire() {
	ctx := context.Background()
	locker := &oneProcess{}
	other, _ := locker.TryAcquire(ctx, "prices", time.Minute)

	// Leave if another holds it.
	_, err := lock.Acquire(ctx, locker, "prices", time.Minute, &lock.AcquireOptions{Attempts: 1})
	if held, ok := errors.AsType[*lock.HeldError](err); ok {
		fmt.Println("held by", held.Holder)
	}

	// Or wait for it, as long as ctx lasts.
	time.AfterFunc(10*time.Millisecond, func() { _ = other.Release(ctx) })
	lease, err := lock.Acquire(ctx, locker, "prices", time.Minute, nil)
	fmt.Println("acquired:", lease.Token(), err)
	// Output:
	// held by this process
	// acquired: 2 <nil>
}

// prices is a store that refuses stale tokens.
type prices struct {
	mu     sync.Mutex
	token  uint64 // the largest seen
	holder string // who wrote with it
	value  int
}

var errStale = errors.New("stale token")

// Set writes value on behalf of the lease that ctx stands for. The check and the
// write are one step.
func (p *prices) Set(ctx context.Context, holder string, value int) error {
	token := lock.Token(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case token == 0:
		return errors.New("no token: not under a lock")
	case token < p.token, token == p.token && holder != p.holder:
		return fmt.Errorf("%w: %d from %s, have %d from %s", errStale, token, holder, p.token, p.holder)
	}
	p.token, p.holder, p.value = token, holder, value
	return nil
}

// A holder whose lease ended while it was paused does not know it. The store does.
func ExampleToken() {
	ctx := context.Background()
	locker, store := &oneProcess{}, &prices{}

	old, _ := locker.TryAcquire(ctx, "prices", time.Second)
	oldCtx := lock.WithToken(ctx, old.Token()) // keepalive and leader do this for you
	fmt.Println("a writes:", store.Set(oldCtx, "a", 100))
	fmt.Println("a writes again:", store.Set(oldCtx, "a", 101))

	// a is paused past its lease, and b goes on.
	next, _ := lock.Acquire(ctx, locker, "prices", time.Minute, nil)
	nextCtx := lock.WithToken(ctx, next.Token())
	fmt.Println("b writes:", store.Set(nextCtx, "b", 102))

	// a wakes in the middle of its work.
	fmt.Println("a writes late:", store.Set(oldCtx, "a", 99))
	fmt.Println("no lock:", store.Set(ctx, "c", 98))
	fmt.Println("value:", store.value)
	// Output:
	// a writes: <nil>
	// a writes again: <nil>
	// b writes: <nil>
	// a writes late: stale token: 1 from a, have 2 from b
	// no lock: no token: not under a lock
	// value: 102
}

// A backend's optional abilities are found with As, through decorators too.
func ExampleAs() {
	if _, ok := lock.As[lock.Inspector](&oneProcess{}); !ok {
		fmt.Println("can't tell who holds what")
	}
	// Output: can't tell who holds what
}

// Two tenants share a store, and neither sees the other's keys.
func ExamplePrefix() {
	ctx := context.Background()
	locker := &oneProcess{}
	acme, blue := lock.Prefix(locker, "acme:"), lock.Prefix(locker, "blue:")

	lease, _ := acme.TryAcquire(ctx, "prices", time.Minute)
	fmt.Println("acme has", lease.Key())

	lease, _ = blue.TryAcquire(ctx, "prices", time.Minute)
	fmt.Println("blue has", lease.Key())

	_, err := locker.TryAcquire(ctx, "acme:prices", time.Minute)
	fmt.Println("the store's own name is held:", errors.Is(err, lock.ErrHeld))
	// Output:
	// acme has acme:prices
	// blue has blue:prices
	// the store's own name is held: true
}
