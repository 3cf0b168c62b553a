package lock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// At most two workers of a fleet run a migration at once.
func ExampleSemaphore() {
	ctx := context.Background()
	workers := lock.Semaphore(&oneProcess{}, 2)

	first, _ := workers.TryAcquire(ctx, "migration", time.Minute)
	second, _ := workers.TryAcquire(ctx, "migration", time.Minute)
	fmt.Println("two slots:", first.Key() != second.Key())

	_, err := workers.TryAcquire(ctx, "migration", time.Minute)
	if held, ok := errors.AsType[*lock.HeldError](err); ok {
		fmt.Println("full:", held.Key)
	}

	_ = first.Release(ctx)
	third, _ := workers.TryAcquire(ctx, "migration", time.Minute)
	// Tokens are those of the slot: what they fence is the slot's own.
	fmt.Println("the same slot:", third.Key() == first.Key())
	fmt.Println("a larger token:", third.Token() > first.Token())
	// Output:
	// two slots: true
	// full: migration
	// the same slot: true
	// a larger token: true
}

// A slot's number chooses what it works on, so that its token can fence that.
func ExampleSlotOf() {
	for _, name := range []string{"crawl", "crawl;slot=3"} {
		key, slot := lock.SlotOf(name)
		fmt.Printf("%s: slot %d of %s\n", name, slot, key)
	}
	// Output:
	// crawl: slot 1 of crawl
	// crawl;slot=3: slot 3 of crawl
}
