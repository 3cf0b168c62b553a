package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// updatePrice is the code under test: it takes any Locker, Redis in production.
func updatePrice(ctx context.Context, l lock.Locker) (string, error) {
	lease, err := l.TryAcquire(ctx, "price", 30*time.Second)
	if errors.Is(err, lock.ErrHeld) {
		return "somebody else is at it", nil
	}
	if err != nil {
		return "", err
	}
	defer lease.Release(ctx)
	return "updated", nil
}

// A unit test of updatePrice, on fake time: the half minute passes at once.
func TestUpdatePriceGoesOnAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		us := memory.New().Client("us")
		them := us.Client("them")
		_, err := them.TryAcquire(t.Context(), "price", 30*time.Second) // and then they crash
		require.NoError(t, err)

		result, err := updatePrice(t.Context(), us)
		require.NoError(t, err)
		require.Equal(t, "somebody else is at it", result)

		time.Sleep(30 * time.Second)
		result, err = updatePrice(t.Context(), us)
		require.NoError(t, err)
		require.Equal(t, "updated", result)
	})
}

func ExampleLocker_Client() {
	ctx := context.Background()
	anna := memory.New().Client("anna")
	ben := anna.Client("ben")
	lease, _ := anna.TryAcquire(ctx, "price", time.Minute)
	_, err := ben.TryAcquire(ctx, "price", time.Minute)
	held, _ := errors.AsType[*lock.HeldError](err)
	fmt.Println("held by", held.Holder, "with token", lease.Token())
	// Output: held by anna with token 1
}

func ExampleLocker_FailNext() {
	ctx := context.Background()
	l := memory.New()
	l.FailNext(1, lock.ErrUnavailable)
	_, err := updatePrice(ctx, l)
	fmt.Println(errors.Is(err, lock.ErrUnavailable))
	result, err := updatePrice(ctx, l)
	fmt.Println(result, err)
	// Output:
	// true
	// updated <nil>
}
