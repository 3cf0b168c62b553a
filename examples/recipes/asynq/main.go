// Asynq runs the periodic tasks of asynq's Scheduler in one of several processes: two
// schedulers side by side would enqueue each task twice.
//
//	LOCKS=redlock://h1,h2,h3 REDIS=localhost:6379 go run ./asynq
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hibiken/asynq"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	locker, err := backends.Open(ctx, os.Getenv("LOCKS"))
	if err != nil {
		log.Fatal(err)
	}
	err = Schedule(ctx, locker, asynq.RedisClientOpt{Addr: os.Getenv("REDIS")}, func(s *asynq.Scheduler) error {
		// Unique refuses what a leader that was paused enqueues after its time, for as long as
		// the task is not done. A lock alone can't: make tasks idempotent.
		_, err := s.Register("@every 1m", asynq.NewTask("report", nil), asynq.Unique(time.Minute))
		return err
	})
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
	if err := lock.Close(locker); err != nil {
		log.Print(err)
	}
}

// Schedule runs a scheduler with the tasks of register while this process leads, and stands
// by otherwise. Each term has a scheduler of its own: one that was shut down can't start
// again.
func Schedule(ctx context.Context, l lock.Locker, redis asynq.RedisConnOpt, register func(*asynq.Scheduler) error) error {
	return leader.Run(ctx, l, "asynq-scheduler", func(ctx context.Context) error {
		s := asynq.NewScheduler(redis, &asynq.SchedulerOpts{Location: time.UTC})
		if err := register(s); err != nil {
			return fmt.Errorf("register: %w", err)
		}
		// Start, not Run: Run waits for signals of its own, and would not see the term's end.
		if err := s.Start(); err != nil {
			return fmt.Errorf("start: %w", err)
		}
		<-ctx.Done()
		s.Shutdown() // waits for a task that is being enqueued; then the lease is released
		return nil
	}, &leader.Options{Logger: slog.Default()})
}
