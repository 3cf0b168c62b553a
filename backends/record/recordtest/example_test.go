package recordtest_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// The store is out of reach for a while, from this client.
func ExampleFaults() {
	ctx := context.Background()
	way := &recordtest.Faults{Store: recordtest.NewMemory()}
	l, err := record.New(way.Client(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	way.Outage(true)
	_, err = l.TryAcquire(ctx, "k", time.Minute)
	fmt.Println("unavailable:", errors.Is(err, lock.ErrUnavailable))
	way.Outage(false)
	_, err = l.TryAcquire(ctx, "k", time.Minute)
	fmt.Println("and back:", err)
	if err := l.Close(); err != nil {
		fmt.Println(err)
	}
	way.Drain()
	// Output:
	// unavailable: true
	// and back: <nil>
}
