package main

import (
	"context"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

func TestOneSchedulerEnqueuesAndAnotherTakesOver(t *testing.T) {
	redis := asynq.RedisClientOpt{Addr: redistest.Start(t).Addr()}
	store := memory.New()
	enqueued := asynq.NewInspector(redis)
	t.Cleanup(func() { require.NoError(t, enqueued.Close()) })

	began := make(chan string)
	run := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Schedule(ctx, store.Client(name), redis, func(s *asynq.Scheduler) error {
				_, err := s.Register("@every 1s", asynq.NewTask(name, nil))
				began <- name
				return err
			})
		}()
		return func() {
			cancel()
			err := <-done
			require.True(t, err == nil || ctx.Err() != nil, err)
		}
	}
	pending := func() map[string]int {
		byName := map[string]int{}
		tasks, err := enqueued.ListPendingTasks("default")
		if err != nil { // there is no queue before the first task
			return byName
		}
		for _, task := range tasks {
			byName[task.Type]++
		}
		return byName
	}
	stopA := run("a")
	require.Equal(t, "a", <-began)
	stopB := run("b")
	require.Eventually(t, func() bool { return pending()["a"] >= 2 }, time.Minute, 20*time.Millisecond)
	require.Zero(t, pending()["b"])
	stopA()
	require.Equal(t, "b", <-began)
	before := pending()["a"]
	require.Eventually(t, func() bool { return pending()["b"] >= 2 }, time.Minute, 20*time.Millisecond)
	require.Equal(t, before, pending()["a"], "the scheduler of a went on")
	stopB()
}
