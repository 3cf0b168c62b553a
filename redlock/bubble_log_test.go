package redlock

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/logtest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
)

// lines are those that were logged, each with its node.
type lines struct{ logtest.Recorder }

// since gives what was logged since the last call.
func (l *lines) since() []string {
	synctest.Wait()
	all := l.Take()
	slices.Sort(all)
	return all
}

// use takes and frees a lock.
func use(t *testing.T, l *Locker) {
	t.Helper()
	lease, err := l.TryAcquire(t.Context(), "prices", 10*time.Second)
	if err == nil {
		require.NoError(t, lease.Extend(t.Context(), 10*time.Second))
		require.NoError(t, lease.Release(t.Context()))
	}
	time.Sleep(5 * time.Second) // until what is under way at a hung node is over
}

func logged(q *quorum) (*Locker, []*network, *lines) {
	log := &lines{logtest.Recorder{First: "node"}}
	for _, n := range q.nodes {
		n.guarded(time.Hour)
	}
	l, nets := q.client(&Options{Logger: log.Logger()})
	return l, nets, log
}

func TestLogIsSilentWhileAllIsWell(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l, _, log := logged(newQuorum(t, 3))
		for range 20 {
			use(t, l)
		}
		lease, err := l.TryAcquire(t.Context(), "held", time.Minute)
		require.NoError(t, err)
		_, err = l.TryAcquire(t.Context(), "held", time.Minute)
		require.ErrorIs(t, err, lock.ErrHeld)
		time.Sleep(time.Hour)
		require.ErrorIs(t, lease.Extend(t.Context(), time.Minute), lock.ErrLost)
		require.NoError(t, l.Close())
		require.Empty(t, log.since())
	})
}

func TestLogTellsOnceThatANodeIsDownAndBack(t *testing.T) {
	const down, back = "fake2:6379 WARN redis node does not answer as it should: its vote is missing", "fake2:6379 INFO redis node answers again"
	bubble(t, func(t *testing.T) {
		l, nets, log := logged(newQuorum(t, 3))
		use(t, l)
		require.Empty(t, log.since())
		for _, fault := range []func(w *network){
			func(w *network) { w.down = true },
			func(w *network) { w.hang = true },
		} {
			nets[1].set(fault)
			for range 20 { // for longer than node.LogPause
				use(t, l)
			}
			require.Equal(t, []string{down}, log.since())
			nets[1].set(func(w *network) { w.down = true }) // what hung is over
			nets[1].set(func(w *network) { w.down, w.hang = false, false })
			for range 5 {
				use(t, l)
			}
			require.Equal(t, []string{back}, log.since())
			time.Sleep(node.LogPause)
		}
	})
}

func TestLogOfANodeThatComesAndGoesIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l, nets, log := logged(newQuorum(t, 3))
		start := time.Now()
		for range 100 {
			nets[0].set(refuse)
			use(t, l)
			nets[0].set(func(w *network) { w.down = false })
			use(t, l)
		}
		minutes := int(time.Since(start)/node.LogPause) + 1
		all := log.since()
		require.NotEmpty(t, all)
		require.LessOrEqual(t, len(all), 2*minutes)
	})
}

func TestLogTellsOfARestartOnceARun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, _, log := logged(q)
		for range 2 {
			q.nodes[2].restart(true)
			for range 4 {
				use(t, l)
			}
			require.Equal(t, []string{"fake3:6379 WARN redis node has restarted and is not known to be durable: it does not vote for a while"}, log.since())
			time.Sleep(time.Hour)
			use(t, l)
			require.Empty(t, log.since())
		}
	})
}

func TestLogTellsOnceThatANodeIsUnguarded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log := &lines{logtest.Recorder{First: "node"}}
		l, _ := newQuorum(t, 1).client(&Options{Logger: log.Logger()})
		use(t, l)
		use(t, l)
		all := log.since()
		require.Len(t, all, 1)
		require.True(t, strings.HasPrefix(all[0], "fake1:6379 WARN redis node is unguarded"), all[0])
	})
}

func TestOnRequestIsToldOfEachRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		type request struct {
			node string
			took time.Duration
			err  error
		}
		var mu sync.Mutex
		var reported []request
		q := newQuorum(t, 3)
		l, nets := q.client(&Options{OnRequest: func(node string, took time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			reported = append(reported, request{node, took, err})
		}})
		nets[1].set(func(w *network) { w.delay = 50 * time.Millisecond })
		nets[2].set(func(w *network) { w.hang = true })
		use(t, l)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		answered := map[string]int{}
		for _, r := range reported {
			switch r.node {
			case "fake1:6379":
				require.NoError(t, r.err)
				require.Zero(t, r.took)
			case "fake2:6379":
				require.NoError(t, r.err)
				require.GreaterOrEqual(t, r.took, 50*time.Millisecond)
			default:
				require.Error(t, r.err)
				require.NotErrorIs(t, r.err, context.DeadlineExceeded)
				continue
			}
			answered[r.node]++
		}
		for i, node := range q.nodes[:2] {
			sent := node.seen("acquire") + node.seen("commit") + node.seen("extend") + node.seen("repair") + node.seen("release")
			require.Equal(t, sent, answered[node.name], "node %d", i)
		}
		require.NotEmpty(t, reported)
	})
}
