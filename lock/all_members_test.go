package lock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestWhatAcquireAllCouldNotReleaseIsToldAndTriedAgain(t *testing.T) {
	down := fmt.Errorf("%w: down: %w", lock.ErrUnavailable, context.DeadlineExceeded)
	refuse := func(key string) error {
		if key == "c" {
			return held
		}
		return nil
	}
	bubble("AtTheEnd", t, func(t *testing.T) {
		s := &scripted{refuse: refuse, release: func(key string) error {
			if key == "b" {
				return down
			}
			return nil
		}}
		_, err := lock.AcquireAll(t.Context(), s, []string{"a", "b", "c"}, ttl, &lock.AcquireOptions{Attempts: 1})
		require.ErrorIs(t, err, lock.ErrHeld)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		requireNoContextError(t, err)
		require.ErrorContains(t, err, `what could not be released stays until it expires: lock: release "b"`)
		require.Equal(t, map[string]int{"b": 1}, s.held)
	})
	bubble("InEachRound", t, func(t *testing.T) {
		var tries atomic.Int32 // releases come at once
		s := &scripted{refuse: refuse, release: func(key string) error {
			if key == "b" && tries.Add(1) <= 2 {
				return down
			}
			return nil
		}}
		_, err := lock.AcquireAll(t.Context(), s, []string{"a", "b", "c"}, ttl, &lock.AcquireOptions{Attempts: 3})
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NotErrorIs(t, err, lock.ErrUnavailable)
		require.GreaterOrEqual(t, tries.Load(), int32(3))
		s.requireNothingHeld(t)
	})
	bubble("ButNotIfItIsLost", t, func(t *testing.T) {
		s := &scripted{refuse: refuse, release: func(string) error { return lock.ErrLost }}
		_, err := lock.AcquireAll(t.Context(), s, []string{"a", "b", "c"}, ttl, &lock.AcquireOptions{Attempts: 1})
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NotErrorIs(t, err, lock.ErrLost)
		require.NotContains(t, err.Error(), "released")
	})
}

func TestASetHasAtLeastHalfTheTTLLeft(t *testing.T) {
	var keys []string
	for i := range 12 {
		keys = append(keys, fmt.Sprintf("%02d", i))
	}
	bubble("LeasesThatAgeAreExtended", t, func(t *testing.T) {
		var extended atomic.Int32
		s := &scripted{before: func(string) { time.Sleep(ttl / 10) }}
		s.extend = func(string) error { extended.Add(1); return nil }
		set, err := lock.AcquireAll(t.Context(), s, keys, ttl, nil)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Until(set.Expiry()), ttl/2)
		require.Positive(t, extended.Load())
		require.Len(t, s.asked, len(keys)) // one round was enough
		for _, lease := range set.Leases() {
			require.False(t, lease.Expiry().Before(set.Expiry()))
		}
	})
	bubble("OneThatIsLostMeanwhileCostsARound", t, func(t *testing.T) {
		var losses atomic.Int32
		s := &scripted{before: func(string) { time.Sleep(ttl / 10) }}
		s.extend = func(key string) error {
			if key == "03" && losses.CompareAndSwap(0, 1) {
				return lock.ErrLost
			}
			return nil
		}
		set, err := lock.AcquireAll(t.Context(), s, keys, ttl, nil)
		require.NoError(t, err)
		require.Equal(t, int32(1), losses.Load())
		require.GreaterOrEqual(t, time.Until(set.Expiry()), ttl/2)
		require.NoError(t, set.Release(t.Context()))
		delete(s.held, "03") // the store had dropped the lost one
		s.requireNothingHeld(t)
	})
	for _, c := range []struct {
		name   string
		extend error
		want   error
	}{
		{"ALossIsNoneOfTheCallers", lock.ErrLost, lock.ErrUnavailable},
		{"AnExtendThatFailsCostsARound", errStore, lock.ErrUnavailable},
		{"AClosedLockerEndsIt", lock.ErrClosed, lock.ErrClosed},
	} {
		bubble(c.name, t, func(t *testing.T) {
			s := &scripted{before: func(string) { time.Sleep(ttl / 10) }}
			s.extend = func(string) error { return c.extend }
			_, err := lock.AcquireAll(t.Context(), s, keys, ttl, &lock.AcquireOptions{Attempts: 2})
			require.ErrorIs(t, err, c.want)
			require.NotErrorIs(t, err, lock.ErrLost)
			require.Equal(t, c.want != lock.ErrUnavailable, !errors.Is(err, lock.ErrUnavailable))
			s.requireNothingHeld(t)
		})
	}
	bubble("AStoreTooSlowForTheTTLIsUnavailable", t, func(t *testing.T) {
		// Each is fresh when it comes, and too old when the next one has come.
		slow := func(string) error { time.Sleep(ttl * 6 / 10); return nil }
		s := &scripted{before: func(key string) { _ = slow(key) }, extend: slow}
		begun := time.Now()
		_, err := lock.AcquireAll(t.Context(), s, keys, ttl, &lock.AcquireOptions{Timeout: 10 * ttl})
		require.ErrorIs(t, err, lock.ErrUnavailable)
		requireNoContextError(t, err)
		require.LessOrEqual(t, time.Since(begun), 11*ttl)

		s = &scripted{before: func(key string) { _ = slow(key) }, grudges: true}
		_, err = lock.AcquireAll(t.Context(), s, keys, ttl, &lock.AcquireOptions{Attempts: 2})
		require.ErrorContains(t, err, "too slow for a ttl of 10s")
		s.requireNothingHeld(t)
	})
	bubble("ACtxThatEndsDuringAnExtendEndsIt", t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &scripted{before: func(string) { time.Sleep(ttl / 10) }}
		s.extend = func(string) error { cancel(); return errStore }
		_, err := lock.AcquireAll(ctx, s, keys, ttl, nil)
		require.ErrorIs(t, err, context.Canceled)
		s.requireNothingHeld(t)
	})
}

// Callers of some of few keys, in random orders, over a store with a round trip:
// all get through, nobody shares a key, and nothing stays.
func TestCallersOfTheSameKeysInAnyOrderAllGetThrough(t *testing.T) {
	keys := []string{"a", "b", "c", "d"}
	for run := range 15 {
		bubble(fmt.Sprint(run), t, func(t *testing.T) {
			var mu sync.Mutex // guards inside
			inside := map[string]int{}
			base := memory.New()
			var wg sync.WaitGroup
			for i := range 8 {
				l := base.Client(fmt.Sprint(i)) // as in processes of their own
				l.Delay(time.Duration(run%3) * 500 * time.Microsecond)
				wg.Go(func() {
					for range 5 {
						mine := slices.Clone(keys)
						rand.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
						mine = mine[:2+rand.IntN(3)]
						set, err := lock.AcquireAll(t.Context(), l, mine, time.Hour, nil)
						if err != nil {
							t.Errorf("%v: %v", mine, err)
							return
						}
						count := func(n int) {
							mu.Lock()
							defer mu.Unlock()
							for _, key := range mine {
								if inside[key] += n; inside[key] > 1 {
									t.Errorf("%d are inside %q", inside[key], key)
								}
							}
						}
						count(1)
						time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
						count(-1)
						if err := set.Release(t.Context()); err != nil {
							t.Errorf("release: %v", err)
						}
					}
				})
			}
			begun := time.Now()
			wg.Wait()
			// 40 turns of at most 5 ms and a few round trips each, most of them alone.
			require.Less(t, time.Since(begun), 20*time.Second)
			for range base.List(t.Context(), "") {
				require.Fail(t, "something is still held")
			}
		})
	}
}

// Two callers who stay in step, each refused by what the other holds, would go on
// for ever without the random step aside.
func TestTwoCallersInStepDoNotKeepRefusingEachOther(t *testing.T) {
	for range 50 {
		bubble("", t, func(t *testing.T) {
			base := memory.New()
			a, err := base.TryAcquire(t.Context(), "a", time.Hour)
			require.NoError(t, err)
			b, err := base.TryAcquire(t.Context(), "b", time.Hour)
			require.NoError(t, err)
			var wg sync.WaitGroup
			// Both wait for another key, and get it at the same moment.
			for i, keys := range [][]string{{"a", "b"}, {"b", "x", "a"}} {
				l := base.Client(fmt.Sprint(i))
				l.Delay(time.Millisecond)
				wg.Go(func() {
					set, err := lock.AcquireAll(t.Context(), l, keys, time.Hour, nil)
					if err != nil {
						t.Errorf("%v: %v", keys, err)
						return
					}
					if err := set.Release(t.Context()); err != nil {
						t.Errorf("release: %v", err)
					}
				})
			}
			time.Sleep(time.Second)
			require.NoError(t, a.Release(t.Context()))
			require.NoError(t, b.Release(t.Context()))
			begun := time.Now()
			wg.Wait()
			require.Less(t, time.Since(begun), 5*time.Second)
		})
	}
}
