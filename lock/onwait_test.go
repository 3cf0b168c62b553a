package lock_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// reasons are what an OnWait received: holders' names, and "away".
type reasons struct {
	mu       sync.Mutex
	reported []string
}

func (r *reasons) onWait(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch held, ok := errors.AsType[*lock.HeldError](err); {
	case ok:
		r.reported = append(r.reported, held.Holder)
	case errors.Is(err, lock.ErrUnavailable):
		r.reported = append(r.reported, "away")
	default:
		r.reported = append(r.reported, err.Error())
	}
}

func (r *reasons) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.reported...)
}

// looking counts how often it is inspected, and can hang or fail then.
type looking struct {
	*memory.Locker
	looks atomic.Int64
	fail  atomic.Pointer[error]
}

func (l *looking) Inspect(ctx context.Context, key string) (lock.Info, error) {
	l.looks.Add(1)
	if err := l.fail.Load(); err != nil {
		if *err == nil {
			<-ctx.Done()
			return lock.Info{}, ctx.Err()
		}
		return lock.Info{}, *err
	}
	return l.Locker.Inspect(ctx, key)
}

// waits has n Acquires of one process wait for key "k", and gives the last one's reasons.
func waits(t *testing.T, l lock.Locker, n int) (reported *reasons, stop func()) {
	reported = &reasons{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range n {
		opts := &lock.AcquireOptions{}
		if i == n-1 {
			opts.OnWait = reported.onWait
		}
		wg.Go(func() {
			lease, err := lock.Acquire(ctx, l, "k", time.Minute, opts)
			if err == nil {
				_ = lease.Release(ctx)
			}
		})
		synctest.Wait()
	}
	return reported, func() { cancel(); wg.Wait() }
}

func TestAWaiterLearnsWithinSecondsWhoHoldsTheKeyNow(t *testing.T) {
	for name, n := range map[string]int{"the first of a queue": 1, "one behind": 3} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory.New()
				a, b := store.Client("a"), store.Client("b")
				lease, err := a.TryAcquire(t.Context(), "k", time.Hour)
				require.NoError(t, err)
				// b waits first, so that it gets the key next.
				var next lock.Lease
				var wg sync.WaitGroup
				wg.Go(func() { next, _ = lock.Acquire(t.Context(), b, "k", time.Hour, nil) })
				synctest.Wait()
				c := &looking{Locker: store.Client("c")}
				reported, stop := waits(t, c, n)
				time.Sleep(10 * time.Second)
				require.Equal(t, []string{"a"}, reported.all())
				require.NoError(t, lease.Release(t.Context()))
				wg.Wait()
				time.Sleep(5 * time.Second)
				require.Equal(t, []string{"a", "b"}, reported.all())
				time.Sleep(5 * time.Minute)
				require.Equal(t, []string{"a", "b"}, reported.all(), "what goes on is not reported again")
				require.LessOrEqual(t, c.looks.Load(), int64(320/3+1), "asked more than every 3s")
				stop()
				before := len(reported.all())
				time.Sleep(time.Minute)
				require.Len(t, reported.all(), before)
				require.NoError(t, next.Release(t.Context()))
			})
		})
	}
}

func TestAWaiterLearnsWithinSecondsOfAnOutage(t *testing.T) {
	hung, down := error(nil), error(errors.New("connection refused"))
	for name, err := range map[string]*error{"a store that hangs": &hung, "a store that fails": &down} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory.New()
				_, e := store.Client("a").TryAcquire(t.Context(), "k", time.Hour)
				require.NoError(t, e)
				c := &looking{Locker: store.Client("c")}
				reported, stop := waits(t, c, 1)
				c.fail.Store(err)
				time.Sleep(10 * time.Second)
				require.Equal(t, []string{"a", "away"}, reported.all())
				c.fail.Store(nil)
				time.Sleep(10 * time.Second)
				require.Equal(t, []string{"a", "away", "a"}, reported.all())
				stop()
			})
		})
	}
}

func TestWhereNobodyWantsToKnowNobodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		_, err := store.Client("a").TryAcquire(t.Context(), "k", time.Hour)
		require.NoError(t, err)
		c := &looking{Locker: store.Client("c")}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		_, err = lock.Acquire(ctx, c, "k", time.Hour, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, c.looks.Load())
	})
}

func TestOnWaitOfASemaphoreTellsOfOutagesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b"} {
			lease, err := lock.Semaphore(store.Client(name), 2).TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err)
			wg.Go(func() { // each renews in turn, so that the first to expire changes
				for ctx.Err() == nil {
					time.Sleep(20 * time.Second)
					_ = lease.Extend(ctx, time.Minute)
				}
			})
			time.Sleep(10 * time.Second)
		}
		c := store.Client("c")
		reported, stop := waits(t, lock.Semaphore(c, 2), 1)
		time.Sleep(10 * time.Minute)
		require.Len(t, reported.all(), 1)
		stop()
		cancel()
		wg.Wait()
	})
}

func TestOnWaitSaysWhyARefusedAttemptIsRepeated(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		reported := &reasons{}
		answers := []error{errors.New("driver: hiccup"), lock.ErrUnavailable, held, held, lock.ErrUnavailable, held}
		f := &fakeLocker{try: func(_ context.Context, n int) error {
			if n > len(answers) {
				return nil
			}
			return answers[n-1]
		}}
		_, err := lock.Acquire(t.Context(), f, "k", ttl, &lock.AcquireOptions{OnWait: reported.onWait})
		require.NoError(t, err)
		require.Equal(t, []string{"away", held.Holder, "away", held.Holder}, reported.all())
	})
}
