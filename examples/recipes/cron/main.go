// Cron runs the jobs of robfig/cron in one of several processes each time: start it on as
// many machines as you like.
//
//	LOCKS=redlock://h1,h2,h3 go run ./cron
package main

import (
	"context"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

// clocksDiffer is more than the clocks of any two machines differ, and less than the
// shortest interval between two runs of a job: for so long a run keeps its key, however
// soon it is over. 0 would let each machine run a short job, one after the other.
const clocksDiffer = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	locker, err := backends.Open(ctx, os.Getenv("LOCKS"))
	if err != nil {
		log.Fatal(err)
	}
	c := cron.New(cron.WithLocation(time.UTC)) // one time zone for all machines
	if _, err := c.AddFunc("*/5 * * * *", Locked(ctx, locker, "report", report)); err != nil {
		log.Fatal(err)
	}
	c.Start()
	<-ctx.Done()
	<-c.Stop().Done() // the runs under way have returned, and their locks are free
	if err := lock.Close(locker); err != nil {
		log.Print(err)
	}
}

// Locked is a job that runs unless another process runs it, or has just run it. Each job
// has a name of its own, the same in all processes. fn must return soon after its context
// has ended: that is before the lock can pass on.
func Locked(ctx context.Context, l lock.Locker, name string, fn func(context.Context) error) func() {
	return func() {
		ran, err := keepalive.TryDo(ctx, l, name, 30*time.Second, fn, &keepalive.Options{
			AtLeast: clocksDiffer,
			Logger:  slog.Default(),
		})
		switch {
		case err != nil: // fn's, or the store's, which may mean that nobody runs the job this time
			slog.ErrorContext(ctx, "job failed", "job", name, "ran", ran, "err", err)
		case !ran:
			slog.DebugContext(ctx, "job runs elsewhere", "job", name)
		}
	}
}

func report(ctx context.Context) error {
	log.Print("reporting with fencing token ", lock.Token(ctx))
	return nil
}
