package lockgocron_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/lockgocron"
)

// start starts a scheduler, which the test's end shuts down. gocron's shutdown spins until
// its jobs have returned, so no fake time passes meanwhile: in a bubble, a job returns at
// once when its context has ended.
func start(t *testing.T, opts ...gocron.SchedulerOption) gocron.Scheduler {
	t.Helper()
	s, err := gocron.NewScheduler(opts...)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { _ = s.Shutdown() })
	return s
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func newLocker(t *testing.T, l lock.Locker, atLeast time.Duration, opts *lockgocron.Options) *lockgocron.Locker {
	t.Helper()
	locker, err := lockgocron.NewLocker(l, atLeast, opts)
	require.NoError(t, err)
	return locker
}

// runsOutOfStep counts the runs of a short job in an hour, due each minute by five
// schedulers whose clocks differ.
func runsOutOfStep(t *testing.T, atLeast time.Duration) int {
	t.Helper()
	var runs int
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var mu sync.Mutex
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for i := range 5 {
			group.Go(func() {
				time.Sleep(time.Duration(i) * 4 * time.Second) // as much as its clock is behind
				s, err := gocron.NewScheduler()
				assert.NoError(t, err)
				_, err = newLocker(t, store.Client(""), atLeast, nil).NewJob(s, gocron.DurationJob(time.Minute), "job", func(context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					runs++
					return nil
				})
				assert.NoError(t, err)
				s.Start()
				<-ctx.Done()
				assert.NoError(t, s.Shutdown())
			})
		}
		time.Sleep(time.Hour + 30*time.Second)
		cancel()
		group.Wait()
	})
	return runs
}

func TestOneRunAPeriodWhereClocksDifferByLessThanTheMinimumHold(t *testing.T) {
	require.Equal(t, 60, runsOutOfStep(t, 30*time.Second))
	require.GreaterOrEqual(t, runsOutOfStep(t, 0), 5*60, "the schedulers were not out of step")
}

func TestRunsOfSchedulersDoNotOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var mu sync.Mutex
		var running, runs int
		var last uint64
		for range 3 {
			_, err := newLocker(t, store.Client(""), time.Second, nil).NewJob(start(t), gocron.DurationJob(time.Second), "job", func(ctx context.Context) error {
				mu.Lock()
				running++
				runs++
				assert.Equal(t, 1, running)
				assert.Greater(t, lock.TokenOf(ctx, "job"), last)
				last = lock.Token(ctx)
				mu.Unlock()
				sleep(ctx, 2*time.Minute) // longer than the ttl
				mu.Lock()
				defer mu.Unlock()
				running--
				return nil
			})
			require.NoError(t, err)
		}
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		require.Greater(t, runs, 25)
	})
}

// A store that is away ends the job's context before anyone else can have the lock.
func TestALossEndsTheJobBeforeTheLockPassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		cut, other := store.Client("cut"), store.Client("other")
		ended := make(chan error, 1)
		lost := make(chan error, 1)
		l := newLocker(t, cut, 0, &lockgocron.Options{Keepalive: &keepalive.Options{OnLost: func(_ *keepalive.Keeper, err error) { lost <- err }}})
		_, err := l.NewJob(start(t), gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), "job", func(ctx context.Context) error {
			cut.FailNext(-1, nil)
			<-ctx.Done()
			_, err := other.TryAcquire(context.Background(), "job", time.Second)
			ended <- errors.Join(err, context.Cause(ctx))
			return nil
		})
		require.NoError(t, err)
		err = <-ended
		require.ErrorIs(t, err, lock.ErrHeld)
		require.ErrorIs(t, err, lock.ErrLost)
		time.Sleep(lockgocron.DefaultTTL)
		require.ErrorIs(t, <-lost, lock.ErrLost)
		lease, err := other.TryAcquire(t.Context(), "job", time.Second)
		require.NoError(t, err)
		require.NoError(t, lease.Release(t.Context()))
	})
}

// On the machine's clock: see start.
func TestTheSchedulersEndFreesTheLockOnceTheJobHasReturned(t *testing.T) {
	store := memory.New()
	s, err := gocron.NewScheduler(gocron.WithStopTimeout(time.Minute))
	require.NoError(t, err)
	running, ending, ended := make(chan struct{}), make(chan error, 1), make(chan struct{})
	_, err = newLocker(t, store, 0, nil).NewJob(s, gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), "job", func(ctx context.Context) error {
		close(running)
		<-ctx.Done()
		ending <- context.Cause(ctx)
		<-ended // winds down
		return nil
	})
	require.NoError(t, err)
	s.Start()
	<-running
	down := make(chan error, 1)
	go func() { down <- s.Shutdown() }()
	require.NotErrorIs(t, <-ending, lock.ErrLost)
	_, err = store.Client("other").TryAcquire(t.Context(), "job", time.Second)
	require.ErrorIs(t, err, lock.ErrHeld)
	close(ended)
	require.NoError(t, <-down)
	info, err := store.Inspect(t.Context(), "job")
	require.NoError(t, err)
	require.Empty(t, info.Holder)
}

func TestAJobDoesNotRunWithoutItsLock(t *testing.T) {
	leads, err := lockgocron.NewElector(leader.New(memory.New(), "jobs", nil))
	require.NoError(t, err)
	for name, opts := range map[string]struct {
		scheduler []gocron.SchedulerOption
		job       []gocron.JobOption
		cut       bool
		want      error
	}{
		"its locker is disabled":    {job: []gocron.JobOption{gocron.WithDisabledDistributedJobLocker(true)}, want: lockgocron.ErrNoLock},
		"gocron asks an elector":    {scheduler: []gocron.SchedulerOption{gocron.WithDistributedElector(always{})}, want: lockgocron.ErrNoLock},
		"the scheduler stands by":   {scheduler: []gocron.SchedulerOption{gocron.WithDistributedElector(leads)}},
		"the store does not answer": {cut: true, want: lock.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory.New()
				if opts.cut {
					store.FailNext(-1, nil)
				}
				failed := make(chan error, 1)
				listen := gocron.WithEventListeners(
					gocron.AfterJobRunsWithError(func(_ uuid.UUID, _ string, err error) { failed <- err }),
					gocron.AfterLockError(func(_ uuid.UUID, _ string, err error) { failed <- err }),
				)
				_, err := newLocker(t, store, 0, nil).NewJob(start(t, opts.scheduler...), gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), "job",
					func(context.Context) error { t.Error("it ran"); return nil }, append(opts.job, listen)...)
				require.NoError(t, err)
				if opts.want == nil {
					time.Sleep(time.Minute)
					return
				}
				require.ErrorIs(t, <-failed, opts.want)
			})
		})
	}
}

type always struct{}

func (always) IsLeader(context.Context) error { return nil }

// Several holders of one name, as of a semaphore: each run has a lock of its own.
func TestASemaphoreGivesEachRunALockOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		slots := make(chan string, 10)
		l := newLocker(t, lock.Semaphore(store, 2), 0, nil)
		s := start(t)
		for range 3 { // three jobs of one name: two run
			_, err := l.NewJob(s, gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), "job", func(ctx context.Context) error {
				slots <- "ran"
				sleep(ctx, time.Minute)
				return ctx.Err()
			})
			require.NoError(t, err)
		}
		time.Sleep(time.Second)
		held := 0
		for _, err := range store.List(t.Context(), "") {
			require.NoError(t, err)
			held++
		}
		require.Equal(t, 2, held)
		require.Len(t, slots, 2)
		time.Sleep(2 * time.Minute)
		for info, err := range store.List(t.Context(), "") {
			require.NoError(t, err)
			t.Errorf("%s is still held", info.Key)
		}
	})
}

// A run may claim the hold of one that was paused before it began: that hold ends only when
// the run has returned.
func TestAHoldIsNotReleasedWhileARunIsUnderIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLocker(t, lock.Semaphore(memory.New(), 2), 0, nil)
		paused, err := l.Lock(t.Context(), "job")
		require.NoError(t, err)
		running := make(chan context.Context)
		end := make(chan struct{})
		_, err = l.NewJob(start(t), gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), "job", func(ctx context.Context) error {
			running <- ctx
			<-end
			return nil
		})
		require.NoError(t, err)
		ctx := <-running
		unlocked := make(chan error, 1)
		go func() { unlocked <- paused.Unlock(t.Context()) }()
		time.Sleep(time.Minute)
		require.Empty(t, unlocked)
		require.NoError(t, ctx.Err())
		close(end)
		require.NoError(t, <-unlocked)
	})
}

func TestBadInputIsRefusedByNameBeforeAnythingIsAsked(t *testing.T) {
	store := memory.New()
	store.FailNext(-1, errors.New("the store was asked"))
	for want, give := range map[string]func() error{
		"locker is nil":                    func() error { _, err := lockgocron.NewLocker(nil, 0, nil); return err },
		"minimum hold is -1s":              func() error { _, err := lockgocron.NewLocker(store, -time.Second, nil); return err },
		"minimum hold is 30ns":             func() error { _, err := lockgocron.NewLocker(store, 30, nil); return err },
		"ttl":                              func() error { _, err := lockgocron.NewLocker(store, 0, &lockgocron.Options{TTL: -1}); return err },
		"Options.Keepalive.Acquire is set": func() error { return refuse(store, keepalive.Options{Acquire: &lock.AcquireOptions{}}) },
		"Options.Keepalive.AtLeast is 1s":  func() error { return refuse(store, keepalive.Options{AtLeast: time.Second}) },
		"elector is nil":                   func() error { _, err := lockgocron.NewElector(nil); return err },
		"scheduler is nil": func() error {
			_, err := newLocker(t, store, 0, nil).NewJob(nil, gocron.DurationJob(time.Second), "job", func(context.Context) error { return nil })
			return err
		},
		"fn is nil": func() error {
			_, err := newLocker(t, store, 0, nil).NewJob(start(t), gocron.DurationJob(time.Second), "job", nil)
			return err
		},
		"key": func() error {
			_, err := newLocker(t, store, 0, nil).NewJob(start(t), gocron.DurationJob(time.Second), "", func(context.Context) error { return nil })
			return err
		},
	} {
		err := give()
		require.ErrorIs(t, err, lock.ErrInvalid, want)
		require.ErrorContains(t, err, want)
	}
	_, err := lockgocron.NewLocker(noHold{store}, time.Second, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func refuse(l lock.Locker, keep keepalive.Options) error {
	_, err := lockgocron.NewLocker(l, 0, &lockgocron.Options{Keepalive: &keep})
	return err
}

// noHold is a store that can't keep a key held without its holder.
type noHold struct{ l lock.Locker }

func (n noHold) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	return n.l.TryAcquire(ctx, key, ttl)
}

// A program that uses this package chooses its store itself.
func TestLinksNoStoreAndNoTestLibrary(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	linked := strings.Fields(string(out))
	require.Contains(t, linked, "github.com/go-co-op/gocron/v2")
	for _, pkg := range linked {
		for _, no := range []string{"github.com/redis", "github.com/stretchr", "testing", "github.com/tonsurance/lockkeeper/backends", "github.com/tonsurance/lockkeeper/redlock"} {
			require.False(t, strings.HasPrefix(pkg, no), pkg)
		}
	}
}
