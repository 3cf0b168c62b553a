package lock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// A fleet moves from one store to another in two rolling deployments, and never stops.
func ExampleBoth() {
	ctx := context.Background()
	// For two stores that all processes share, such as redlock and Postgres.
	redis, postgres := memory.New(), memory.New()

	use := func(name string, l lock.Locker, meanwhile ...lock.Locker) {
		lease, err := lock.Acquire(ctx, l, "prices", time.Minute, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		refused := true
		for _, other := range meanwhile {
			_, err := other.TryAcquire(ctx, "prices", time.Minute)
			refused = refused && errors.Is(err, lock.ErrHeld)
		}
		fmt.Printf("%s: token %d, others are refused: %t\n", name, lease.Token(), refused)
		_ = lease.Release(ctx)
	}

	before := redis.Client("before")
	for range 3 {
		use("old", before)
	}
	// The first deployment: old and both stand side by side.
	during := lock.Both(redis.Client("during"), postgres.Client("during"))
	use("both", during, before)
	use("old", before, during)
	// When no process has the old one alone any more, the second: both and new do.
	after := postgres.Client("after")
	use("both", during, after)
	use("new", after, during)
	// Output:
	// old: token 1, others are refused: true
	// old: token 2, others are refused: true
	// old: token 3, others are refused: true
	// both: token 4, others are refused: true
	// old: token 5, others are refused: true
	// both: token 6, others are refused: true
	// new: token 7, others are refused: true
}

// A store was set up anew and has lost its counts. The resource remembers token 4711, and
// would refuse all that comes now.
func ExampleRaiseToken() {
	ctx := context.Background()
	store := memory.New()
	lease, err := store.TryAcquire(ctx, "prices", time.Minute)
	if err == nil {
		err = lock.RaiseToken(ctx, lease, 4711)
	}
	if err == nil {
		err = lease.Release(ctx)
	}
	next, _ := store.TryAcquire(ctx, "prices", time.Minute)
	fmt.Println(next.Token(), err)
	// Output: 4712 <nil>
}
