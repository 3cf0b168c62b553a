package keepalive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/logtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// many keeps n leases with one logger, taken over the time of an interval. Renewals
// fail while down.
func many(t *testing.T, n int, log *slog.Logger) (all []*Keeper, down *atomic.Bool) {
	down = new(atomic.Bool)
	for range n {
		s := &store{onExtend: func(context.Context, int) error {
			if down.Load() {
				return errBroken
			}
			return nil
		}}
		all = append(all, keep(t, t.Context(), s, &Options{Logger: log}))
		time.Sleep(ttl / 2 / time.Duration(n))
	}
	return all, down
}

func TestAnOutageIsLoggedOnceHoweverManyLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logtest.Recorder)
		all, down := many(t, 800, log.Logger())
		for range 2 {
			down.Store(true)
			time.Sleep(ttl / 4)
			down.Store(false)
			time.Sleep(2 * ttl)
		}
		require.Equal(t, []string{
			"WARN renewal failed", "INFO renewed again", "WARN renewal failed", "INFO renewed again",
		}, log.All())
		require.Empty(t, outages.of, "something is kept of an outage that is over")
		for _, k := range all {
			require.NoError(t, k.Context().Err())
			require.NoError(t, k.Release(t.Context()))
		}
	})
}

func TestAnOutageThatCostsLeasesIsLoggedOnceBesidesEachLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logtest.Recorder)
		all, down := many(t, 10, log.Logger())
		down.Store(true)
		time.Sleep(2 * ttl)
		want := []string{"WARN renewal failed"}
		for range all {
			want = append(want, "ERROR lease lost")
		}
		require.Equal(t, want, log.All())
		require.Empty(t, outages.of)
	})
}

func TestAnOutageEndsWithTheLastLeaseThatItConcerns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logtest.Recorder)
		logger := log.Logger()
		a, b := &store{}, &store{}
		ka, kb := keep(t, t.Context(), a, &Options{Logger: logger}), keep(t, t.Context(), b, &Options{Logger: logger})
		a.answer(failing)
		b.answer(failing)
		time.Sleep(ttl/2 + ttl/50) // each has failed, and tries again within a tenth
		a.answer(nil)
		time.Sleep(ttl / 10)
		require.Equal(t, []string{"WARN renewal failed"}, log.All(), "b still fails")
		require.NoError(t, kb.Release(t.Context()))
		synctest.Wait()
		require.Equal(t, []string{"WARN renewal failed", "INFO renewed again"}, log.All())
		require.Empty(t, outages.of)
		require.NoError(t, ka.Release(t.Context()))
	})
}

func TestARefusalByTheStoreEndsNoHeldLeaseEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{onExtend: func(context.Context, int) error { return fmt.Errorf("%w: no permission", lock.ErrRefused) }}
		k := keep(t, t.Context(), s, nil)
		require.Equal(t, ttl-ttl/10, endsAfter(t, k.Context()))
		require.ErrorIs(t, context.Cause(k.Context()), lock.ErrLost)
		require.ErrorIs(t, context.Cause(k.Context()), lock.ErrRefused, "the loss does not say why")

		s = &store{onExtend: func(_ context.Context, n int) error {
			if n < 3 {
				return lock.ErrRefused
			}
			return nil
		}}
		k = keep(t, t.Context(), s, nil)
		time.Sleep(10 * ttl)
		require.NoError(t, k.Context().Err())
		require.NoError(t, k.Release(t.Context()))
	})
}

func TestWorkThatOutlastsDrainTimeoutIsToldSo(t *testing.T) {
	for name, opts := range map[string]*Options{
		"DrainTimeout (the ttl)": nil, "10s": {DrainTimeout: 10 * time.Second}, "0s": {DrainTimeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				err := Do(ctx, &store{}, key, ttl, func(ctx context.Context) error {
					cancel()
					time.Sleep(10 * ttl) // winding down
					return nil
				}, opts)
				require.ErrorIs(t, err, lock.ErrLost)
				require.ErrorContains(t, err, "DrainTimeout")
				if opts != nil {
					require.ErrorContains(t, err, name)
				}
			})
		})
	}
}

func TestDoReportsAFunctionThatOutlivesItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			run  time.Duration // after the loss
			want []string
		}{
			"in time": {ttl/10 - 1, []string{"WARN renewal failed", "ERROR lease lost"}},
			"late":    {ttl, []string{"WARN renewal failed", "ERROR lease lost", "ERROR the function still runs although its lease is lost"}},
		} {
			log := new(logtest.Recorder)
			var losses atomic.Int32
			err := Do(t.Context(), &store{onExtend: failing}, key, ttl, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(c.run)
				return nil
			}, &Options{Logger: log.Logger(), OnLost: func(*Keeper, error) { losses.Add(1) }})
			require.ErrorIs(t, err, lock.ErrLost)
			time.Sleep(time.Minute)
			require.Equal(t, c.want, log.All(), name)
			require.EqualValues(t, 1, losses.Load())
		}
	})
}

func TestDoLogsWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logtest.Recorder)
		theirs := 0
		opts := &Options{Logger: log.Logger(), Acquire: &lock.AcquireOptions{OnWait: func(error) { theirs++ }}}
		store := memory.New()
		other, err := store.Client("a").TryAcquire(t.Context(), key, time.Hour)
		require.NoError(t, err)
		time.AfterFunc(time.Minute, func() { store.FailNext(-1, errors.New("driver: gone")) })
		time.AfterFunc(2*time.Minute, func() {
			store.FailNext(0, nil)
			_ = other.Release(t.Context())
		})
		time.AfterFunc(61*time.Second, func() { _ = other.Release(t.Context()) }) // wakes the waiter into the outage
		require.NoError(t, Do(t.Context(), store, key, ttl, func(context.Context) error { return nil }, opts))
		require.Equal(t, []string{
			"INFO waiting: another holds it", "WARN no attempt to acquire succeeds", "INFO acquired",
		}, log.All())
		require.Equal(t, 2, theirs)

		require.NoError(t, Do(t.Context(), store, key, ttl, func(context.Context) error { return nil }, opts))
		require.Len(t, log.All(), 3, "not silent where all is well")
	})
}
