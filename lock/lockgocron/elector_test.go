package lockgocron_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/lockgocron"
)

// lead starts a scheduler with an elector, and returns what ends both.
func lead(t *testing.T, l lock.Locker, every time.Duration, job func(context.Context) error) (*lockgocron.Elector, func()) {
	t.Helper()
	e, err := lockgocron.NewElector(leader.New(l, "jobs", nil))
	require.NoError(t, err)
	s := start(t, gocron.WithDistributedElector(e))
	_, err = s.NewJob(gocron.DurationJob(every), e.Task(job), gocron.WithSingletonMode(gocron.LimitModeReschedule))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = e.Run(ctx) })
	stop := func() { cancel(); run.Wait(); _ = s.Shutdown() }
	t.Cleanup(stop)
	return e, stop
}

func TestOneSchedulerRunsTheJobsAndAnotherTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var mu sync.Mutex
		minutes := map[int]string{} // since the start, and who ran in it; gocron may run twice in one
		begin := time.Now()
		job := func(name string) func(context.Context) error {
			return func(ctx context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				minute := int(time.Since(begin) / time.Minute)
				assert.Contains(t, []string{"", name}, minutes[minute])
				minutes[minute] = name
				assert.NotZero(t, lock.Token(ctx))
				return nil
			}
		}
		_, stop := lead(t, store.Client("a"), time.Minute, job("a"))
		synctest.Wait()
		b, _ := lead(t, store.Client("b"), time.Minute, job("b"))
		time.Sleep(time.Hour + time.Second)
		require.ErrorIs(t, b.IsLeader(t.Context()), lockgocron.ErrNotLeading)
		require.ErrorIs(t, b.IsLeader(t.Context()), lock.ErrHeld)
		stop()
		synctest.Wait()
		require.NoError(t, b.IsLeader(t.Context()))
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		for minute := 1; minute <= 120; minute++ {
			require.Equal(t, map[bool]string{true: "a", false: "b"}[minute <= 60], minutes[minute], "in minute %d", minute)
		}
	})
}

// A run of the old leader has returned, or its context has ended in time, before the new
// one begins.
func TestATermEndsBeforeTheNextAndWaitsForItsRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		cut := store.Client("a")
		var mu sync.Mutex
		var running, runs int
		var overlapped bool
		var causes []error
		winding := make(chan struct{})
		job := func(ctx context.Context) error {
			mu.Lock()
			running++
			runs++
			overlapped = overlapped || running > 1
			mu.Unlock()
			<-ctx.Done()
			<-winding // within the margin
			mu.Lock()
			defer mu.Unlock()
			running--
			causes = append(causes, context.Cause(ctx))
			return nil
		}
		a, _ := lead(t, cut, 10*time.Second, job)
		synctest.Wait()
		b, _ := lead(t, store.Client("b"), 10*time.Second, job)
		time.Sleep(11 * time.Second)
		cut.FailNext(-1, nil)
		time.Sleep(17 * time.Second) // 2s before its lease ends; its run goes on
		synctest.Wait()
		require.ErrorIs(t, a.IsLeader(t.Context()), lockgocron.ErrNotLeading)
		close(winding)
		time.Sleep(time.Minute)
		require.Error(t, a.IsLeader(t.Context()))
		require.NoError(t, b.IsLeader(t.Context()))
		mu.Lock()
		defer mu.Unlock()
		require.False(t, overlapped)
		require.Equal(t, 2, runs, "one of each leader")
		require.Len(t, causes, 1)
		require.ErrorIs(t, causes[0], lock.ErrLost)
	})
}

// Nobody leads while a run of a term that was resigned winds down.
func TestATermThatEndsWaitsForItsRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		l := leader.New(store.Client("a"), "jobs", nil)
		a, err := lockgocron.NewElector(l)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = a.Run(ctx) })
		synctest.Wait()
		winding, ending := make(chan struct{}), make(chan error, 1)
		_, err = start(t).NewJob(gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), a.Task(func(ctx context.Context) error {
			<-ctx.Done()
			ending <- context.Cause(ctx)
			<-winding
			return nil
		}))
		require.NoError(t, err)
		synctest.Wait()
		b, _ := lead(t, store.Client("b"), time.Hour, func(context.Context) error { return nil })
		require.True(t, l.Resign())
		require.ErrorIs(t, <-ending, leader.ErrResigned)
		time.Sleep(20 * time.Second)
		require.Error(t, a.IsLeader(t.Context()), "no run begins in a term that ends")
		require.ErrorIs(t, b.IsLeader(t.Context()), lockgocron.ErrNotLeading)
		close(winding)
		synctest.Wait()
		require.NoError(t, b.IsLeader(t.Context()))
		cancel()
		run.Wait()
	})
}

// On the machine's clock: see start.
func TestTheSchedulersEndEndsRunsWhoseTermGoesOn(t *testing.T) {
	began, cause := make(chan struct{}, 1), make(chan error, 1)
	e, err := lockgocron.NewElector(leader.New(memory.New(), "jobs", nil))
	require.NoError(t, err)
	s := start(t, gocron.WithDistributedElector(e))
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = e.Run(ctx) })
	defer run.Wait()
	defer cancel()
	_, err = s.NewJob(gocron.DurationJob(time.Millisecond), e.Task(func(ctx context.Context) error {
		began <- struct{}{}
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil
	}), gocron.WithSingletonMode(gocron.LimitModeReschedule))
	require.NoError(t, err)
	<-began
	require.NoError(t, s.Shutdown())
	require.ErrorIs(t, <-cause, context.Canceled)
	require.NoError(t, e.IsLeader(t.Context()))
}

func TestATaskFailsWhereNobodyLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := lockgocron.NewElector(leader.New(memory.New(), "jobs", nil))
		require.NoError(t, err)
		failed := make(chan error, 1)
		_, err = start(t).NewJob(gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()),
			e.Task(func(context.Context) error { t.Error("it ran"); return nil }),
			gocron.WithEventListeners(gocron.AfterJobRunsWithError(func(_ uuid.UUID, _ string, err error) { failed <- err })))
		require.NoError(t, err)
		require.ErrorIs(t, <-failed, lockgocron.ErrNotLeading)
		require.Panics(t, func() { e.Task(nil) })
	})
}
