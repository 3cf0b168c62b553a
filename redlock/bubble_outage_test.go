package redlock

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
)

const (
	lineDown    = "fake2:6379 WARN redis node does not answer as it should: its vote is missing"
	lineBack    = "fake2:6379 INFO redis node answers again"
	lineRefuses = "fake2:6379 WARN redis node refuses to vote"
	lineVotes   = "fake2:6379 INFO redis node votes again"
)

func (n *fakeNode) set(change func(n *fakeNode)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

// A node that answers a release, or that a key is held, may refuse every vote all the same.
func TestLogDoesNotSayThatANodeAnswersAgainWhileItRefusesVotes(t *testing.T) {
	for _, err := range []string{
		"OOM command not allowed when used memory > 'maxmemory'", "READONLY You can't write against a read only replica.",
		"MISCONF Redis is configured to save RDB snapshots", "NOPERM this user has no permissions to run the 'evalsha' command",
	} {
		bubble(t, func(t *testing.T) {
			q := newQuorum(t, 3)
			l, nets, log := logged(q)
			use(t, l)
			nets[1].set(refuse)
			use(t, l)
			require.Equal(t, []string{lineDown}, log.since())
			q.nodes[1].set(func(n *fakeNode) { n.refuses = err })
			nets[1].set(healthy)
			for range 30 {
				use(t, l)
			}
			all := log.since()
			require.Contains(t, all, lineRefuses, err)
			require.NotContains(t, all, lineBack, err)
			q.nodes[1].set(func(n *fakeNode) { n.refuses = "" })
			use(t, l)
			require.Equal(t, []string{lineVotes}, log.since())
			use(t, l)
			require.Empty(t, log.since())
		})
	}
}

func TestLogOfAKeyThatCanNotBeVotedOnIsNoOutageOfTheNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _, log := logged(q)
		_, err := q.nodes[1].redis.Lpush("redlock:list", "x")
		require.NoError(t, err)
		for range 3 {
			lease := must(t)(l.TryAcquire(t.Context(), "list", ttl))
			synctest.Wait()
			require.NoError(t, lease.Release(t.Context()))
			use(t, l)
		}
		require.Equal(t, []string{"fake2:6379 WARN redis node can't vote on a key"}, log.since())
	})
}

// However many leases there are, and however often each is renewed.
func TestLogHasOneLineWhenAnOutageBeginsAndOneWhenItEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets, log := logged(q)
		var leases []lock.Lease
		for i := range 200 {
			leases = append(leases, must(t)(l.TryAcquire(t.Context(), fmt.Sprint(i), ttl)))
		}
		renew := func() {
			for range 4 {
				for _, lease := range leases {
					require.NoError(t, lease.Extend(t.Context(), ttl))
				}
				time.Sleep(ttl / 2)
			}
		}
		renew()
		require.Empty(t, log.since())
		nets[1].set(refuse)
		renew()
		require.Equal(t, []string{lineDown}, log.since())
		nets[1].set(healthy)
		renew()
		require.Equal(t, []string{lineBack}, log.since())
	})
}

// reading is a handler that uses the locker while it writes, slowly.
type reading struct {
	slog.Handler
	l     *Locker
	lines []slog.Record
}

func (r *reading) Enabled(context.Context, slog.Level) bool { return true }

func (r *reading) Handle(ctx context.Context, line slog.Record) error {
	_, _ = r.l.Health(ctx)
	_, _ = r.l.TryAcquire(ctx, "of the logger", ttl)
	time.Sleep(20 * time.Second)
	r.lines = append(r.lines, line)
	return nil
}

func TestLogIsInTheOrderInWhichThingsHappenedAndHoldsNothingUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		for _, n := range q.nodes {
			n.guarded(time.Hour)
		}
		r := &reading{Handler: slog.DiscardHandler}
		l, nets := q.client(&Options{Logger: slog.New(r)})
		r.l = l
		use(t, l)
		begin := time.Now()
		var want []string
		for range 3 {
			nets[1].set(refuse)
			start := time.Now()
			use(t, l)
			require.Equal(t, 5*time.Second, time.Since(start))
			nets[1].set(healthy)
			use(t, l)
			want = append(want, "redis node does not answer as it should: its vote is missing", "redis node answers again")
			time.Sleep(node.LogPause - 10*time.Second)
		}
		time.Sleep(10 * time.Minute)
		require.NoError(t, l.Close())
		var got []string
		for i, line := range r.lines {
			got = append(got, line.Message)
			require.Equal(t, begin.Add(time.Duration(i/2)*node.LogPause+time.Duration(i%2)*5*time.Second).UnixMilli(), line.Time.UnixMilli(), "the time of the event")
		}
		require.Equal(t, want, got)
	})
}

// asking is a handler that asks for a lock that is waited for.
type asking struct {
	slog.Handler
	l    *Locker
	said chan string
}

func (a *asking) Enabled(context.Context, slog.Level) bool { return true }

func (a *asking) Handle(ctx context.Context, line slog.Record) error {
	_, _ = a.l.TryAcquire(ctx, "awaited", ttl)
	a.said <- line.Message
	return nil
}

func TestLoggerMayUseTheLockerForWhatIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		a := &asking{Handler: slog.DiscardHandler, said: make(chan string, 100)}
		l, nets := q.client(&Options{Logger: slog.New(a), RestartGuard: -1})
		a.l = l
		lease := must(t)(l.TryAcquire(t.Context(), "awaited", ttl))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		stands := make(chan struct{}, 100)
		go func() {
			<-stands
			for _, w := range nets {
				w.set(refuse)
			}
		}()
		_, err := l.Await(ctx, "awaited", ttl, func(*lock.HeldError) { stands <- struct{}{} })
		require.ErrorIs(t, err, lock.ErrUnavailable)
		for <-a.said != "redis node does not answer as it should: its vote is missing" {
		}
		_ = lease.Release(t.Context())
	})
}
