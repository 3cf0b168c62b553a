package backends_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/lock"
)

// A program whose user names the store.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	// $LOCKS: memory:, file:///run/keeper/locks, redlock://user:password@h1,h2,h3?node-timeout=500ms
	locker, err := backends.Open(ctx, "file://"+filepath.Join(dir, "locks"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if c, ok := lock.As[io.Closer](locker); ok {
		defer c.Close()
	}
	lease, err := locker.TryAcquire(ctx, "prices", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("have", lease.Key())
	fmt.Println("released:", lease.Release(ctx))

	_, err = backends.Open(ctx, "zookeeper://h1")
	fmt.Println("another:", errors.Is(err, lock.ErrInvalid))
	// Output:
	// have prices
	// released: <nil>
	// another: true
}
