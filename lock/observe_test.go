package lock_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// events takes what an observer receives.
type events struct {
	mu  sync.Mutex // guards all
	all []lock.Event
}

func (e *events) receive(event lock.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// take returns what was reported since it was called last.
func (e *events) take() []lock.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.all
	e.all = nil
	return all
}

// kinds returns that of each event reported since the last look.
func (e *events) kinds() []lock.EventKind {
	kinds := []lock.EventKind{}
	for _, event := range e.take() {
		kinds = append(kinds, event.Kind)
	}
	return kinds
}

// slowStore takes its time, so that durations show.
func slowStore() *fakeLocker {
	f := &fakeLocker{try: func(context.Context, int) error { time.Sleep(time.Second); return nil }}
	f.extend = func(_ context.Context, ttl time.Duration) (time.Time, error) {
		start := time.Now()
		time.Sleep(2 * time.Second)
		return start.Add(ttl), nil
	}
	f.release = func(context.Context) error { time.Sleep(3 * time.Second); return nil }
	return f
}

func TestObserveTellsALeasesLife(t *testing.T) {
	type key struct{}
	with := func(t *testing.T) context.Context { return context.WithValue(t.Context(), key{}, "span") }
	plain := func(all []lock.Event) []lock.Event {
		for i := range all {
			require.Equal(t, "span", all[i].Context.Value(key{}))
			all[i].Context = nil
		}
		return all
	}
	s := time.Second
	bubble("FromGrantToRelease", t, func(t *testing.T) {
		ctx := with(t)
		var e events
		l := lock.Observe(slowStore(), e.receive)
		lease, err := l.TryAcquire(ctx, "k", ttl)
		require.NoError(t, err)
		require.Equal(t, "k", lease.Key())
		require.EqualValues(t, 3, lease.Token())
		require.Equal(t, time.Now().Add(ttl), lease.Expiry())
		time.Sleep(4 * s)
		require.NoError(t, lease.Extend(ctx, ttl))
		require.Equal(t, time.Now().Add(ttl-2*s), lease.Expiry())
		require.NoError(t, lease.Release(ctx))
		require.Zero(t, lease.Expiry())
		require.Equal(t, []lock.Event{
			{Kind: lock.EventAttempt, Key: "k", Token: 3, Duration: s},
			{Kind: lock.EventExtend, Key: "k", Token: 3, Duration: 2 * s},
			{Kind: lock.EventRelease, Key: "k", Token: 3, Duration: 3 * s, Held: 6 * s},
		}, plain(e.take()))
		require.NoError(t, lease.Release(ctx))
		requireLoss(t, lease.Extend(ctx, ttl))
		require.Empty(t, e.take(), "a release is reported once, and an extend after it is not")
	})
	bubble("WithWhatFailedInIt", t, func(t *testing.T) {
		ctx := with(t)
		var e events
		f := &fakeLocker{}
		f.try = func(_ context.Context, n int) error {
			return []error{held, lock.ErrUnavailable, nil}[n-1]
		}
		l := lock.Observe(f, e.receive)
		for range 2 {
			lease, err := l.TryAcquire(ctx, "k", ttl)
			require.Nil(t, lease)
			require.Equal(t, []lock.Event{{Kind: lock.EventAttempt, Key: "k", Err: err}}, plain(e.take()))
		}
		lease, err := l.TryAcquire(ctx, "k", ttl)
		require.NoError(t, err)
		e.take()
		f.extend = func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, errStore }
		err = lease.Extend(ctx, ttl)
		require.ErrorIs(t, err, errStore)
		require.Equal(t, []lock.Event{{Kind: lock.EventExtend, Key: "k", Token: 3, Err: err}}, plain(e.take()))
		time.Sleep(s)
		f.release = func(context.Context) error { return errStore }
		err = lease.Release(ctx)
		require.Equal(t, []lock.Event{{Kind: lock.EventRelease, Key: "k", Token: 3, Err: err}}, plain(e.take()))
		time.Sleep(s)
		f.release = nil
		require.NoError(t, lease.Release(ctx))
		require.Equal(t, []lock.Event{{Kind: lock.EventRelease, Key: "k", Token: 3, Held: s}}, plain(e.take()),
			"the hold ended with the first release")
	})
}

func TestObserveTellsALossOnce(t *testing.T) {
	taken := func(f *fakeLocker) {
		f.extend = func(context.Context, time.Duration) (time.Time, error) { return time.Time{}, lock.ErrLost }
		f.release = func(context.Context) error { return lock.ErrLost }
	}
	for name, c := range map[string]struct {
		break_  func(f *fakeLocker)
		after   time.Duration
		held    time.Duration
		expired bool
	}{
		"TakenAway":           {taken, time.Second, time.Second, false},
		"Expired":             {nil, 2 * ttl, ttl, true},
		"ExpiredAndTakenAway": {taken, 2 * ttl, ttl, true},
	} {
		bubble(name, t, func(t *testing.T) {
			var e events
			f := &fakeLocker{}
			acquire := func() lock.Lease {
				lease, err := lock.Observe(f, e.receive).TryAcquire(t.Context(), "k", ttl)
				require.NoError(t, err)
				if c.break_ != nil {
					c.break_(f)
				}
				time.Sleep(c.after)
				e.take()
				return lease
			}
			lost := func(err error) lock.Event {
				return lock.Event{
					Kind: lock.EventLost, Context: t.Context(), Key: "k", Token: 3,
					Held: c.held, Expired: c.expired, Err: err,
				}
			}
			found := func(kind lock.EventKind, err error) lock.Event {
				return lock.Event{Kind: kind, Context: t.Context(), Key: "k", Token: 3, Err: err}
			}
			lease := acquire() // an Extend finds it
			err := lease.Extend(t.Context(), ttl)
			requireLoss(t, err)
			require.Equal(t, []lock.Event{lost(err), found(lock.EventExtend, err)}, e.take())
			again := lease.Extend(t.Context(), ttl)
			require.Equal(t, []lock.Event{found(lock.EventExtend, again)}, e.take())
			err = lease.Release(t.Context())
			requireLoss(t, err)
			require.Equal(t, []lock.Event{found(lock.EventRelease, err)}, e.take())
			requireLoss(t, lease.Release(t.Context()))
			require.Empty(t, e.take())

			lease = acquire() // a Release finds it
			err = lease.Release(t.Context())
			requireLoss(t, err)
			require.Equal(t, []lock.Event{lost(err), found(lock.EventRelease, err)}, e.take())
		})
	}
	bubble("TheHoldGoesByTheLastExpiry", t, func(t *testing.T) {
		var e events
		lease, err := lock.Observe(&fakeLocker{}, e.receive).TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		time.Sleep(ttl / 2)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		time.Sleep(2 * ttl)
		e.take()
		requireLoss(t, lease.Release(t.Context()))
		require.Equal(t, ttl+ttl/2, e.take()[0].Held)
	})
	bubble("TheHoldEndedWithTheFirstRelease", t, func(t *testing.T) {
		var e events
		f := &fakeLocker{}
		f.release = func(context.Context) error { return errStore }
		lease, err := lock.Observe(f, e.receive).TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.ErrorIs(t, lease.Release(t.Context()), errStore)
		time.Sleep(time.Second)
		f.release = func(context.Context) error { return lock.ErrLost }
		e.take()
		requireLoss(t, lease.Release(t.Context()))
		require.Equal(t, time.Second, e.take()[0].Held)
	})
	bubble("AnExtendThatAReleaseCutShortIsNone", t, func(t *testing.T) {
		for _, learns := range []error{nil, lock.ErrLost} {
			var e events
			f := &fakeLocker{}
			f.extend = func(ctx context.Context, _ time.Duration) (time.Time, error) {
				<-ctx.Done()
				return time.Time{}, errors.Join(ctx.Err(), learns)
			}
			lease, err := lock.Observe(f, e.receive).TryAcquire(t.Context(), "k", ttl)
			require.NoError(t, err)
			e.take()
			done := make(chan error)
			go func() { done <- lease.Extend(t.Context(), ttl) }()
			synctest.Wait()
			err = lease.Release(t.Context())
			requireLoss(t, <-done)
			if learns == nil {
				require.NoError(t, err)
				require.Equal(t, []lock.EventKind{lock.EventRelease}, e.kinds())
			} else {
				requireLoss(t, err)
				require.Equal(t, []lock.EventKind{lock.EventLost, lock.EventRelease}, e.kinds())
			}
		}
	})
}

func TestObserveTellsNothingOfBadInput(t *testing.T) {
	var e events
	l := lock.Observe(&checkedLocker{}, e.receive)
	_, err := l.TryAcquire(t.Context(), "", ttl)
	require.ErrorIs(t, err, lock.ErrInvalid)
	_, err = lock.Acquire(t.Context(), l, "k", 0, nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	long := strings.Repeat("k", lock.MaxKeyLen)
	_, err = lock.Acquire(t.Context(), lock.Observe(lock.Prefix(l, "tenant:"), e.receive), long, ttl, nil)
	require.ErrorIs(t, err, lock.ErrInvalid, "only the prefix sees it")
	require.Empty(t, e.take())
	lease, err := l.TryAcquire(t.Context(), "k", ttl)
	require.NoError(t, err)
	e.take()
	require.ErrorIs(t, lease.Extend(t.Context(), 0), lock.ErrInvalid)
	require.Empty(t, e.take())
}

// checkedLocker is a fakeLocker that refuses bad input.
type checkedLocker struct{ fakeLocker }

func (c *checkedLocker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if err := lock.Check(key, ttl); err != nil {
		return nil, err
	}
	return c.fakeLocker.TryAcquire(ctx, key, ttl)
}

func TestAnObserverThatPanicsChangesNothing(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		var outer, inner events
		f := &fakeLocker{try: func(_ context.Context, n int) error { return []error{held, nil, nil}[n-1] }}
		l := lock.Observe(lock.Observe(lock.Observe(f, inner.receive), func(lock.Event) { panic("observer") }), outer.receive)
		lease, err := lock.Acquire(t.Context(), l, "k", ttl, nil)
		require.NoError(t, err)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.NoError(t, lease.Release(t.Context()))
		lease, err = l.TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		time.Sleep(ttl)
		requireLoss(t, lease.Extend(t.Context(), ttl))
		requireLoss(t, lease.Release(t.Context()))
		kinds := []lock.EventKind{
			lock.EventAttempt, lock.EventAttempt, lock.EventWait, lock.EventExtend, lock.EventRelease,
			lock.EventAttempt, lock.EventLost, lock.EventExtend, lock.EventRelease,
		}
		require.Equal(t, kinds, outer.kinds())
		require.Equal(t, kinds, inner.kinds())
	})
}

func TestAnObserverMayUseTheLocker(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		var l lock.Locker
		var lease lock.Lease
		depth := 0
		l = lock.Observe(&fakeLocker{}, func(e lock.Event) {
			if depth++; depth > 1 {
				return
			}
			defer func() { depth = 0 }()
			own, err := l.TryAcquire(e.Context, "other", ttl)
			require.NoError(t, err)
			require.NoError(t, own.Release(e.Context))
			if lease != nil && e.Kind != lock.EventRelease {
				require.NoError(t, lease.Extend(e.Context, ttl))
			}
		})
		var err error
		lease, err = l.TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		require.NoError(t, lease.Extend(t.Context(), ttl))
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestObserveTellsAWaitWhole(t *testing.T) {
	run := func(ctx context.Context, t *testing.T, f lock.Locker, opts *lock.AcquireOptions) (lock.Event, error) {
		var outer, inner events
		_, err := lock.Acquire(ctx, lock.Observe(lock.Observe(f, inner.receive), outer.receive), "k", ttl, opts)
		all := outer.take()
		require.Equal(t, all, inner.take())
		for _, e := range all[:len(all)-1] {
			require.Equal(t, lock.EventAttempt, e.Kind)
		}
		e := all[len(all)-1]
		require.Equal(t, len(all)-1, e.Attempts)
		require.Equal(t, ctx, e.Context)
		e.Context = nil
		return e, err
	}
	ms := time.Millisecond
	bubble("ThatSucceeded", t, func(t *testing.T) {
		e, err := run(t.Context(), t, &fakeLocker{try: until(4, held)}, &lock.AcquireOptions{Jitter: -1})
		require.NoError(t, err)
		require.Equal(t, lock.Event{Kind: lock.EventWait, Key: "k", Token: 3, Duration: 150 * ms, Attempts: 4}, e)
	})
	bubble("ThatGaveUp", t, func(t *testing.T) {
		e, err := run(t.Context(), t, &fakeLocker{try: always(held)}, &lock.AcquireOptions{Attempts: 3, Jitter: -1})
		require.ErrorIs(t, err, lock.ErrHeld)
		require.Equal(t, lock.Event{Kind: lock.EventWait, Key: "k", Duration: 100 * ms, Attempts: 3, Err: err}, e)
	})
	bubble("ThatWasCancelled", t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 120*ms)
		defer cancel()
		e, err := run(ctx, t, &fakeLocker{try: always(lock.ErrUnavailable)}, &lock.AcquireOptions{Delay: 50 * ms, Jitter: -1})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, lock.Event{Kind: lock.EventWait, Key: "k", Duration: 120 * ms, Attempts: 2, Err: err}, e)
	})
	bubble("WhoseLateLeaseWasReleased", t, func(t *testing.T) {
		var e events
		ctx, cancel := context.WithCancel(t.Context())
		f := &fakeLocker{try: func(context.Context, int) error { cancel(); return nil }}
		_, err := lock.Acquire(ctx, lock.Observe(f, e.receive), "k", ttl, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, []lock.EventKind{lock.EventAttempt, lock.EventRelease, lock.EventWait}, e.kinds())
	})
}

func TestObserveTakesTheNameFromARefusal(t *testing.T) {
	var e events
	f := &fakeLocker{try: always(&lock.HeldError{Key: "tenant:k"})}
	_, err := lock.Acquire(t.Context(), lock.Observe(f, e.receive), "k", ttl, &lock.AcquireOptions{Attempts: 1})
	require.ErrorIs(t, err, lock.ErrHeld)
	for _, event := range e.take() {
		require.Equal(t, "tenant:k", event.Key, event.Kind)
	}
}

func TestObserveWithoutAFunctionIsTheLockerItself(t *testing.T) {
	f := &fakeLocker{}
	require.Same(t, f, lock.Observe(f, nil))
}

func TestAsFindsWhatIsBelowAnObserver(t *testing.T) {
	w := &watchedLocker{}
	got, ok := lock.As[lock.Watcher](lock.Observe(lock.Observe(w, func(lock.Event) {}), func(lock.Event) {}))
	require.True(t, ok)
	require.Same(t, w, got)
}

func TestOneLeasesEventsFromManyGoroutines(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		for range 100 {
			var e events
			lease, err := lock.Observe(&fakeLocker{}, e.receive).TryAcquire(t.Context(), "k", ttl)
			require.NoError(t, err)
			time.Sleep(ttl)
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					if i%2 == 0 {
						_ = lease.Extend(t.Context(), ttl)
					} else {
						_ = lease.Release(t.Context())
					}
				})
			}
			wg.Wait()
			count := map[lock.EventKind]int{}
			for _, event := range e.take() {
				count[event.Kind]++
			}
			require.Equal(t, 1, count[lock.EventLost])
			require.Equal(t, 1, count[lock.EventRelease])
		}
	})
}
