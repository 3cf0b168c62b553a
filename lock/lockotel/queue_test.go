package lockotel_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/lockotel"
)

func (s *scraped) requireValue(want float64, name string, labels ...string) {
	s.t.Helper()
	got, _ := s.value(name, labels...)
	require.Equal(s.t, want, got, name)
}

func TestTheQueueIsAsLongAsThereAreRequestsThatStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		store := memory.New()
		clients := make([]lock.Locker, 3) // each a process of its own
		for i := range clients {
			clients[i] = s.Observe(store.Client("c"))
		}
		s.requireValue(0, "lock_queue_waiting")
		s.requireValue(0, "lock_queue_handoffs_total")
		held, err := lock.Acquire(t.Context(), clients[0], key, time.Hour, nil)
		require.NoError(t, err)
		s.requireValue(0, "lock_queue_waiting")
		s.requireValue(0, "lock_queue_handoffs_total")

		ctx, cancel := context.WithCancel(t.Context())
		for _, l := range clients[1:] {
			for range 2 { // the second stands in the process
				go func() {
					if lease, err := lock.Acquire(ctx, l, key, time.Hour, nil); err == nil {
						time.Sleep(time.Minute)
						_ = lease.Release(context.Background())
					}
				}()
			}
		}
		synctest.Wait()
		s.requireValue(2, "lock_queue_waiting")
		require.NoError(t, held.Release(t.Context()))
		synctest.Wait()
		s.requireValue(2, "lock_queue_waiting") // the one behind it in its process follows
		s.requireValue(1, "lock_queue_handoffs_total")
		cancel()
		synctest.Wait()
		s.requireValue(0, "lock_queue_waiting")
		s.requireValue(1, "lock_queue_handoffs_total")
		time.Sleep(time.Hour)
	})
}

func TestAQueueIsNamedByTheFullKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scrape(t, lockotel.Options{KeyName: func(key string) string { return strings.Split(key, ":")[0] }})
		store := memory.New()
		held, err := store.TryAcquire(t.Context(), "tenant:a", time.Hour)
		require.NoError(t, err)
		l := s.Observe(lock.Prefix(store.Client("b"), "tenant:"))
		go func() {
			if lease, err := lock.Acquire(t.Context(), l, "a", time.Hour, nil); err == nil {
				_ = lease.Release(t.Context())
			}
		}()
		synctest.Wait()
		s.requireValue(1, "lock_queue_waiting", "lock_name", "tenant")
		require.NoError(t, held.Release(t.Context()))
		synctest.Wait()
		s.requireValue(0, "lock_queue_waiting", "lock_name", "tenant")
		s.requireValue(1, "lock_queue_handoffs_total", "lock_name", "tenant")
	})
}

// A wait whose OnWait panics is over like another.
func TestAWaitThatPanicsStandsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		store := memory.New()
		_, err := store.TryAcquire(t.Context(), key, time.Hour)
		require.NoError(t, err)
		awaiter, ok := lock.As[lock.Awaiter](s.Observe(store.Client("b")))
		require.True(t, ok)
		require.Panics(t, func() {
			_, _ = awaiter.Await(t.Context(), key, time.Hour, func(*lock.HeldError) { panic("x") })
		})
		s.requireValue(0, "lock_queue_waiting")
	})
}

// What does not queue by itself has no queue that could be long.
func TestAStoreWithoutAQueueHasNoLength(t *testing.T) {
	s := scrape(t, lockotel.Options{})
	l := s.Observe(struct{ lock.Locker }{memory.New()})
	_, ok := lock.As[lock.Awaiter](l)
	require.False(t, ok)
	require.NotContains(t, s.gather(), "lock_queue_waiting")
}

func TestAWaitIsCountedAlsoWhereNobodyWantsToKnowOfRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		store := memory.New()
		held, err := store.TryAcquire(t.Context(), key, time.Hour)
		require.NoError(t, err)
		awaiter, ok := lock.As[lock.Awaiter](s.Observe(store.Client("b")))
		require.True(t, ok)
		granted := make(chan error, 1)
		go func() {
			lease, err := awaiter.Await(t.Context(), key, time.Minute, nil)
			if err == nil {
				err = lease.Release(t.Context())
			}
			granted <- err
		}()
		synctest.Wait()
		s.requireValue(1, "lock_queue_waiting")
		require.NoError(t, held.Release(t.Context()))
		require.NoError(t, <-granted)
		s.requireValue(0, "lock_queue_waiting")
		s.requireValue(1, "lock_queue_handoffs_total")
	})
}
