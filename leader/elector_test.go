package leader_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestCampaign(t *testing.T) {
	neverFn := func(context.Context) error { panic("ran") }

	bubble(t, "BoundedAcquireLeavesInsteadOfStandingBy", func(t *testing.T) {
		store := memory.New()
		_, err := store.Client("a").TryAcquire(t.Context(), key, time.Hour)
		require.NoError(t, err)
		for _, acquire := range []*lock.AcquireOptions{{Attempts: 1}, {Timeout: time.Second}} {
			opts := options()
			opts.Acquire = acquire
			err := leader.Run(t.Context(), store.Client("b"), key, neverFn, opts)
			require.ErrorIs(t, err, leader.ErrNotElected)
			require.ErrorIs(t, err, lock.ErrHeld)
		}
	})

	bubble(t, "ClosedLockerIsNotElected", func(t *testing.T) {
		store := memory.New()
		require.NoError(t, store.Close())
		err := leader.Run(t.Context(), store, key, neverFn, options())
		require.ErrorIs(t, err, leader.ErrNotElected)
		require.ErrorIs(t, err, lock.ErrClosed)
	})

	bubble(t, "CtxThatEndsWhileStandingByIsReturnedAlone", func(t *testing.T) {
		errStop := errors.New("stop")
		store := memory.New()
		_, err := store.Client("a").TryAcquire(t.Context(), key, time.Hour)
		require.NoError(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		r := run(ctx, store.Client("b"), options(), neverFn)
		time.Sleep(time.Minute)
		cancel(errStop)
		require.Equal(t, errStop, r.wait())

		expired, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		r = run(expired, store.Client("b"), options(), neverFn)
		require.Equal(t, context.DeadlineExceeded, r.wait())
	})

	bubble(t, "GoesOnOverAnOutage", func(t *testing.T) {
		store := memory.New()
		store.FailNext(-1, nil)
		r := run(t.Context(), store, options(), func(context.Context) error { return errWork })
		time.Sleep(time.Hour)
		require.ErrorIs(t, r.Status().LastAttempt, lock.ErrUnavailable)
		store.FailNext(0, nil)
		require.Equal(t, errWork, r.wait())
	})

	bubble(t, "AnAnswerWithLittleTimeToLeadIsRenewedAtOnce", func(t *testing.T) {
		store := memory.New()
		store.Delay(7 * time.Second)
		opts := options()
		opts.Keepalive = &keepalive.Options{Margin: 4 * time.Second}
		r := run(t.Context(), store, opts, func(ctx context.Context) error {
			time.Sleep(time.Hour)
			return ctx.Err()
		})
		store.Delay(0) // for the calls after the first
		require.NoError(t, r.wait())
		require.Equal(t, 1, r.Status().Terms)
	})

	// late has nothing left of the first lease when it gives it.
	late := func(store lock.Locker) lock.Locker {
		first := true
		return lock.Observe(store, func(e lock.Event) {
			if first && e.Kind == lock.EventAttempt {
				first = false
				time.Sleep(ttl)
			}
		})
	}

	bubble(t, "AnAnswerWithNoTimeToLeadIsNoElection", func(t *testing.T) {
		r := run(t.Context(), late(memory.New()), options(), func(context.Context) error { return errWork })
		require.Equal(t, errWork, r.wait())
		require.Equal(t, 1, r.Status().Terms)
	})

	bubble(t, "BoundedAcquireLeavesAfterAnAnswerWithNoTimeToLead", func(t *testing.T) {
		opts := options()
		opts.Acquire = &lock.AcquireOptions{Attempts: 1}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := leader.Run(ctx, late(memory.New()), key, neverFn, opts)
		require.ErrorIs(t, err, leader.ErrNotElected)
		require.NoError(t, ctx.Err())
	})

	t.Run("RefusesBadInputBeforeAnyIO", func(t *testing.T) {
		l := lockerFunc(func() (lock.Lease, error) { t.Error("asked the store"); return nil, lock.ErrClosed })
		for name, opts := range map[string]*leader.Options{
			"ttl":       {TTL: -time.Second},
			"acquire":   {Acquire: &lock.AcquireOptions{Attempts: -1}},
			"keepalive": {TTL: ttl, Keepalive: &keepalive.Options{Interval: ttl}},
			"twice":     {Keepalive: &keepalive.Options{Acquire: &lock.AcquireOptions{}}},
		} {
			err := leader.Run(t.Context(), l, key, neverFn, opts)
			require.ErrorIs(t, err, lock.ErrInvalid, name)
			require.NotErrorIs(t, err, leader.ErrNotElected, name)
		}
		require.ErrorIs(t, leader.Run(t.Context(), nil, key, neverFn, nil), lock.ErrInvalid)
		require.ErrorIs(t, leader.Run(t.Context(), l, "", neverFn, nil), lock.ErrInvalid)
		err := leader.Run(t.Context(), l, strings.Repeat("k", 1<<20), neverFn, nil)
		require.ErrorIs(t, err, lock.ErrInvalid)
		require.Less(t, len(err.Error()), 200)
		require.ErrorIs(t, leader.Run(t.Context(), l, key, nil, nil), lock.ErrInvalid)
	})
}

func TestElector(t *testing.T) {
	bubble(t, "SecondRunAtTheSameTimeFails", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := run(ctx, memory.New(), options(), untilDone)
		require.ErrorIs(t, r.Run(ctx, untilDone), leader.ErrRunning)
		require.True(t, r.IsLeader())
		cancel()
		require.NoError(t, r.wait())
		require.NoError(t, r.Run(t.Context(), func(context.Context) error { return nil }))
	})

	bubble(t, "IsLeaderIsFalseOnceTheDeadlinePassedThoughNoGoroutineRan", func(t *testing.T) {
		var over atomic.Bool
		store := memory.New()
		r := run(t.Context(), aging{store, &over}, &leader.Options{TTL: ttl, Once: true}, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		})
		require.True(t, r.IsLeader())
		require.Equal(t, leader.Leading, r.Status().State)
		over.Store(true) // time passed, and no timer knows
		require.NotEqual(t, leader.Leading, r.Status().State)
		require.False(t, r.IsLeader())
		require.ErrorIs(t, r.wait(), lock.ErrLost)
	})

	bubble(t, "IsLeaderIsFalseBeforeTheKeyIsFreed", func(t *testing.T) {
		l := &counting{Locker: memory.New()}
		e := leader.New(l, key, options())
		l.onRelease = func() {
			require.False(t, e.IsLeader())
			require.Equal(t, leader.Draining, e.Status().State)
		}
		require.NoError(t, e.Run(t.Context(), func(context.Context) error {
			require.True(t, e.IsLeader())
			return nil
		}))
		require.EqualValues(t, 1, l.releases.Load())
	})

	bubble(t, "LeaderTellsWhoLeads", func(t *testing.T) {
		store := memory.New()
		ctx, cancel := context.WithCancel(t.Context())
		first := run(ctx, store.Client("a"), options(), untilDone)
		second := leader.New(store.Client("b"), key, options())
		info, err := second.Leader(ctx)
		require.NoError(t, err)
		require.Equal(t, "a", info.Holder)
		require.EqualValues(t, 1, info.Token)
		cancel()
		require.NoError(t, first.wait())
		info, err = second.Leader(t.Context())
		require.NoError(t, err)
		require.Empty(t, info.Holder)

		_, err = leader.New(lockerFunc(nil), key, nil).Leader(t.Context())
		require.ErrorIs(t, err, errors.ErrUnsupported)
	})
}

func TestOnChange(t *testing.T) {
	bubble(t, "TellsTheStatesInOrder", func(t *testing.T) {
		store := memory.New()
		var mu sync.Mutex
		var states []leader.State
		opts := options()
		var e atomic.Pointer[leader.Elector]
		opts.OnChange = func(s leader.Status) {
			if e := e.Load(); e != nil {
				_ = e.Status() // it holds no lock
				_ = e.IsLeader()
			}
			mu.Lock()
			defer mu.Unlock()
			states = append(states, s.State)
		}
		ctx, cancel := context.WithCancel(t.Context())
		r := run(ctx, store, opts, func(ctx context.Context) error { <-ctx.Done(); time.Sleep(time.Second / 2); return nil })
		e.Store(r.Elector)
		require.NoError(t, store.ForceRelease(ctx, key, 0))
		time.Sleep(time.Minute)
		cancel()
		require.NoError(t, r.wait())
		require.Equal(t, []leader.State{
			leader.Leading, leader.Lost, leader.StandingBy, leader.Leading, leader.Draining, leader.Stopped,
		}, states[len(states)-6:])
	})

	bubble(t, "ThatHangsIsNotInTheWayOfRenewalOrRelease", func(t *testing.T) {
		store := memory.New()
		stuck := make(chan struct{})
		opts := options()
		opts.OnChange = func(leader.Status) { <-stuck }
		ctx, cancel := context.WithCancel(t.Context())
		r := run(ctx, store, opts, untilDone)
		time.Sleep(time.Hour)
		require.True(t, r.IsLeader())
		cancel()
		synctest.Wait()
		require.Empty(t, held(t, store))
		start := time.Now()
		require.NoError(t, r.wait())
		require.Equal(t, 5*time.Second, time.Since(start)) // its wait ends
		close(stuck)
	})

	bubble(t, "ThatIsSlowSeesTheLatest", func(t *testing.T) {
		store := memory.New()
		var states []leader.State
		opts := options()
		opts.OnChange = func(s leader.Status) {
			time.Sleep(2 * time.Second)
			states = append(states, s.State)
		}
		require.NoError(t, leader.Run(t.Context(), store, key, func(context.Context) error { return nil }, opts))
		require.Equal(t, leader.Stopped, states[len(states)-1])
		require.Less(t, len(states), 4)
	})
}

// counting counts what reaches the store's Release.
type counting struct {
	lock.Locker
	releases  atomic.Int32
	onRelease func()
}

func (c *counting) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := c.Locker.TryAcquire(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	return &countedLease{lease, c}, nil
}

type countedLease struct {
	lock.Lease
	c *counting
}

func (l *countedLease) Release(ctx context.Context) error {
	l.c.releases.Add(1)
	if l.c.onRelease != nil {
		l.c.onRelease()
	}
	return l.Lease.Release(ctx)
}

// aging grants leases whose time can be over all of a sudden.
type aging struct {
	lock.Locker
	over *atomic.Bool
}

func (a aging) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := a.Locker.TryAcquire(ctx, key, ttl)
	return agingLease{lease, a.over}, err
}

type agingLease struct {
	lock.Lease
	over *atomic.Bool
}

func (l agingLease) Expiry() time.Time {
	if l.over.Load() {
		return time.Now().Add(-time.Second)
	}
	return l.Lease.Expiry()
}

type lockerFunc func() (lock.Lease, error)

func (f lockerFunc) TryAcquire(context.Context, string, time.Duration) (lock.Lease, error) {
	return f()
}
