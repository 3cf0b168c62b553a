package leader_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

// A keeper's main: many copies are started, one works, the others stand by.
func ExampleRun() {
	ctx, stop := context.WithCancel(context.Background()) // or signal.NotifyContext
	defer stop()
	err := leader.Run(ctx, memory.New(), "pricing-oracle-keeper", func(ctx context.Context) error {
		fmt.Println("leading with token", lock.Token(ctx))
		stop()       // as SIGTERM would
		<-ctx.Done() // work until then, and return soon after
		return nil
	}, nil)
	fmt.Println("stopped:", err)
	// Output:
	// leading with token 1
	// stopped: <nil>
}

// "Another keeper is running, exiting": do not stand by.
func ExampleOptions_acquire() {
	ctx, store := context.Background(), memory.New()
	other, err := store.Client("host-1").TryAcquire(ctx, "pricing-oracle-keeper", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer other.Release(ctx)

	err = leader.Run(ctx, store, "pricing-oracle-keeper", func(context.Context) error { return nil },
		&leader.Options{Acquire: &lock.AcquireOptions{Attempts: 1}})
	fmt.Println(errors.Is(err, leader.ErrNotElected), errors.Is(err, lock.ErrHeld))
	// Output:
	// true true
}
