package lock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func TestStoreErrorSaysWhatADriversErrorMeans(t *testing.T) {
	ctx := t.Context()
	require.NoError(t, lock.StoreError(ctx, nil))

	hiccup := errors.New("driver: bad connection")
	for _, err := range []error{hiccup, context.DeadlineExceeded, fmt.Errorf("%w: timeout: %w", lock.ErrUnavailable, context.DeadlineExceeded)} {
		got := lock.StoreError(ctx, err)
		require.ErrorIs(t, got, lock.ErrUnavailable)
		requireNoContextError(t, got)
		require.ErrorContains(t, got, err.Error())
	}
	require.ErrorIs(t, lock.StoreError(ctx, hiccup), hiccup)
	for _, err := range []error{lock.ErrHeld, lock.ErrLost, lock.ErrRefused, lock.ErrInvalid, lock.ErrClosed} {
		err = fmt.Errorf("store: %w", err)
		require.Equal(t, err, lock.StoreError(ctx, err))
	}
}

func TestStoreErrorOfAnEndedCtxIsItsError(t *testing.T) {
	for _, cause := range []error{errors.New("shutting down"), fmt.Errorf("%w: another", lock.ErrLost), nil} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if cause == nil {
			cause = context.Canceled
		}
		for _, err := range []error{
			errors.New("driver: cut"), context.Canceled, lock.ErrUnavailable,
			fmt.Errorf("driver: %w", cause), // as net/http has it
		} {
			got := lock.StoreError(ctx, err)
			require.ErrorIs(t, got, context.Canceled)
			require.ErrorIs(t, got, cause)
			require.NotErrorIs(t, got, lock.ErrUnavailable)
			require.ErrorContains(t, got, err.Error())
		}
		require.ErrorIs(t, lock.StoreError(ctx, lock.ErrHeld), lock.ErrHeld)
	}
}

func TestTheLossOfAnotherLeaseInACtxIsNoLossOfThisOne(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	expiry := time.Now().Add(time.Hour)
	lease := lock.NewLease(lock.Grant{
		Key: "k", Token: 1, Expiry: expiry,
		Extend: func(ctx context.Context, _ time.Duration) (time.Time, error) {
			cancel(fmt.Errorf("%w: another", lock.ErrLost))
			return time.Time{}, lock.ContextError(ctx) // as a backend has it
		},
		Release: func(context.Context) error { return nil },
	})
	err := lease.Extend(ctx, time.Hour)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, lock.ErrLost)
	require.Equal(t, expiry, lease.Expiry())
	require.NoError(t, lease.Release(ctx))
}

func TestAnExtendedExpiryByTheWallClockIsRefused(t *testing.T) {
	expiry := time.Now().Add(time.Hour)
	lease := lock.NewLease(lock.Grant{
		Key: "k", Token: 1, Expiry: expiry,
		Extend: func(_ context.Context, ttl time.Duration) (time.Time, error) {
			return time.Now().Add(ttl).Round(0), nil // as parsed from a store's answer
		},
		Release: func(context.Context) error { return nil },
	})
	err := lease.Extend(t.Context(), 2*time.Hour)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "monotonic")
	require.NotErrorIs(t, err, lock.ErrLost)
	require.Equal(t, expiry, lease.Expiry())
}
