package simulation

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// contest is what programs do that want one key all the time.
type contest struct {
	programs     int
	hold, length time.Duration
	hangs        time.Duration // one of those that wait hangs for half of that, then another; 0: none
	comes        bool          // another tries to acquire it and does not wait
}

// contention is how programs fared that wanted one key all the time, where nothing failed.
type contention struct {
	leases, overtaken, most int
	messages, hung          int
	tries, taken            int           // attempts of one that does not wait
	longest                 time.Duration // that nobody held
}

// contend lets programs take one key, hold it and take it again.
func (o contest) contend(t *testing.T) (c contention) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Config{Seed: 1, Waits: true, Profile: &Profiles[0]})
		w.ttl, w.timeout, w.guard = 20*time.Second, time.Second, 20*time.Second
		w.calm()
		ctx, end := context.WithTimeout(t.Context(), o.length)
		defer end()
		type wait struct {
			since time.Time
			over  int
		}
		waits := map[int]*wait{} // the world's mutex guards it, and c
		var freed time.Time
		var all sync.WaitGroup
		for i := range o.programs {
			client := w.newClient(i)
			w.clients = append(w.clients, client)
			all.Go(func() {
				l := client.connect()
				defer client.disconnect(l)
				for ctx.Err() == nil {
					me := &wait{since: time.Now()}
					w.mu.Lock()
					waits[i] = me
					w.mu.Unlock()
					lease, err := lock.Acquire(ctx, client.locker(l), "a", w.ttl, nil)
					if err != nil {
						continue
					}
					w.mu.Lock()
					delete(waits, i)
					if !freed.IsZero() {
						c.longest = max(c.longest, time.Since(freed))
					}
					for _, other := range waits {
						if other.since.Before(me.since.Add(-stands)) {
							other.over++
						}
					}
					c.leases++
					c.overtaken += me.over
					c.most = max(c.most, me.over)
					w.mu.Unlock()
					time.Sleep(o.hold)
					w.mu.Lock()
					freed = time.Now()
					w.mu.Unlock()
					_ = lease.Release(context.Background())
				}
			})
			time.Sleep(time.Millisecond)
		}
		if o.comes {
			comes := w.newClient(o.programs)
			all.Go(func() {
				l := comes.connect()
				defer comes.disconnect(l)
				time.Sleep(stands) // by then, the others stand
				for pause(ctx, 50*time.Millisecond) {
					lease, err := l.TryAcquire(ctx, "a", w.ttl)
					c.tries++
					if err == nil {
						c.taken++
						_ = lease.Release(context.Background())
					}
				}
			})
		}
		for o.hangs > 0 && pause(ctx, o.hangs) {
			w.mu.Lock()
			for i, client := range w.clients {
				if me := waits[i]; me != nil && time.Since(me.since) > stands {
					client.frozen = time.Now().Add(o.hangs / 2)
					c.hung++
					break
				}
			}
			w.mu.Unlock()
		}
		all.Wait()
		w.late.Wait()
		require.Empty(t, w.res.Violation)
		c.messages = w.res.Messages - w.res.Heartbeats
	})
	fmt.Printf("%d programs: %d leases, %d times overtaken, at most %d, %.1f messages a lease, %v without a holder at most\n",
		o.programs, c.leases, c.overtaken, c.most, float64(c.messages)/float64(c.leases), c.longest)
	return c
}

// stands is how long it takes until a request stands on all nodes: many round trips.
const stands = 300 * time.Millisecond

func TestAWaiterIsOvertakenOnlyByOneThatItSplitVotesWith(t *testing.T) {
	c := contest{programs: 16, hold: 50 * time.Millisecond, length: 5 * time.Minute}.contend(t)
	require.Greater(t, c.leases, 2000)
	require.LessOrEqual(t, c.most, 1)
	require.Less(t, float64(c.overtaken), 0.01*float64(c.leases))
	require.Less(t, c.longest, time.Second)
}

func TestWhoComesDoesNotTakeWhatOthersWaitFor(t *testing.T) {
	c := contest{programs: 4, hold: 20 * time.Millisecond, length: 2 * time.Minute, comes: true}.contend(t)
	require.Greater(t, c.tries, 1000)
	require.Zero(t, c.taken)
}

func TestAHandOffCostsAsManyMessagesWithManyWaitersAsWithTwo(t *testing.T) {
	messages := func(programs int) float64 {
		c := contest{programs: programs, hold: 10 * time.Millisecond, length: 2 * time.Minute}.contend(t)
		return float64(c.messages) / float64(c.leases)
	}
	require.Less(t, messages(8), 1.2*messages(2), "8 wait for less than a refresh")
}

func TestAWaiterThatHangsCostsTheOthersOneClaim(t *testing.T) {
	c := contest{programs: 8, hold: 50 * time.Millisecond, length: 5 * time.Minute, hangs: 10 * time.Second}.contend(t)
	require.Greater(t, c.hung, 20)
	require.Greater(t, c.longest, 900*time.Millisecond, "or nobody has hung")
	require.Less(t, c.longest, 1500*time.Millisecond, "a claim is a second")
}
