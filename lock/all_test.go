package lock_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// scripted is a store of its own whose answers a test can change, by key.
type scripted struct {
	before  func(key string)       // each attempt
	refuse  func(key string) error // nil: granted
	extend  func(key string) error // nil: extended
	release func(key string) error // nil: released
	grudges bool                   // an extend gets a quarter of its ttl

	mu    sync.Mutex // guards all below
	asked []string
	held  map[string]int // how many leases
}

func (s *scripted) TryAcquire(_ context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	s.mu.Lock()
	s.asked = append(s.asked, key)
	s.mu.Unlock()
	if s.before != nil {
		s.before(key)
	}
	expiry := time.Now().Add(ttl)
	if s.refuse != nil {
		if err := s.refuse(key); err != nil {
			return nil, err
		}
	}
	s.add(key, 1)
	call := func(f func(string) error) error {
		if f == nil {
			return nil
		}
		return f(key)
	}
	return new(store).lease(func(g *lock.Grant) {
		g.Key, g.Expiry = key, expiry
		g.Extend = func(_ context.Context, ttl time.Duration) (time.Time, error) {
			start := time.Now()
			err := call(s.extend)
			if s.grudges {
				ttl /= 4
			}
			return start.Add(ttl), err
		}
		g.Release = func(context.Context) error {
			err := call(s.release)
			if err == nil {
				s.add(key, -1)
			}
			return err
		}
	}), nil
}

func (s *scripted) add(key string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = map[string]int{}
	}
	if s.held[key] += n; s.held[key] == 0 {
		delete(s.held, key)
	}
}

func (s *scripted) requireNothingHeld(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Empty(t, s.held)
}

func TestAcquireAllRefusesBadInputBeforeAnyIO(t *testing.T) {
	s := &scripted{}
	for says, c := range map[string]struct {
		keys []string
		ttl  time.Duration
		opts *lock.AcquireOptions
	}{
		"no keys, want 1 or more": {nil, ttl, nil},
		"key is empty":            {[]string{"a", ""}, ttl, nil},
		"ttl is 0s":               {[]string{"a"}, 0, nil},
		"Attempts is -1":          {[]string{"a"}, ttl, &lock.AcquireOptions{Attempts: -1}},
	} {
		set, err := lock.AcquireAll(t.Context(), s, c.keys, c.ttl, c.opts)
		require.ErrorIs(t, err, lock.ErrInvalid)
		require.ErrorContains(t, err, says)
		require.Nil(t, set)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := lock.AcquireAll(ended, s, []string{"a"}, ttl, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, s.asked)
}

func TestAcquireAll(t *testing.T) {
	bubble("TriesInTheOrderOfNamesAndTellsInTheOrderGiven", t, func(t *testing.T) {
		s := &scripted{}
		set, err := lock.AcquireAll(t.Context(), s, []string{"c", "a", "c", "b", "a"}, ttl, nil)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b", "c"}, s.asked)
		require.Equal(t, "c + a + b", set.Key())
		require.NoError(t, set.Release(t.Context()))
		s.requireNothingHeld(t)
	})
	bubble("HoldsNothingWhileItWaits", t, func(t *testing.T) {
		l := memory.New()
		other, err := l.TryAcquire(t.Context(), "b", time.Hour)
		require.NoError(t, err)
		type result struct {
			set *lock.Set
			err error
		}
		done := make(chan result, 1)
		go func() {
			set, err := lock.AcquireAll(t.Context(), l, []string{"a", "b", "c"}, time.Hour, nil)
			done <- result{set, err}
		}()
		for range 10 {
			time.Sleep(time.Second)
			for _, key := range []string{"a", "c"} {
				lease, err := l.TryAcquire(t.Context(), key, time.Hour)
				require.NoError(t, err, key)
				require.NoError(t, lease.Release(t.Context()))
			}
		}
		begun := time.Now()
		require.NoError(t, other.Release(t.Context()))
		got := <-done
		require.NoError(t, got.err)
		require.Zero(t, time.Since(begun), "the release woke it, and nobody was in the way")
		require.Equal(t, time.Now().Add(time.Hour), got.set.Expiry())
	})
	bubble("StandsInTheLineOfTheRefusedKey", t, func(t *testing.T) {
		l := memory.New()
		first, err := l.TryAcquire(t.Context(), "b", time.Hour)
		require.NoError(t, err)
		var mu sync.Mutex // guards got
		var got []int
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				var lease lock.Lease
				var err error
				if i%2 == 0 {
					lease, err = lock.Acquire(t.Context(), l, "b", time.Hour, nil)
				} else {
					// No other wants its second key, so that no round is lost.
					lease, err = lock.AcquireAll(t.Context(), l, []string{"b", fmt.Sprint("own", i)}, time.Hour, nil)
				}
				if err != nil {
					t.Errorf("waiter %d: %v", i, err)
					return
				}
				mu.Lock()
				got = append(got, i)
				mu.Unlock()
				time.Sleep(time.Second)
				if err := lease.Release(t.Context()); err != nil {
					t.Errorf("release %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		require.NoError(t, first.Release(t.Context()))
		wg.Wait()
		require.Equal(t, []int{0, 1, 2, 3, 4, 5}, got)
	})
	bubble("GoesOnOverAnOutage", t, func(t *testing.T) {
		l := memory.New()
		l.FailNext(-1, nil)
		time.AfterFunc(10*time.Second, func() { l.FailNext(0, nil) })
		set, err := lock.AcquireAll(t.Context(), l, []string{"a", "b"}, time.Hour, nil)
		require.NoError(t, err)
		require.NoError(t, set.Release(t.Context()))
	})
	for _, final := range []error{lock.ErrClosed, lock.ErrInvalid, lock.ErrRefused} {
		bubble("EndsWhereAskingAgainCanNotHelp/"+final.Error(), t, func(t *testing.T) {
			s := &scripted{refuse: func(key string) error {
				if key == "b" {
					return final
				}
				return nil
			}}
			_, err := lock.AcquireAll(t.Context(), s, []string{"a", "b"}, ttl, nil)
			require.ErrorIs(t, err, final)
			require.Equal(t, []string{"a", "b"}, s.asked)
			s.requireNothingHeld(t)

			s.asked, s.refuse = nil, func(key string) error { // while it waits
				switch {
				case key == "a":
					return nil
				case len(s.asked) < 5:
					return held
				}
				return final
			}
			_, err = lock.AcquireAll(t.Context(), s, []string{"a", "b"}, ttl, nil)
			require.ErrorIs(t, err, final)
			require.Equal(t, []string{"a", "b", "b", "b", "b"}, s.asked)
			s.requireNothingHeld(t)
		})
	}
}

func TestAcquireAllIsBounded(t *testing.T) {
	refuse := func(key string) error {
		if key == "b" {
			return &lock.HeldError{Key: key, Holder: "host-1", RetryAfter: time.Hour}
		}
		return nil
	}
	keys := []string{"a", "b", "c"}
	bubble("ByAttemptsWhichAreRounds", t, func(t *testing.T) {
		var at []time.Duration
		begun := time.Now()
		s := &scripted{refuse: refuse, before: func(string) { at = append(at, time.Since(begun)) }}
		_, err := lock.AcquireAll(t.Context(), s, keys, ttl, &lock.AcquireOptions{Attempts: 3, Delay: time.Second, Jitter: -1})
		require.ErrorIs(t, err, lock.ErrHeld)
		requireNoContextError(t, err)
		require.EqualError(t, err, `lock: acquire all of 3 keys: gave up after round 3 of 3: lock: "b" is held by host-1, free in 1h0m0s at the latest unless renewed`)
		require.Equal(t, []string{"a", "b", "a", "b", "a", "b"}, s.asked)
		require.Equal(t, []time.Duration{0, 0, time.Second, time.Second, 2 * time.Second, 2 * time.Second}, at)
		s.requireNothingHeld(t)
	})
	bubble("ByTimeout", t, func(t *testing.T) {
		s := &scripted{refuse: refuse}
		begun := time.Now()
		_, err := lock.AcquireAll(t.Context(), s, keys, ttl, &lock.AcquireOptions{Timeout: 3 * time.Second, Jitter: -1})
		require.ErrorIs(t, err, lock.ErrHeld)
		requireNoContextError(t, err)
		require.ErrorContains(t, err, "no lease within the timeout of 3s")
		require.Equal(t, 3*time.Second, time.Since(begun))
		s.requireNothingHeld(t)
	})
	bubble("ByATimeoutInTheMiddleOfARound", t, func(t *testing.T) {
		for _, refuses := range []bool{true, false} { // what it says of the key, too late
			s := &scripted{before: func(string) { time.Sleep(time.Second) }}
			s.refuse = func(string) error {
				switch {
				case len(s.asked) < 3:
					return nil
				case refuses:
					return context.DeadlineExceeded
				}
				return errStore
			}
			_, err := lock.AcquireAll(t.Context(), s, keys, ttl, &lock.AcquireOptions{Timeout: 2500 * time.Millisecond})
			require.ErrorIs(t, err, lock.ErrUnavailable)
			requireNoContextError(t, err)
			s.requireNothingHeld(t)
		}
	})
	bubble("ByCtxWhichSaysBoth", t, func(t *testing.T) {
		s := &scripted{refuse: refuse}
		cause := errors.New("shutting down")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, cause)
		defer cancel()
		begun := time.Now()
		_, err := lock.AcquireAll(ctx, s, keys, ttl, nil)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, cause)
		require.Equal(t, 3*time.Second, time.Since(begun))
		s.requireNothingHeld(t)
	})
	bubble("ByCtxWhileItStepsAside", t, func(t *testing.T) {
		for range 10 { // a step of up to half a second each time
			ctx, cancel := context.WithCancel(t.Context())
			var cancelled time.Time
			s := &scripted{before: func(string) { time.Sleep(time.Second) }}
			s.refuse = func(key string) error {
				if key == "b" {
					time.AfterFunc(time.Microsecond, func() { cancelled = time.Now(); cancel() })
					return held
				}
				return nil
			}
			_, err := lock.AcquireAll(ctx, s, keys, ttl, nil)
			require.ErrorIs(t, err, lock.ErrHeld)
			require.ErrorIs(t, err, context.Canceled)
			require.Zero(t, time.Since(cancelled))
			s.requireNothingHeld(t)
		}
	})
}

func TestACancelledAcquireAllGivesALateGrantBack(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &scripted{before: func(key string) {
			if key == "c" {
				cancel()
			}
		}}
		set, err := lock.AcquireAll(ctx, s, []string{"a", "b", "c"}, ttl, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, set)
		require.Len(t, s.asked, 3)
		s.requireNothingHeld(t)
	})
}
