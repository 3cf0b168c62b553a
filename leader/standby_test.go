package leader_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// failing is a locker whose attempts a test can let fail; nil lets them through.
type failing struct {
	*memory.Locker
	err atomic.Pointer[error]
}

func (f *failing) fail(err error) { f.err.Store(&err) }

func (f *failing) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	if err := f.err.Load(); err != nil && *err != nil {
		return nil, *err
	}
	return f.Locker.TryAcquire(ctx, key, ttl)
}

func (f *failing) Await(ctx context.Context, key string, ttl time.Duration, refused func(*lock.HeldError)) (lock.Lease, error) {
	if err := f.err.Load(); err != nil && *err != nil {
		return nil, *err
	}
	return f.Locker.Await(ctx, key, ttl, refused)
}

func TestAnErrorOfADriverEndsNoCampaign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{Locker: memory.New()}
		f.fail(errors.New("driver: bad connection"))
		opts, log := logging()
		ctx, cancel := context.WithCancel(t.Context())
		r := run(ctx, f, opts, untilDone)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"WARN no attempt to be elected succeeds"}, log.since())
		f.fail(nil)
		time.Sleep(time.Second)
		require.Equal(t, []string{"INFO leading"}, log.since())
		cancel()
		require.NoError(t, r.wait())
	})
}

func TestARefusalByTheStoreIsFinalUntilTheFirstTerm(t *testing.T) {
	refused := fmt.Errorf("%w: no permission", lock.ErrRefused)
	for name, locker := range map[string]func(*failing) lock.Locker{
		"a locker with waiters": func(f *failing) lock.Locker { return f },
		"a bare locker":         func(f *failing) lock.Locker { return struct{ lock.Locker }{f} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &failing{Locker: memory.New()}
				l := locker(f)
				f.fail(refused)
				opts, log := logging()
				err := leader.Run(t.Context(), l, key, untilDone, opts)
				require.ErrorIs(t, err, leader.ErrNotElected)
				require.ErrorIs(t, err, lock.ErrRefused)

				// After a term it is an outage, with a warning.
				f.fail(nil)
				ctx, cancel := context.WithCancel(t.Context())
				e := leader.New(l, key, opts)
				done := make(chan error)
				go func() { done <- e.Run(ctx, untilDone) }()
				synctest.Wait()
				require.True(t, e.IsLeader())
				f.fail(refused)
				require.NoError(t, f.ForceRelease(ctx, key, 0))
				time.Sleep(time.Minute)
				require.Equal(t, leader.StandingBy, e.Status().State)
				require.ErrorIs(t, e.Status().LastAttempt, lock.ErrRefused)
				require.Contains(t, log.since(), "WARN no attempt to be elected succeeds")
				f.fail(nil)
				time.Sleep(time.Minute)
				require.True(t, e.IsLeader())
				cancel()
				require.NoError(t, <-done)
			})
		})
	}
}

func TestAStandbyNamesThePresentLeaderWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		a, err := store.Client("a").TryAcquire(t.Context(), key, time.Hour)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		b := run(ctx, store.Client("b"), options(), untilDone) // next
		synctest.Wait()

		opts, log := logging()
		var mu sync.Mutex
		var reported []string
		holder := func(s leader.Status) string {
			held, ok := errors.AsType[*lock.HeldError](s.LastAttempt)
			if !ok {
				return ""
			}
			return held.Holder
		}
		opts.OnChange = func(s leader.Status) {
			mu.Lock()
			defer mu.Unlock()
			reported = append(reported, string(s.State)+" "+holder(s))
		}
		e := leader.New(store.Client("c"), key, opts)
		done := make(chan error)
		go func() { done <- e.Run(ctx, untilDone) }()
		time.Sleep(time.Minute)
		require.Equal(t, "a", holder(e.Status()))
		require.Equal(t, []string{"INFO standing by: another leads"}, log.since())

		require.NoError(t, a.Release(ctx))
		time.Sleep(5 * time.Second)
		require.Equal(t, "b", holder(e.Status()))
		require.Equal(t, []string{"INFO standing by: another leads"}, log.since())
		mu.Lock()
		all := reported
		mu.Unlock()
		require.Equal(t, []string{"standing by a", "standing by b"}, all[len(all)-2:], "the first may have been merged: %v", all)
		cancel()
		require.NoError(t, b.wait())
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestAStoreOutOfReachForLongerThanATTLIsSeen(t *testing.T) {
	for name, fault := range map[string]func(c *memory.Locker, on bool){
		"failing": func(c *memory.Locker, on bool) {
			if on {
				c.FailNext(-1, nil)
			} else {
				c.FailNext(0, nil)
			}
		},
		"hanging": func(c *memory.Locker, on bool) {
			if on {
				c.Delay(24 * time.Hour)
			} else {
				c.Delay(0)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory.New()
				c := store.Client("c")
				fault(c, true)
				e := leader.New(c, key, options())
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- e.Run(ctx, untilDone) }()
				time.Sleep(e.Status().TTL - time.Millisecond)
				require.False(t, e.Status().OutOfReach())
				time.Sleep(5 * time.Second)
				require.True(t, e.Status().OutOfReach())
				if name == "failing" {
					fault(c, false)
					time.Sleep(5 * time.Second)
					require.False(t, e.Status().OutOfReach())
					require.True(t, e.IsLeader())
				}
				cancel()
				<-done
				require.False(t, e.Status().OutOfReach())
			})
		})
	}
}

func TestALeaderReleasesAlsoInTheLastMomentOfItsCtx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, leader.Run(ctx, l, key, func(context.Context) error {
			time.Sleep(time.Second - time.Millisecond)
			l.Delay(10 * time.Millisecond)
			return nil
		}, options()))
		l.Delay(0)
		_, err := l.TryAcquire(t.Context(), key, time.Minute)
		require.NoError(t, err)
	})
}
