package record_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// counter counts the requests that were sent since it was called last.
func (p *process) counter() func() [2]int {
	gets, puts := p.faults.Sent()
	return func() [2]int {
		g, w := p.faults.Sent()
		since := [2]int{g - gets, w - puts}
		gets, puts = g, w
		return since
	}
}

func TestRequests(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, other := over(t, m, nil), over(t, m, nil)
		used(t, over(t, m, nil), "k")
		sent, others := p.counter(), other.counter()

		lease := take(t, p, "k", 30*time.Second)
		require.Equal(t, [2]int{1, 1}, sent(), "acquire: one read, one write")
		require.NoError(t, lease.Extend(t.Context(), 30*time.Second))
		require.Equal(t, [2]int{0, 1}, sent(), "extend: one write")
		_, err := other.TryAcquire(t.Context(), "k", 30*time.Second)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.Equal(t, [2]int{1, 0}, others(), "refused: one read")
		require.NoError(t, lease.Release(t.Context()))
		require.Equal(t, [2]int{0, 1}, sent(), "release: one write")

		take(t, p, "new", time.Second)
		require.Equal(t, [2]int{3, 2}, sent(), "the first use of a key: it is made, and the largest pruned token read")
	})
}

func TestAWaiterThatIsNotifiedSendsNothingMeanwhileAndOneWriteWhenItIsItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, waiter := over(t, m, nil), over(t, m, nil)
		used(t, p, "k")
		lease := take(t, p, "k", time.Hour)
		sent := waiter.counter()
		got := make(chan lock.Lease)
		go func() {
			l, err := lock.Acquire(t.Context(), waiter, "k", time.Hour, nil)
			if err != nil {
				t.Error(err)
			}
			got <- l
		}()
		time.Sleep(time.Second)
		require.Equal(t, [2]int{3, 1}, sent(), "two reads, a watch, and one write into the queue")
		for range 20 {
			time.Sleep(2 * time.Second)
			require.NoError(t, lease.Extend(t.Context(), time.Hour))
		}
		require.Equal(t, [2]int{0, 0}, sent())
		released := time.Now()
		require.NoError(t, lease.Release(t.Context()))
		l := <-got
		require.Equal(t, [2]int{0, 1}, sent())
		require.Less(t, time.Since(released), 10*time.Millisecond)
		require.NoError(t, l.Release(t.Context()))
	})
}

func TestOnePollerLooksAtAllKeys(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		s := m.Client(true, false)
		holder, p := over(t, s, nil), over(t, s, &record.Options{Poll: time.Second})
		wake := make(chan struct{}, 1)
		var stops []func()
		for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
			take(t, holder, key, time.Hour)
			stop, err := p.Watch(t.Context(), key, wake)
			require.NoError(t, err)
			stops = append(stops, stop)
		}
		sent := p.counter()
		time.Sleep(100 * time.Second)
		got := sent()
		require.InDelta(t, 1000, got[0], 100)
		require.Zero(t, got[1])
		for _, stop := range stops {
			stop()
		}
		time.Sleep(2 * time.Second)
		sent()
		time.Sleep(100 * time.Second)
		require.Equal(t, [2]int{0, 0}, sent(), "nobody waits")
	})
}

func TestAWaiterReachesTheStoreAgainAfterAnOutage(t *testing.T) {
	for _, pushes := range []bool{false, true} {
		bubble(t, func(t *testing.T, m *recordtest.Memory) {
			s := m.Client(true, pushes)
			p, waiter := over(t, s, nil), over(t, s, nil)
			lease := take(t, p, "k", time.Hour)
			got := make(chan error)
			go func() {
				_, err := lock.Acquire(t.Context(), waiter, "k", time.Hour, nil)
				got <- err
			}()
			time.Sleep(time.Second)
			waiter.faults.Outage(true)
			require.NoError(t, lease.Release(t.Context()))
			time.Sleep(time.Minute)
			waiter.faults.Outage(false)
			began := time.Now()
			require.NoError(t, <-got)
			require.Less(t, time.Since(began), 2*time.Second)
		})
	}
}

// unwatched is a store whose answer to a watch is lost: a server that restarts, or a leader
// that is being elected, forgets requests.
type unwatched struct {
	*recordtest.Memory
	asked chan struct{}
}

func (s unwatched) Watch(ctx context.Context, _ string, _ func(*record.Entry)) (func(), error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestAWaiterWhoseWatchIsNeverAnsweredAsksTheStore(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		s := unwatched{m, make(chan struct{}, 1)}
		p, waiter := over(t, m, nil), over(t, s, &record.Options{Timeout: 2 * time.Second})
		lease := take(t, p, "k", time.Hour)
		got := make(chan error, 1)
		go func() {
			_, err := lock.Acquire(t.Context(), waiter, "k", time.Hour, nil)
			got <- err
		}()
		<-s.asked
		require.NoError(t, lease.Release(t.Context()))
		began := time.Now()
		require.NoError(t, <-got)
		require.Less(t, time.Since(began), 5*time.Second)
	})
}

// undeleted is a store whose answer to a deletion is lost.
type undeleted struct{ *recordtest.Memory }

func (s undeleted) Delete(ctx context.Context, _, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestPruneEndsWhenTheStoreDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p := over(t, undeleted{m}, &record.Options{Timeout: 2 * time.Second})
		used(t, p, "k")
		time.Sleep(2 * time.Hour)
		began := time.Now()
		_, err := p.Prune(t.Context(), time.Hour)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, "no answer within 2s")
		require.Less(t, time.Since(began), 3*time.Second)
	})
}
