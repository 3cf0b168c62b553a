package lock_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// byKey grants a key or not.
type byKey func(key string) error

func (b byKey) TryAcquire(_ context.Context, key string, _ time.Duration) (lock.Lease, error) {
	if err := b(key); err != nil {
		return nil, fmt.Errorf("try %q: %w", key, err)
	}
	return new(store).lease(func(g *lock.Grant) { g.Key = key }), nil
}

// queued is a store that queues by itself.
type queued struct{ byKey }

func (q queued) Await(ctx context.Context, key string, ttl time.Duration, _ func(*lock.HeldError)) (lock.Lease, error) {
	return q.TryAcquire(ctx, key, ttl)
}

func TestASlotThatCanNotBeAsked(t *testing.T) {
	down := fmt.Errorf("%w: damaged record", lock.ErrUnavailable)
	try := func(n int, answers map[string]error) (asked int, err error) {
		l := lock.Semaphore(byKey(func(key string) error {
			asked++
			return answers[key]
		}), n)
		_, err = l.TryAcquire(t.Context(), "k", ttl)
		return asked, err
	}
	t.Run("IsPassedOver", func(t *testing.T) {
		for range 20 {
			_, err := try(3, map[string]error{"k": down, "k;slot=2": held})
			require.NoError(t, err)
		}
	})
	t.Run("LeavesItUnknownWhetherAllAreHeld", func(t *testing.T) {
		for range 20 {
			asked, err := try(3, map[string]error{"k": down, "k;slot=2": held, "k;slot=3": held})
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.NotErrorIs(t, err, lock.ErrHeld)
			require.ErrorContains(t, err, `"k": 2 of 3 are held, and one can't be asked`)
			require.Equal(t, 3, asked)
		}
	})
	t.Run("EndsTheAttemptIfItIsTheSecond", func(t *testing.T) {
		asked, err := try(100, maps.Collect(func(yield func(string, error) bool) {
			yield("k", down)
			for i := range 99 {
				yield(fmt.Sprintf("k;slot=%d", i+2), down)
			}
		}))
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.Equal(t, 2, asked)
	})
	t.Run("IsOneWhoseErrorNobodyKnowsToo", func(t *testing.T) {
		for _, unknown := range []error{errStore, lock.ErrLost, context.Canceled, context.DeadlineExceeded} { // of the store's own
			for range 20 {
				_, err := try(3, map[string]error{"k": unknown, "k;slot=2": held})
				require.NoError(t, err)

				_, err = try(3, map[string]error{"k": unknown, "k;slot=2": held, "k;slot=3": held})
				require.ErrorIs(t, err, lock.ErrUnavailable)
				require.NotErrorIs(t, err, lock.ErrHeld)
				require.False(t, errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
				require.ErrorContains(t, err, `2 of 3 are held, and one can't be asked`)
				require.ErrorContains(t, err, unknown.Error())

				asked, err := try(3, map[string]error{"k": unknown, "k;slot=2": unknown, "k;slot=3": unknown})
				require.ErrorIs(t, err, lock.ErrUnavailable)
				require.Equal(t, 2, asked)
			}
		}
	})
	t.Run("IsOneThatRefusesWhatASlotHasDoneBefore", func(t *testing.T) {
		refusal := fmt.Errorf("%w: no permission", lock.ErrRefused)
		answers := map[string]error{"k": refusal, "k;slot=2": refusal}
		l := lock.Semaphore(byKey(func(key string) error { return answers[key] }), 2)
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrRefused)
		require.NotErrorIs(t, err, lock.ErrUnavailable, "nothing has ever been granted")

		answers = map[string]error{}
		_, err = l.TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		answers = map[string]error{"k": refusal}
		for range 20 {
			_, err = l.TryAcquire(t.Context(), "k", ttl)
			require.NoError(t, err)
		}
		answers["k;slot=2"] = held
		_, err = l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "no permission")
	})
	t.Run("IsOneThatRefusesAfterALeaseThatWasAwaited", func(t *testing.T) {
		for n := 1; n <= 3; n++ {
			var answer error
			l := lock.Semaphore(queued{func(string) error { return answer }}, n)
			a, ok := lock.As[lock.Awaiter](l)
			require.True(t, ok)
			_, err := a.Await(t.Context(), "k", ttl, nil)
			require.NoError(t, err)
			answer = lock.ErrRefused
			_, err = l.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrUnavailable, n)
		}
	})
	for _, final := range []error{lock.ErrClosed, lock.ErrInvalid, lock.ErrRefused} {
		asked, err := try(5, map[string]error{"k": final, "k;slot=2": final, "k;slot=3": final, "k;slot=4": final, "k;slot=5": final})
		require.ErrorIs(t, err, final)
		require.Equal(t, 1, asked)
	}
}

func TestTheEndOfCtxEndsTheLoopOverSlots(t *testing.T) {
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := 0
	l := lock.Semaphore(byKey(func(string) error { // one that does not look at its ctx
		if asked++; asked == 2 {
			cancel(cause)
		}
		return held
	}), 5)
	_, err := l.TryAcquire(ctx, "k", ttl)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, cause)
	require.NotErrorIs(t, err, lock.ErrHeld)
	require.ErrorContains(t, err, "after 2 of 5 slots")
	require.Equal(t, 2, asked)
}

// A store may return the cause of ctx as an error of its own: that is no outage of a slot.
func TestTheCauseOfCtxIsNoOutageOfASlot(t *testing.T) {
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	l := lock.Semaphore(byKey(func(string) error { cancel(cause); return cause }), 1)
	_, err := l.TryAcquire(ctx, "k", ttl)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, cause)
	require.NotErrorIs(t, err, lock.ErrUnavailable)
}
