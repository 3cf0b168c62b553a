package lock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// A transfer needs both accounts, in whatever order its caller names them.
func ExampleAcquireAll() {
	ctx := context.Background()
	locker := &oneProcess{}

	transfer, err := lock.AcquireAll(ctx, locker, []string{"account-7", "account-2"}, time.Minute, nil)
	fmt.Println("held:", transfer.Key(), err)
	for _, lease := range transfer.Leases() { // what to send to each account's store
		fmt.Println(lease.Key(), "token", lease.Token())
	}

	_, err = lock.AcquireAll(ctx, locker, []string{"account-2", "account-9"}, time.Minute, &lock.AcquireOptions{Attempts: 1})
	fmt.Println("another is refused:", errors.Is(err, lock.ErrHeld))
	_, err = locker.TryAcquire(ctx, "account-9", time.Minute)
	fmt.Println("and has left nothing:", err)

	fmt.Println("released:", transfer.Release(ctx))
	// Output:
	// held: account-7 + account-2 <nil>
	// account-7 token 1
	// account-2 token 1
	// another is refused: true
	// and has left nothing: <nil>
	// released: <nil>
}
