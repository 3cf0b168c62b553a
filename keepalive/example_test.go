package keepalive_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

func ExampleDo() {
	locker := memory.New()
	err := keepalive.Do(context.Background(), locker, "nightly-report", 30*time.Second, func(ctx context.Context) error {
		// Each write carries the token; the store refuses it if it has seen a larger one.
		fmt.Println("working with token", lock.Token(ctx))
		return ctx.Err() // not nil once the lease is lost
	}, nil)
	fmt.Println("done:", err)
	// Output:
	// working with token 1
	// done: <nil>
}

func ExampleStart() {
	ctx, locker := context.Background(), memory.New()
	lease, err := locker.TryAcquire(ctx, "pricing-oracle", 30*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	keeper, err := keepalive.Start(ctx, lease, 30*time.Second, &keepalive.Options{Margin: 5 * time.Second})
	if err != nil {
		fmt.Println(err)
		_ = lease.Release(ctx)
		return
	}
	fmt.Println("kept:", keeper.Context().Err() == nil)
	fmt.Println("released:", keeper.Release(ctx))
	fmt.Println(context.Cause(keeper.Context()))
	// Output:
	// kept: true
	// released: <nil>
	// keepalive: released: context canceled
}

// Two machines start the same job by clocks that differ: the second finds the key held,
// although the job was over in a moment.
func ExampleDo_atLeast() {
	store := memory.New()
	job := func(context.Context) error { fmt.Println("the job runs"); return nil }
	opts := &keepalive.Options{AtLeast: time.Minute, Acquire: &lock.AcquireOptions{Attempts: 1}}
	for _, machine := range []string{"first", "second"} {
		err := keepalive.Do(context.Background(), store.Client(machine), "nightly-report", 30*time.Second, job, opts)
		fmt.Println(machine, "was refused:", errors.Is(err, lock.ErrHeld))
	}
	// Output:
	// the job runs
	// first was refused: false
	// second was refused: true
}

// Two machines start a job once an hour, by clocks that differ. (The second waits for up
// to a tenth of the hour; here its ctx ends first.)
func ExampleOnce() {
	store := memory.New()
	report := func(ctx context.Context) error {
		fmt.Println("the report of token", lock.Token(ctx))
		return nil
	}
	ran, err := keepalive.Once(context.Background(), store.Client("a"), "hourly-report", time.Hour, report)
	fmt.Println("a ran:", ran, err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	ran, err = keepalive.Once(ctx, store.Client("b"), "hourly-report", time.Hour, report)
	fmt.Println("b ran:", ran, errors.Is(err, keepalive.ErrNotRun))
	// Output:
	// the report of token 1
	// a ran: true <nil>
	// b ran: false true
}
