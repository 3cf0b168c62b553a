package rwlock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

func Example() {
	ctx := context.Background()
	rw, err := rwlock.New(memory.New(), 8)
	if err != nil {
		fmt.Println(err)
		return
	}
	one, _ := rw.Readers().TryAcquire(ctx, "catalogue", time.Minute)
	two, _ := rw.Readers().TryAcquire(ctx, "catalogue", time.Minute)
	_, err = rw.Writer().TryAcquire(ctx, "catalogue", time.Minute)
	fmt.Println("a writer beside two readers:", errors.Is(err, lock.ErrHeld))
	_, _ = one.Release(ctx), two.Release(ctx)

	writer, err := lock.Acquire(ctx, rw.Writer(), "catalogue", time.Minute, nil)
	fmt.Println("alone:", err)
	_, err = rw.Readers().TryAcquire(ctx, "catalogue", time.Minute)
	fmt.Println("a reader beside it:", errors.Is(err, lock.ErrHeld))
	_ = writer.Release(ctx)
	// Output:
	// a writer beside two readers: true
	// alone: <nil>
	// a reader beside it: true
}
