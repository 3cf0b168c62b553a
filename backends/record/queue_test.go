package record_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// contend has n processes take one key again and again for a minute, and returns how often
// one that waited was overtaken at most, after the first seconds.
func contend(t *testing.T, m *recordtest.Memory, n int, o *record.Options) (terms, overtaken int) {
	var mu sync.Mutex
	asked, passed := make([]time.Time, n), make([]int, n)
	began := time.Now()
	end := began.Add(time.Minute)
	var wg sync.WaitGroup
	for i := range n {
		p := over(t, m, o)
		p.faults.Delay(2*time.Millisecond, false)
		wg.Go(func() {
			for time.Now().Before(end) {
				mu.Lock()
				asked[i], passed[i] = time.Now(), 0
				mu.Unlock()
				lease, err := lock.Acquire(t.Context(), p, "k", 10*time.Second, nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				terms++
				if time.Since(began) > 5*time.Second {
					overtaken = max(overtaken, passed[i])
				}
				for j := range n {
					if j != i && !asked[j].IsZero() && asked[j].Before(asked[i]) {
						passed[j]++
					}
				}
				asked[i] = time.Time{}
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
				if err := lease.Release(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return terms, overtaken
}

func TestTheQueueKeepsProcessesFromBeingOvertaken(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		terms, overtaken := contend(t, m, 16, nil)
		t.Logf("16 processes: %d terms, overtaken %d times at most", terms, overtaken)
		require.Greater(t, terms, 2000)
		require.LessOrEqual(t, overtaken, 4)
	})
}

func TestADeadQueueRefusesNobodyForEver(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		s := m.Client(false, true)
		holder := over(t, s, nil)
		lease := take(t, holder, "k", time.Hour)
		for range 5 { // wait, and die
			p := over(t, s, nil)
			go func() { _, _ = lock.Acquire(within(t, time.Second), p, "k", time.Hour, nil) }()
			time.Sleep(100 * time.Millisecond)
			p.crash()
		}
		time.Sleep(5 * time.Second)
		require.NoError(t, lease.Release(t.Context()))
		began := time.Now()
		lease = take(t, over(t, s, nil), "k", time.Hour) // one attempt, of a process that is new
		require.Less(t, time.Since(began), time.Second)
		require.NoError(t, lease.Release(t.Context()))
		began = time.Now()
		take(t, over(t, s, nil), "k", time.Hour)
		require.Less(t, time.Since(began), 10*time.Millisecond, "the dead cost their head starts once")
	})
}

func TestWhoStopsWaitingLeavesTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		holder, p := over(t, m, nil), over(t, m, nil)
		take(t, holder, "k", time.Hour)
		_, err := lock.Acquire(within(t, time.Second), p, "k", time.Hour, nil)
		require.ErrorIs(t, err, lock.ErrHeld)
		time.Sleep(time.Second)
		e, err := m.Get(t.Context(), name(t, "k"))
		require.NoError(t, err)
		require.Empty(t, e.Record.Queue)
	})
}

func TestOneAttemptDoesNotQueue(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		holder, p := over(t, m, nil), over(t, m, nil)
		take(t, holder, "k", time.Hour)
		_, err := p.TryAcquire(t.Context(), "k", time.Hour)
		require.ErrorIs(t, err, lock.ErrHeld)
		e, err := m.Get(t.Context(), name(t, "k"))
		require.NoError(t, err)
		require.Empty(t, e.Record.Queue)
	})
}

func TestANewcomerDoesNotOvertakeThoseWhoWaitThoughItIsQuicker(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		holder, waiter, newcomer := over(t, m, nil), over(t, m, nil), over(t, m, nil)
		lease := take(t, holder, "k", time.Hour)
		got := make(chan string, 2)
		wait := func(p *process, who string) {
			l, err := lock.Acquire(t.Context(), p, "k", time.Hour, nil)
			if err != nil {
				t.Error(err)
				return
			}
			got <- who
			_ = l.Release(t.Context())
		}
		var wg sync.WaitGroup
		wg.Go(func() { wait(waiter, "waiter") })
		time.Sleep(time.Second)
		waiter.faults.Delay(20*time.Millisecond, true)
		require.NoError(t, lease.Release(t.Context()))
		wg.Go(func() { wait(newcomer, "newcomer") })
		wg.Wait()
		require.Equal(t, "waiter", <-got)
		require.Equal(t, "newcomer", <-got)
	})
}
