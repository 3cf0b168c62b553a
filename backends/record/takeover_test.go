package record_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestAJobThatRunsOnceADayGetsADeadHoldersKey(t *testing.T) {
	for _, c := range []struct {
		name  string
		ages  bool
		grace time.Duration
		runs  bool
	}{
		{"by the store's ages", true, 0, true},
		{"by the grace that the user allows", false, 5 * time.Minute, true},
		{"with neither it can't know", false, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *recordtest.Memory) {
				o := &record.Options{Grace: c.grace}
				dead := over(t, m.Client(c.ages, false), o)
				take(t, dead, "nightly", 30*time.Second)
				dead.crash()
				for day := range 5 {
					time.Sleep(24 * time.Hour)
					p := over(t, m.Client(c.ages, false), o)
					_, err := lock.Acquire(t.Context(), p, "nightly", 30*time.Second, &lock.AcquireOptions{Attempts: 1})
					if c.runs {
						require.NoError(t, err, "day %d", day)
						return
					}
					held, ok := errors.AsType[*lock.HeldError](err)
					require.True(t, ok)
					require.True(t, held.Unconfirmed, "a refusal that may be a dead holder's says so")
					require.InDelta(t, 30, held.RetryAfter.Seconds(), 1)
				}
			})
		})
	}
}

// A job of cron keeps its key past its end (--at-least), against machines whose clocks differ.
// Without ages nothing but a wall clock tells last night's hold from one of tonight: who waits
// for less than was kept never gets the key, and who waits for longer runs the job twice.
func TestAJobThatKeepsItsKeyAndLeavesRunsEachNightByAgesOrGraceAlone(t *testing.T) {
	const ttl, kept = 30 * time.Second, 50 * time.Second
	for _, c := range []struct {
		name  string
		ages  bool
		grace time.Duration
		wait  time.Duration // 0: one attempt
		runs  []int         // how many of two machines run it, night by night
	}{
		{"by the store's ages", true, 0, 0, []int{1, 1, 1}},
		{"by the grace that the user allows", false, 5 * time.Minute, 0, []int{1, 1, 1}},
		{"with neither it does not know", false, 0, 0, []int{1, 0, 0}},
		{"waiting for more than the ttl does not help", false, 0, 40 * time.Second, []int{1, 0, 0}},
		{"waiting for more than was kept runs it twice", false, 0, 2 * time.Minute, []int{2, 2, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *recordtest.Memory) {
				ran := make([]int, len(c.runs))
				for night := range ran {
					var done sync.WaitGroup
					var mu sync.Mutex
					for range 2 {
						p := over(t, m.Client(c.ages, false), &record.Options{Grace: c.grace})
						done.Go(func() {
							o := &lock.AcquireOptions{Attempts: 1}
							if c.wait > 0 {
								o = &lock.AcquireOptions{Timeout: c.wait}
							}
							if lease, err := lock.Acquire(t.Context(), p, "nightly", ttl, o); err == nil {
								mu.Lock()
								defer mu.Unlock()
								ran[night]++
								assert.NoError(t, lock.ReleaseAfter(t.Context(), lease, kept))
							}
						})
					}
					done.Wait()
					time.Sleep(24 * time.Hour)
				}
				require.Equal(t, c.runs, ran)
			})
		})
	}
}

func TestARefusalByAHolderThatIsSeenToLiveIsConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		s := m.Client(false, false)
		holder, p := over(t, s, nil), over(t, s, nil)
		lease := take(t, holder, "k", 30*time.Second)
		refused := func() *lock.HeldError {
			_, err := p.TryAcquire(t.Context(), "k", time.Second)
			held, ok := errors.AsType[*lock.HeldError](err)
			require.True(t, ok)
			return held
		}
		require.True(t, refused().Unconfirmed)
		require.NoError(t, lease.Extend(t.Context(), 30*time.Second))
		require.False(t, refused().Unconfirmed)
	})
}

func TestAnObserverTakesOverATtlAfterItsFirstSightAndNotBefore(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		s := m.Client(false, false)
		holder, p := over(t, s, nil), over(t, s, nil)
		lease := take(t, holder, "k", 30*time.Second)
		time.Sleep(29 * time.Second) // p sees it late
		seen := time.Now()
		granted, err := lock.Acquire(t.Context(), p, "k", time.Second, nil)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(seen), 30*time.Second)
		require.Less(t, time.Since(seen), 31*time.Second)
		require.Greater(t, granted.Token(), lease.Token())
	})
}

func TestASightCountsFromTheReply(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		s := m.Client(false, false)
		holder, p := over(t, s, nil), over(t, s, &record.Options{Timeout: time.Minute})
		used(t, holder, "k")
		p.faults.Delay(5*time.Second, true) // the read arrives after the hold has begun
		go func() {
			time.Sleep(4 * time.Second)
			take(t, holder, "k", 10*time.Second)
		}()
		_, err := p.TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrHeld)
		p.faults.Delay(0, false)
		time.Sleep(8 * time.Second) // 13s after the read was sent, 9s after the hold began
		_, err = p.TryAcquire(t.Context(), "k", time.Minute)
		require.ErrorIs(t, err, lock.ErrHeld)
	})
}

func TestTheQueueDoesNotProlongADeadHold(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		o := &record.Options{HeadStart: 100 * time.Millisecond}
		dead := over(t, m.Client(false, true), o)
		take(t, dead, "k", 10*time.Second)
		dead.crash()
		began := time.Now()
		done := make(chan time.Duration, 3)
		for range 3 {
			p := over(t, m.Client(false, true), o)
			go func() {
				lease, err := lock.Acquire(t.Context(), p, "k", 10*time.Second, nil)
				took := time.Since(began)
				if err == nil {
					_ = lease.Release(t.Context())
				}
				done <- took
			}()
			time.Sleep(3 * time.Second) // each announces itself later, which changes the record
		}
		require.Less(t, <-done, 11*time.Second)
		<-done
		<-done
	})
}
