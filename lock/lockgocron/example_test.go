package lockgocron_test

import (
	"context"
	"fmt"
	"time"

	"github.com/go-co-op/gocron/v2"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/lockgocron"
)

// A job that several schedulers have, and one of them runs each time. The clocks of their
// machines differ by less than 30s.
func ExampleLocker_NewJob() {
	store := memory.New() // or backends.Open(ctx, os.Getenv("LOCKS"))
	locker, err := lockgocron.NewLocker(store, 30*time.Second, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	scheduler, err := gocron.NewScheduler()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = scheduler.Shutdown() }()
	done := make(chan struct{})
	_, err = locker.NewJob(scheduler, gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), "report",
		func(ctx context.Context) error { // ctx ends before the lock can pass on
			fmt.Println("reporting with token", lock.Token(ctx))
			close(done)
			return nil
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	scheduler.Start()
	<-done
	// Output: reporting with token 1
}

// A scheduler that runs its jobs while it leads.
func ExampleElector() {
	elector, err := lockgocron.NewElector(leader.New(memory.New(), "jobs", nil))
	if err != nil {
		fmt.Println(err)
		return
	}
	scheduler, err := gocron.NewScheduler(gocron.WithDistributedElector(elector))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background()) // or signal.NotifyContext
	_, err = scheduler.NewJob(gocron.DurationJob(time.Second), elector.Task(func(ctx context.Context) error {
		fmt.Println("leading with token", lock.Token(ctx))
		stop()
		<-ctx.Done() // a term waits for its runs
		return nil
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	scheduler.Start()
	fmt.Println("stopped:", elector.Run(ctx))
	_ = scheduler.Shutdown()
	// Output:
	// leading with token 1
	// stopped: <nil>
}
