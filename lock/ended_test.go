package lock_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// ending is a store that ends a caller's ctx at one of the calls to it and its leases, before
// it has done what was asked or after that.
type ending struct {
	*memory.Locker
	end   func()
	after bool

	mu sync.Mutex // guards at
	at int        // which call from now on
}

func (e *ending) call(do func() error) error {
	e.mu.Lock()
	e.at--
	now := e.at == 0
	e.mu.Unlock()
	if now && !e.after {
		e.end()
	}
	err := do()
	if now && e.after {
		e.end()
	}
	return err
}

func (e *ending) passed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at <= 0
}

func (e *ending) granted(take func() (lock.Lease, error)) (got lock.Lease, err error) {
	err = e.call(func() (err error) { got, err = take(); return err })
	if err != nil {
		return nil, err
	}
	return endingLease{got, e}, nil
}

func (e *ending) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	return e.granted(func() (lock.Lease, error) { return e.Locker.TryAcquire(ctx, key, ttl) })
}

func (e *ending) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	return e.granted(func() (lock.Lease, error) { return e.Locker.Await(ctx, key, ttl, refused) })
}

type endingLease struct {
	lock.Lease
	e *ending
}

func (l endingLease) Extend(ctx context.Context, ttl time.Duration) error {
	return l.e.call(func() error { return l.Lease.Extend(ctx, ttl) })
}

func (l endingLease) RaiseToken(ctx context.Context, least uint64) error {
	return l.e.call(func() error { return lock.RaiseToken(ctx, l.Lease, least) })
}

type decoration func(lock.Locker) lock.Locker

// grantors are the decorators that make a lease of others, and what to hold in their store so
// that they wait: one name of each list.
var grantors = map[string]struct {
	decorate decoration
	waitFor  [][]string
}{
	"Semaphore": {func(l lock.Locker) lock.Locker { return lock.Semaphore(l, 3) }, [][]string{{"k", "k;slot=2", "k;slot=3"}}},
	"OneSlot":   {func(l lock.Locker) lock.Locker { return lock.Semaphore(l, 1) }, [][]string{{"k"}}},
	"Both": {
		func(l lock.Locker) lock.Locker { return lock.Both(lock.Prefix(l, "old:"), lock.Prefix(l, "new:")) },
		[][]string{{"old:k"}, {"new:k"}},
	},
	"Readers": {
		func(l lock.Locker) lock.Locker { return readersAndWriter(l).Readers() },
		[][]string{{"k"}, {"k;readers", "k;readers;slot=2"}},
	},
	"Writer": {
		func(l lock.Locker) lock.Locker { return readersAndWriter(l).Writer() },
		[][]string{{"k"}, {"k;readers"}, {"k;readers;slot=7"}},
	},
	"Observe": {func(l lock.Locker) lock.Locker { return lock.Observe(l, func(lock.Event) {}) }, [][]string{{"k"}}},
	"Prefix":  {func(l lock.Locker) lock.Locker { return lock.Prefix(l, "p:") }, [][]string{{"p:k"}}},
}

func readersAndWriter(l lock.Locker) *rwlock.Lock {
	rw, err := rwlock.New(l, 2)
	if err != nil {
		panic(err)
	}
	return rw
}

// endingCauses are what a ctx may end with: it may well match what a store answers.
func endingCauses() []error {
	causes := []error{errors.New("shutting down"), context.DeadlineExceeded}
	for _, kind := range []error{
		lock.ErrLost, &lock.HeldError{Key: "another"}, lock.ErrHeld,
		lock.ErrUnavailable, lock.ErrRefused, lock.ErrInvalid, lock.ErrClosed,
	} {
		causes = append(causes, fmt.Errorf("elsewhere: %w", kind))
	}
	return causes
}

// TestAWaitWhoseCtxEndsEndsWithItsCause is so wherever in it that happens.
func TestAWaitWhoseCtxEndsEndsWithItsCause(t *testing.T) {
	for name, g := range grantors {
		for _, names := range g.waitFor {
			bubble(name+"/"+names[0], t, func(t *testing.T) {
				for _, cause := range endingCauses() {
					base := memory.New()
					for _, name := range names {
						_, err := base.TryAcquire(t.Context(), name, time.Hour)
						require.NoError(t, err)
					}
					q := queue(t, g.decorate(base), "k")
					time.Sleep(time.Minute)
					require.False(t, q.over())
					require.NotEmpty(t, q.reported)
					q.cancel(cause)
					require.True(t, q.over())
					require.Nil(t, q.lease)
					require.ErrorIs(t, q.err, context.Canceled)
					require.ErrorIs(t, q.err, cause)
					var held []string
					for info, err := range base.List(t.Context(), "") {
						require.NoError(t, err)
						held = append(held, info.Key)
					}
					require.ElementsMatch(t, names, held)
				}
			})
		}
	}
}

// TestAnAttemptWhoseCtxEndsMidwayEndsWithItsCause is so at whichever call of the store that
// happens, and whatever the cause: that of a Keeper's context is the loss of another lease.
func TestAnAttemptWhoseCtxEndsMidwayEndsWithItsCause(t *testing.T) {
	const ttl = 10 * time.Second
	try := func(decorate decoration) func(context.Context, lock.Locker) (lock.Lease, error) {
		return func(ctx context.Context, l lock.Locker) (lock.Lease, error) {
			return decorate(l).TryAcquire(ctx, "k", ttl)
		}
	}
	await := func(decorate decoration) func(context.Context, lock.Locker) (lock.Lease, error) {
		return func(ctx context.Context, l lock.Locker) (lock.Lease, error) {
			a, ok := lock.As[lock.Awaiter](decorate(l))
			require.True(t, ok)
			return a.Await(ctx, "k", ttl, func(*lock.HeldError) {})
		}
	}
	attempts := map[string]func(context.Context, lock.Locker) (lock.Lease, error){
		"AcquireAll": func(ctx context.Context, l lock.Locker) (lock.Lease, error) {
			set, err := lock.AcquireAll(ctx, l, []string{"a", "b", "c"}, ttl, nil)
			if err != nil {
				return nil, err
			}
			return set, nil
		},
		"Acquire": func(ctx context.Context, l lock.Locker) (lock.Lease, error) {
			return lock.Acquire(ctx, l, "k", ttl, nil)
		},
	}
	for name, g := range grantors {
		attempts[name+"/TryAcquire"], attempts[name+"/Await"] = try(g.decorate), await(g.decorate)
	}
	for name, attempt := range attempts {
		t.Run(name, func(t *testing.T) {
			for _, cause := range endingCauses() {
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						for at := 1; ; at++ {
							ctx, cancel := context.WithCancelCause(t.Context())
							l := &ending{Locker: memory.New(), end: func() { cancel(cause) }, at: at, after: after}
							for range 3 { // the counts of the two stores of Both differ: tokens are raised
								lease, err := l.Locker.TryAcquire(t.Context(), "new:k", ttl)
								require.NoError(t, err)
								require.NoError(t, lease.Release(t.Context()))
							}
							what := fmt.Sprintf("%v, at call %d, after it: %v", cause, at, after)
							lease, err := attempt(ctx, l)
							reached := l.passed()
							if err == nil {
								require.NoError(t, lease.Release(t.Context()), what)
							} else {
								require.Nil(t, lease, what)
								require.ErrorIs(t, err, context.Canceled, what)
								require.ErrorIs(t, err, cause, what)
								if !errors.Is(cause, lock.ErrHeld) {
									require.NotErrorIs(t, err, lock.ErrHeld, what)
								}
							}
							synctest.Wait() // what was held is given back
							for info, err := range l.List(t.Context(), "") {
								require.NoError(t, err)
								require.Failf(t, "still held", "%s: %+v", what, info)
							}
							cancel(nil)
							if !reached {
								require.NoError(t, err)
								require.Greater(t, at, 1)
								return
							}
						}
					})
				}
			}
		})
	}
}
