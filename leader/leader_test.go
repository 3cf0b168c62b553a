package leader_test

import (
	"context"
	"errors"
	"log/slog"
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

// held reports who has the key.
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
						if token := lock.Token(ctx); token <= last.Swap(token) {
							t.Error("the token did not rise")
						}
						if terms.Add(1)%5 == 0 {
							// Nobody but the next leader knows of that: the work has stopped.
							under.Add(-1)
							_ = store.ForceRelease(ctx, key, 0)
							return nil
						}
						defer under.Add(-1)
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

	bubble(t, "LoggerThatPanicsReleases", func(t *testing.T) {
		store := memory.New()
		opts := options()
		opts.Logger = slog.New(panicking{slog.DiscardHandler})
		require.PanicsWithValue(t, "leading", func() {
			_ = leader.Run(t.Context(), store, key, func(context.Context) error { return nil }, opts)
		})
		require.Empty(t, held(t, store))
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

// panicking is a log whose first line goes wrong.
type panicking struct{ slog.Handler }

func (panicking) Enabled(context.Context, slog.Level) bool { return true }
func (panicking) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "leading" {
		panic("leading")
	}
	return nil
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
		for r.Status().State != leader.Lost {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(3*time.Second - time.Millisecond - 1)
		require.Equal(t, leader.Lost, r.Status().State)
		require.False(t, r.Status().Overdue)
		time.Sleep(time.Millisecond + 2)
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
		for r.Status().State != leader.StandingBy {
			time.Sleep(time.Millisecond)
		}
		cancel(errStop)
		require.Equal(t, errStop, r.wait())
	})
}
