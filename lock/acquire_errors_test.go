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

func always1(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

func TestAcquireEndsAtOnceOnAnErrorThatAskingAgainCantMend(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		for _, answer := range []error{lock.ErrClosed, lock.ErrInvalid, lock.ErrRefused} {
			f := &fakeLocker{try: always(fmt.Errorf("store: %w", answer))}
			_, err := lock.Acquire(t.Context(), f, "k", ttl, nil)
			require.ErrorIs(t, err, answer)
			require.Len(t, f.attempts, 1)
		}
	})
}

func TestAcquireTakesAnErrorThatNobodyKnowsForAnOutage(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		hiccup := errors.New("driver: bad connection")
		f := &fakeLocker{try: until(3, hiccup)}
		_, err := lock.Acquire(t.Context(), f, "k", ttl, nil)
		require.NoError(t, err)
		require.Len(t, f.attempts, 3)

		f = &fakeLocker{try: always(hiccup)}
		_, err = lock.Acquire(t.Context(), f, "k", ttl, &lock.AcquireOptions{Timeout: time.Second})
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorIs(t, err, hiccup)
		require.Greater(t, len(f.attempts), 2)

		f = &fakeLocker{try: always(hiccup)}
		_, err = lock.Acquire(t.Context(), f, "k", ttl, &lock.AcquireOptions{Attempts: 1})
		require.ErrorIs(t, err, hiccup)
		require.Len(t, f.attempts, 1)
	})
}

// queueLocker is a fakeLocker with waiters, which know that it has granted.
type queueLocker struct {
	fakeLocker
	lock.Waiters
}

func TestARefusalAfterTheFirstSuccessIsAnOutage(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		l := &queueLocker{}
		refusing := false
		l.try = func(_ context.Context, n int) error {
			if refusing && n%5 < 2 {
				return fmt.Errorf("%w: no permission", lock.ErrRefused)
			}
			return nil
		}
		refusing = true
		l.attempts = make([]time.Time, 5) // the next one is refused
		_, err := lock.Acquire(t.Context(), l, "k", ttl, nil)
		require.ErrorIs(t, err, lock.ErrRefused, "before the first success it is final")
		require.Len(t, l.attempts, 6)

		refusing = false
		_, err = lock.Acquire(t.Context(), l, "k", ttl, nil)
		require.NoError(t, err)
		refusing = true
		for _, through := range []lock.Locker{l, lock.Prefix(l, "p"), lock.Semaphore(l, 2), lock.Observe(l, func(lock.Event) {})} {
			_, err = lock.Acquire(t.Context(), through, "k", ttl, nil)
			require.NoError(t, err, "%T", through)
		}
		_, err = lock.AcquireAll(t.Context(), l, []string{"a", "b"}, ttl, nil)
		require.NoError(t, err)
	})
}

func TestAcquireTakesATimeoutOfTheStoresOwnForAnOutage(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		f := &fakeLocker{try: until(3, context.DeadlineExceeded)}
		_, err := lock.Acquire(t.Context(), f, "k", ttl, nil)
		require.NoError(t, err)
		require.Len(t, f.attempts, 3)
	})
}
