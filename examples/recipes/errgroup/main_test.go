package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestOneWorkersErrorEndsAllAndFreesTheLockAfterTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, broken := memory.New(), errors.New("broken")
		err := Lead(t.Context(), store,
			func(context.Context) error { time.Sleep(time.Minute); return broken },
			func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second) // winds down
				_, err := store.Client("other").TryAcquire(context.Background(), "workers", time.Second)
				if !errors.Is(err, lock.ErrHeld) {
					t.Errorf("the lock was free while a worker ran: %v", err)
				}
				return nil
			})
		require.ErrorIs(t, err, broken)
		info, err := store.Inspect(t.Context(), "workers")
		require.NoError(t, err)
		require.Empty(t, info.Holder)
	})
}

func TestALostTermEndsTheWorkersAndTheNextTermBeginsThemAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		ctx, cancel := context.WithCancel(t.Context())
		terms := 0
		err := Lead(ctx, store, func(ctx context.Context) error {
			if terms++; terms == 2 {
				cancel()
			} else if err := store.ForceRelease(ctx, "workers", 0); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, 2, terms)
	})
}
