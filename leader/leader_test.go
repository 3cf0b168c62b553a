package leader_test

import (
	"context"
	"errors"
	"runtime"
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

const (
	key = "pricing-oracle-keeper"
	ttl = 10 * time.Second
)

var errWork = errors.New("work failed")

// bubble runs a test on fake time. It fails if a goroutine is left.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func options() *leader.Options { return &leader.Options{TTL: ttl} }

// held tells who has the key.
func held(t *testing.T, l *memory.Locker) string {
	t.Helper()
	info, err := l.Inspect(context.Background(), key)
	require.NoError(t, err)
	return info.Holder
}

func untilDone(ctx context.Context) error { <-ctx.Done(); return nil }

// running is a Run on its own goroutine.
type running struct {
	*leader.Elector
	err  error
	done chan struct{}
}

func run(ctx context.Context, l lock.Locker, opts *leader.Options, fn func(context.Context) error) *running {
	r := &running{Elector: leader.New(l, key, opts), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = r.Run(ctx, fn)
	}()
	synctest.Wait()
	return r
}

func (r *running) wait() error { <-r.done; return r.err }

func TestOneLeads(t *testing.T) {
	bubble(t, "AndTheNextStartsOnlyAfterFnHasReturned", func(t *testing.T) {
		store := memory.New()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var under, terms atomic.Int32
		var last atomic.Uint64
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d"} {
			wg.Go(func() {
				for ctx.Err() == nil {
					_ = leader.Run(ctx, store.Client(name), key, func(ctx context.Context) error {
						if under.Add(1) != 1 {
							t.Error("two lead at the same time")
						}
						defer under.Add(-1)
						if token := lock.Token(ctx); token <= last.Swap(token) {
							t.Error("the token did not rise")
						}
						if terms.Add(1)%5 == 0 {
							_ = store.ForceRelease(ctx, key, 0)
							// Nobody knows of that, the token aside: stop at once.
							return nil
						}
						select {
						case <-ctx.Done():
							time.Sleep(ttl / 2) // drain
						case <-time.After(time.Minute):
						}
						return nil
					}, options())
				}
			})
		}
		wg.Wait()
		require.Greater(t, int(terms.Load()), 40)
	})

	bubble(t, "FnsContextEndsBeforeAnyoneElseLeads", func(t *testing.T) {
		store := memory.New()
		a := store.Client("a")
		var ended, led time.Time
		first := run(t.Context(), a, &leader.Options{TTL: ttl, Once: true}, func(ctx context.Context) error {
			<-ctx.Done()
			ended = time.Now()
			return nil
		})
		second := run(t.Context(), store.Client("b"), options(), func(context.Context) error {
			led = time.Now()
			return nil
		})
		a.Delay(time.Hour) // its connection hangs from here on
		require.ErrorIs(t, first.wait(), lock.ErrLost)
		require.NoError(t, second.wait())
		require.GreaterOrEqual(t, led.Sub(ended), ttl/10)
	})

	bubble(t, "StandingByIsTheDefault", func(t *testing.T) {
		store := memory.New()
		ctx, cancel := context.WithCancel(t.Context())
		first := run(ctx, store.Client("a"), options(), untilDone)
		second := run(t.Context(), store.Client("b"), options(), func(context.Context) error { return nil })
		time.Sleep(time.Hour)
		require.True(t, first.IsLeader())
		require.False(t, second.IsLeader())
		require.Equal(t, leader.StandingBy, second.Status().State)
		var other *lock.HeldError
		require.ErrorAs(t, second.Status().LastAttempt, &other)
		require.Equal(t, "a", other.Holder)

		cancel()
		start := time.Now()
		require.NoError(t, first.wait())
		require.NoError(t, second.wait())
		require.Less(t, time.Since(start), 100*time.Millisecond) // polling
	})
}

func TestTermEnds(t *testing.T) {
	bubble(t, "ResignReturnsFnsResult", func(t *testing.T) {
		for _, want := range []error{nil, errWork} {
			store := memory.New()
			err := leader.Run(t.Context(), store, key, func(ctx context.Context) error {
				time.Sleep(time.Minute)
				require.NoError(t, ctx.Err())
				require.NotEmpty(t, held(t, store))
				return want
			}, options())
			require.Equal(t, want, err)
			require.Empty(t, held(t, store))
		}
	})

	bubble(t, "PanicReleasesOnceAfterFnThenGoesOn", func(t *testing.T) {
		store := memory.New()
		l := &counting{Locker: store}
		e := leader.New(l, key, options())
		require.PanicsWithValue(t, "boom", func() {
			_ = e.Run(t.Context(), func(context.Context) error {
				defer func() { require.NotEmpty(t, held(t, store)) }()
				panic("boom")
			})
		})
		require.Empty(t, held(t, store))
		require.EqualValues(t, 1, l.releases.Load())
		require.False(t, e.IsLeader())
		require.Equal(t, leader.Stopped, e.Status().State)
		require.Error(t, e.Status().LastResult)
		require.NoError(t, e.Run(t.Context(), func(context.Context) error { return nil }))
	})

	bubble(t, "GoexitReleases", func(t *testing.T) {
		store := memory.New()
		r := run(t.Context(), store, options(), func(context.Context) error { runtime.Goexit(); return nil })
		<-r.done
		require.Empty(t, held(t, store))
		require.Equal(t, leader.Stopped, r.Status().State)
	})

	bubble(t, "FnDrainsUnderRenewalThenItsResultIsReturned", func(t *testing.T) {
		for _, want := range []error{nil, errWork} {
			store := memory.New()
			opts := options()
			opts.Keepalive = &keepalive.Options{DrainTimeout: time.Hour}
			ctx, cancel := context.WithCancel(t.Context())
			r := run(ctx, store.Client("a"), opts, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(30 * time.Minute)
				return want
			})
			cancel()
			time.Sleep(29 * time.Minute)
			require.Equal(t, "a", held(t, store))
			require.False(t, r.IsLeader())
			require.Equal(t, leader.Draining, r.Status().State)
			require.Equal(t, want, r.wait())
			require.Empty(t, held(t, store))
		}
	})

	bubble(t, "DrainingIsBounded", func(t *testing.T) {
		store := memory.New()
		opts := options()
		opts.Keepalive = &keepalive.Options{DrainTimeout: time.Minute}
		ctx, cancel := context.WithCancel(t.Context())
		stuck := make(chan struct{})
		r := run(ctx, store, opts, func(context.Context) error { <-stuck; return errWork })
		cancel()
		time.Sleep(time.Minute + ttl)
		require.Empty(t, held(t, store)) // the others go on
		require.Equal(t, leader.Lost, r.Status().State)
		require.True(t, r.Status().Overdue)
		close(stuck)
		err := r.wait()
		require.ErrorIs(t, err, lock.ErrLost)
		require.ErrorIs(t, err, errWork)
	})

	bubble(t, "FailedReleaseIsJoinedToFnsResult", func(t *testing.T) {
		store := memory.New()
		a := store.Client("a")
		err := leader.Run(t.Context(), a, key, func(context.Context) error {
			a.FailNext(-1, nil)
			return errWork
		}, options())
		require.ErrorIs(t, err, errWork)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NotErrorIs(t, err, lock.ErrLost)
	})
}

func TestLoss(t *testing.T) {
	bubble(t, "WaitsForFnKeepsItsResultAndCampaignsAgain", func(t *testing.T) {
		store := memory.New()
		var under, terms int
		ctx, cancel := context.WithCancel(t.Context())
		r := run(ctx, store, options(), func(ctx context.Context) error {
			under++
			terms++
			require.Equal(t, 1, under) // no second fn beside the first
			<-ctx.Done()
			if terms == 1 {
				require.ErrorIs(t, context.Cause(ctx), lock.ErrLost)
				time.Sleep(time.Hour)
			}
			under--
			return errWork
		})
		require.NoError(t, store.ForceRelease(ctx, key, 0))
		time.Sleep(30 * time.Minute)
		require.Equal(t, leader.Lost, r.Status().State)
		require.Empty(t, held(t, store))
		time.Sleep(time.Hour)
		s := r.Status()
		require.Equal(t, leader.Leading, s.State)
		require.Equal(t, 2, s.Terms)
		require.EqualValues(t, 2, s.Token)
		require.False(t, s.Overdue)
		require.ErrorIs(t, s.LastResult, errWork)
		require.ErrorIs(t, s.LastResult, lock.ErrLost)
		cancel()
		require.Equal(t, errWork, r.wait())
	})

	bubble(t, "OnceReturnsItWithFnsResult", func(t *testing.T) {
		for _, result := range []error{nil, errWork} {
			store := memory.New()
			opts := options()
			opts.Once = true
			r := run(t.Context(), store, opts, func(ctx context.Context) error { <-ctx.Done(); return result })
			require.NoError(t, store.ForceRelease(t.Context(), key, 0))
			err := r.wait()
			require.ErrorIs(t, err, lock.ErrLost)
			if result != nil {
				require.ErrorIs(t, err, result)
			}
		}
	})

	bubble(t, "IsReportedIfCtxEndsBeforeFnReturns", func(t *testing.T) {
		store := memory.New()
		ctx, cancel := context.WithCancel(t.Context())
		r := run(ctx, store, options(), func(context.Context) error { time.Sleep(time.Minute); return nil })
		require.NoError(t, store.ForceRelease(ctx, key, 0))
		time.Sleep(30 * time.Second)
		cancel()
		require.ErrorIs(t, r.wait(), lock.ErrLost)
	})

	bubble(t, "FnPastItsBudgetIsReported", func(t *testing.T) {
		store := memory.New()
		var mu sync.Mutex
		var states []leader.Status
		opts := options()
		opts.Keepalive = &keepalive.Options{Margin: 3 * time.Second}
		opts.OnChange = func(s leader.Status) {
			mu.Lock()
			defer mu.Unlock()
			states = append(states, s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		r := run(ctx, store, opts, func(context.Context) error { time.Sleep(time.Minute); return nil })
		require.NoError(t, store.ForceRelease(ctx, key, 0))
		time.Sleep(ttl/2 + 3*time.Second - 1)
		require.Equal(t, leader.Lost, r.Status().State)
		require.False(t, r.Status().Overdue)
		time.Sleep(2)
		require.True(t, r.Status().Overdue)
		synctest.Wait()
		mu.Lock()
		require.True(t, states[len(states)-1].Overdue)
		mu.Unlock()
		cancel()
		require.Error(t, r.wait())
	})

	bubble(t, "CampaignsAgainWithJitter", func(t *testing.T) {
		pauses := map[time.Duration]bool{}
		for range 10 {
			store := memory.New()
			ctx, cancel := context.WithCancel(t.Context())
			var lost time.Time
			r := run(ctx, store, options(), func(ctx context.Context) error {
				if lock.Token(ctx) == 2 {
					pauses[time.Since(lost)] = true
					return nil
				}
				<-ctx.Done()
				lost = time.Now()
				return nil
			})
			require.NoError(t, store.ForceRelease(ctx, key, 0))
			require.NoError(t, r.wait())
			cancel()
		}
		require.Greater(t, len(pauses), 5)
		require.NotContains(t, pauses, time.Duration(0))
	})

	bubble(t, "CtxThatEndsInThePauseIsReturnedAlone", func(t *testing.T) {
		store := memory.New()
		ctx, cancel := context.WithCancelCause(t.Context())
		errStop := errors.New("stop")
		r := run(ctx, store, options(), untilDone)
		require.NoError(t, store.ForceRelease(ctx, key, 0))
		time.Sleep(ttl/2 + 1)
		require.Equal(t, leader.StandingBy, r.Status().State)
		cancel(errStop)
		require.Equal(t, errStop, r.wait())
	})
}

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

	bubble(t, "AnAnswerWithNoTimeToLeadIsNoElection", func(t *testing.T) {
		store := memory.New()
		store.Delay(7 * time.Second)
		opts := options()
		opts.Keepalive = &keepalive.Options{Margin: 4 * time.Second}
		start := time.Now()
		r := run(t.Context(), store, opts, func(context.Context) error { return errWork })
		store.Delay(0) // for the calls after the first
		require.Equal(t, errWork, r.wait())
		require.Equal(t, 1, r.Status().Terms)
		require.Greater(t, time.Since(start), 7*time.Second)
		require.Less(t, time.Since(start), 9*time.Second) // the late lease was freed, at 10s it would end
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
