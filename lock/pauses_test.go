package lock_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

const ms = time.Millisecond

// storm is a watchedLocker that wakes every tenth of a millisecond from the time
// at which the watch stands, for as long as lasts.
type storm struct {
	watchedLocker
	lasts time.Duration
}

func (s *storm) Watch(ctx context.Context, key string, wake chan<- struct{}) (func(), error) {
	stop, err := s.watchedLocker.Watch(ctx, key, wake)
	go func() {
		for end := time.Now().Add(s.lasts); time.Now().Before(end); time.Sleep(ms / 10) {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}()
	return stop, err
}

// acquire waits for at most a given time, at a steady pace.
func acquire(t *testing.T, l lock.Locker, timeout time.Duration) error {
	_, err := lock.Acquire(t.Context(), l, "k", ttl, &lock.AcquireOptions{Timeout: timeout, Jitter: -1})
	synctest.Wait()
	return err
}

func TestAStormOfWakes(t *testing.T) {
	growing := []time.Duration{ms, 2 * ms, 4 * ms, 8 * ms, 16 * ms, 32 * ms, 50 * ms, 50 * ms}
	for name, answer := range map[string]error{"OnAHeldKey": held, "InAnOutage": lock.ErrUnavailable} {
		bubble(name+"IsMetMoreAndMoreRarelyUpToDelay", t, func(t *testing.T) {
			s := &storm{lasts: time.Second}
			s.try = func(_ context.Context, n int) error {
				if n <= 2 {
					return held // then the watch stands
				}
				return answer
			}
			require.ErrorIs(t, acquire(t, s, time.Second), answer)
			require.LessOrEqual(t, s.gaps()[1], ms/10, "the first is followed at once")
			for i, want := range growing {
				require.InDelta(t, want, s.gaps()[2+i], float64(ms)/5)
			}
			require.Less(t, len(s.attempts), 32)
		})
	}
	bubble("IsNotTakenForOneWhereOthersAreQuicker", t, func(t *testing.T) {
		for _, change := range []func(n int, h *lock.HeldError){
			func(n int, h *lock.HeldError) { h.Holder = []string{"a", "b"}[n%2] },
			func(n int, h *lock.HeldError) { h.RetryAfter = time.Duration(n) * 10 * ms },
		} {
			s := &storm{lasts: time.Second}
			s.try = func(_ context.Context, n int) error {
				h := &lock.HeldError{Key: "k"}
				change(n, h)
				return h
			}
			require.ErrorIs(t, acquire(t, s, time.Second), lock.ErrHeld)
			for _, gap := range s.gaps()[2:] {
				require.InDelta(t, ms, gap, float64(ms)/5)
			}
		}
	})
	bubble("OfASteadyHolderIsTakenForOneInSpiteOfTheNetwork", t, func(t *testing.T) {
		s := &storm{lasts: time.Second}
		end := time.Now().Add(time.Minute)
		s.try = func(context.Context, int) error {
			return &lock.HeldError{Key: "k", RetryAfter: time.Until(end) + time.Duration(rand.IntN(5))*ms}
		}
		require.ErrorIs(t, acquire(t, s, time.Second), lock.ErrHeld)
		require.Less(t, len(s.attempts), 32)
	})
	bubble("IsForgottenAfterAQuietTime", t, func(t *testing.T) {
		s := &storm{lasts: 500 * ms}
		s.try = func(_ context.Context, n int) error {
			if n == 2 {
				wake := s.wake
				time.AfterFunc(900*ms, func() { wake <- struct{}{} })
			}
			return held
		}
		require.ErrorIs(t, acquire(t, s, time.Second), lock.ErrHeld)
		require.Equal(t, 100*ms, time.Since(s.attempts[len(s.attempts)-1]), "the late wake is followed at once")
	})
	bubble("DoesNotOutlastThePause", t, func(t *testing.T) {
		s := &storm{lasts: time.Minute}
		s.try = always(held)
		start := time.Now()
		_, err := lock.Acquire(t.Context(), s, "k", ttl, &lock.AcquireOptions{Timeout: time.Second, Delay: 3 * ms, MaxDelay: 3 * ms, Jitter: -1})
		require.ErrorIs(t, err, lock.ErrHeld)
		require.Equal(t, time.Second, time.Since(start))
		for _, gap := range s.gaps() {
			require.LessOrEqual(t, gap, 3*ms)
		}
		time.Sleep(time.Minute)
	})
}

func TestAWaiterThatHearsNews(t *testing.T) {
	bubble("DoesNotPollByTheHoldersTime", t, func(t *testing.T) {
		w := &watchedLocker{}
		w.try = always(&lock.HeldError{Key: "k", RetryAfter: 100 * ms})
		require.ErrorIs(t, acquire(t, w, 150*time.Second), lock.ErrHeld)
		require.Equal(t, []time.Duration{0, lock.DefaultPoll, lock.DefaultPoll}, w.gaps())
	})
	bubble("PollsAsOftenAsMaxDelaySays", t, func(t *testing.T) {
		w := &watchedLocker{}
		w.try = until(4, held)
		_, err := lock.Acquire(t.Context(), w, "k", ttl, &lock.AcquireOptions{Jitter: -1, MaxDelay: 2 * time.Second})
		require.NoError(t, err)
		require.Equal(t, []time.Duration{0, 2 * time.Second, 2 * time.Second}, w.gaps())
	})
	bubble("PollsInAnOutageAsOthersDo", t, func(t *testing.T) {
		w := &watchedLocker{}
		w.try = func(_ context.Context, n int) error {
			if n == 3 || n == 4 {
				return lock.ErrUnavailable
			}
			return until(6, held)(nil, n)
		}
		require.NoError(t, acquire(t, w, 0))
		require.Equal(t, []time.Duration{0, lock.DefaultPoll, 50 * ms, 100 * ms, lock.DefaultPoll}, w.gaps())
	})
	bubble("IsWokenInAnOutage", t, func(t *testing.T) {
		w := &watchedLocker{}
		w.try = func(_ context.Context, n int) error {
			switch {
			case n == 2: // the watch stands
				wake := w.wake
				time.AfterFunc(time.Second, func() { wake <- struct{}{} })      // lost
				time.AfterFunc(2*time.Second+ms, func() { wake <- struct{}{} }) // regained
				return held
			case n == 1:
				return held
			case n < 8:
				return lock.ErrUnavailable
			}
			return nil
		}
		start := time.Now()
		require.NoError(t, acquire(t, w, 0))
		require.Equal(t, 2*time.Second+ms, time.Since(start))
	})
	bubble("IgnoresNewsThatAreOlderThanItsAttempt", t, func(t *testing.T) {
		w := &watchedLocker{}
		w.try = func(_ context.Context, n int) error {
			if n == 3 { // by now, that wake is old: it came before the request
				return nil
			}
			return held
		}
		push := &pushingWatcher{watchedLocker: w}
		require.ErrorIs(t, acquire(t, push, time.Second), lock.ErrHeld)
		require.Len(t, w.attempts, 2)
	})
}

// pushingWatcher wakes while Watch is under way.
type pushingWatcher struct{ *watchedLocker }

func (p *pushingWatcher) Watch(ctx context.Context, key string, wake chan<- struct{}) (func(), error) {
	wake <- struct{}{}
	return p.watchedLocker.Watch(ctx, key, wake)
}

func TestALockFreedInABlackOutIsHadWithinASecondOfItsEnd(t *testing.T) {
	bubble("", t, func(t *testing.T) {
		for range 200 {
			start := time.Now()
			begin := time.Duration(rand.IntN(1000)) * ms
			end := begin + 2*time.Second
			f := &fakeLocker{try: func(context.Context, int) error {
				switch at := time.Since(start); {
				case at < begin:
					return held
				case at < end:
					time.Sleep(time.Duration(rand.IntN(100)) * ms)
					return lock.ErrUnavailable
				}
				return nil
			}}
			_, err := lock.Acquire(t.Context(), f, "k", ttl, nil)
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(start), end+time.Second)
		}
	})
}
