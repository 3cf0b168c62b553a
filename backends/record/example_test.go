package record_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// Two processes over one store: here one in memory, else a table, a bucket, a cluster.
func ExampleNew() {
	ctx := context.Background()
	store := recordtest.NewMemory()
	a, err := record.New(store, &record.Options{Owner: "a"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()
	b, err := record.New(store, &record.Options{Owner: "b"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()

	lease, err := a.TryAcquire(ctx, "nightly-report", 30*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = b.TryAcquire(ctx, "nightly-report", 30*time.Second)
	if held, ok := errors.AsType[*lock.HeldError](err); ok {
		fmt.Println("held by", held.Holder)
	}
	if err := lease.Release(ctx); err != nil {
		fmt.Println(err)
	}
	next, err := b.TryAcquire(ctx, "nightly-report", 30*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("a larger token:", next.Token() > lease.Token())
	// Output:
	// held by a
	// a larger token: true
}
