package keepalive

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestDo(t *testing.T) {
	errWork := errors.New("work failed")
	releases := func(s *store) int { _, _, n := s.seen(); return n }

	bubble(t, "ReleasesAfterFnReturned", func(t *testing.T) {
		for _, want := range []error{nil, errWork} {
			s := &store{}
			err := Do(t.Context(), s, key, ttl, func(ctx context.Context) error {
				time.Sleep(time.Minute)
				require.NoError(t, ctx.Err())
				require.EqualValues(t, token, lock.Token(ctx))
				require.Zero(t, releases(s))
				return want
			}, nil)
			require.Equal(t, want, err)
			require.Equal(t, 1, releases(s))
		}
	})

	bubble(t, "LossIsAnErrorEvenIfFnReturnedNil", func(t *testing.T) {
		s := &store{onExtend: failing}
		err := Do(t.Context(), s, key, ttl, func(ctx context.Context) error { <-ctx.Done(); return nil }, nil)
		require.ErrorIs(t, err, lock.ErrLost)
		require.ErrorIs(t, err, errBroken)
		require.Equal(t, 1, releases(s))
	})

	bubble(t, "LossIsJoinedWithFnsError", func(t *testing.T) {
		s := &store{onExtend: failing}
		err := Do(t.Context(), s, key, ttl, func(ctx context.Context) error { <-ctx.Done(); return errWork }, nil)
		require.ErrorIs(t, err, lock.ErrLost)
		require.ErrorIs(t, err, errWork)

		var cause error
		err = Do(t.Context(), s, key, ttl, func(ctx context.Context) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return cause
		}, nil)
		require.Equal(t, cause, err) // not said twice
	})

	bubble(t, "FnThatDoesNotLookLearnsOfTheLossAfterwards", func(t *testing.T) {
		s := &store{onExtend: failing}
		err := Do(t.Context(), s, key, ttl, func(context.Context) error { time.Sleep(time.Hour); return nil }, nil)
		require.ErrorIs(t, err, lock.ErrLost)
	})

	bubble(t, "LossWhileDrainingIsAnError", func(t *testing.T) {
		s := &store{}
		ctx, cancel := context.WithCancel(t.Context())
		err := Do(ctx, s, key, ttl, func(context.Context) error { cancel(); time.Sleep(time.Hour); return nil }, nil)
		require.ErrorIs(t, err, lock.ErrLost)
	})

	bubble(t, "DrainsUnderTheLock", func(t *testing.T) {
		s := &store{}
		ctx, cancel := context.WithCancel(t.Context())
		err := Do(ctx, s, key, ttl, func(ctx context.Context) error {
			cancel()
			<-ctx.Done()
			time.Sleep(ttl + ttl/4)
			require.Zero(t, releases(s))
			return nil
		}, nil)
		require.NoError(t, err)
		require.Equal(t, 1, releases(s))
	})

	bubble(t, "PanicReleasesThenGoesOn", func(t *testing.T) {
		s := &store{}
		require.PanicsWithValue(t, "boom", func() {
			_ = Do(t.Context(), s, key, ttl, func(context.Context) error { panic("boom") }, nil)
		})
		require.Equal(t, 1, releases(s))
	})

	bubble(t, "GoexitReleases", func(t *testing.T) {
		s := &store{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = Do(t.Context(), s, key, ttl, func(context.Context) error { runtime.Goexit(); return nil }, nil)
		}()
		<-done
		require.Equal(t, 1, releases(s))
	})

	bubble(t, "FailedReleaseIsAnErrorButNoLoss", func(t *testing.T) {
		s := &store{onRelease: func() error { return lock.ErrUnavailable }}
		err := Do(t.Context(), s, key, ttl, func(context.Context) error { return nil }, nil)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.NotErrorIs(t, err, lock.ErrLost)
		err = Do(t.Context(), s, key, ttl, func(context.Context) error { return errWork }, nil)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorIs(t, err, errWork)
	})

	bubble(t, "AcquireOptionsBoundTheWait", func(t *testing.T) {
		s := &store{onAcquire: func() error { return &lock.HeldError{Key: key} }}
		ran := false
		err := Do(t.Context(), s, key, ttl, func(context.Context) error { ran = true; return nil },
			&Options{Acquire: &lock.AcquireOptions{Attempts: 2}})
		require.ErrorIs(t, err, lock.ErrHeld)
		require.False(t, ran)
	})

	bubble(t, "LeaseWithNoTimeLeftIsReleasedAndFnDoesNotRun", func(t *testing.T) {
		s := &store{}
		err := Do(t.Context(), late{s}, key, ttl, func(context.Context) error { panic("ran") }, nil)
		require.ErrorIs(t, err, lock.ErrLost)
		require.Equal(t, 1, releases(s))
	})

	t.Run("RefusesBadInputBeforeAnyIO", func(t *testing.T) {
		s := &store{onAcquire: func() error { t.Error("asked the store"); return nil }}
		fn := func(context.Context) error { t.Error("ran"); return nil }
		require.ErrorIs(t, Do(t.Context(), nil, key, ttl, fn, nil), lock.ErrInvalid)
		require.ErrorIs(t, Do(t.Context(), s, "", ttl, fn, nil), lock.ErrInvalid)
		err := Do(t.Context(), s, strings.Repeat("k", 1<<20), ttl, fn, nil)
		require.ErrorIs(t, err, lock.ErrInvalid)
		require.Less(t, len(err.Error()), 200)
		require.ErrorIs(t, Do(t.Context(), s, key, 0, fn, nil), lock.ErrInvalid)
		require.ErrorIs(t, Do(t.Context(), s, key, ttl, nil, nil), lock.ErrInvalid)
		require.ErrorIs(t, Do(t.Context(), s, key, ttl, fn, &Options{Acquire: &lock.AcquireOptions{Jitter: 2}}), lock.ErrInvalid)
	})
}

// late answers when its leases are over.
type late struct{ *store }

func (l late) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	lease, err := l.store.TryAcquire(ctx, key, ttl)
	time.Sleep(ttl)
	return lease, err
}
