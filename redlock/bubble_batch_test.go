package redlock

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// While one request is under way at a node, the others wait and go together.
func TestRequestsThatWaitForANodeGoTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		for _, w := range nets {
			w.set(func(w *network) { w.delay = 10 * time.Millisecond })
		}
		const n = 50
		start := time.Now()
		tokens := make([]uint64, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				lease := must(t)(l.TryAcquire(t.Context(), fmt.Sprint(i), ttl))
				tokens[i] = lease.Token()
				require.NoError(t, lease.Extend(t.Context(), ttl))
				require.NoError(t, lease.Release(t.Context()))
			})
		}
		wg.Wait()
		// 150 requests a node, of which the first travels alone.
		require.LessOrEqual(t, time.Since(start), 15*10*time.Millisecond)
		require.NotContains(t, tokens, uint64(0))
		time.Sleep(time.Second)
		require.NotZero(t, q.nodes[0].seen("batch"))
		for i := range n {
			q.free(fmt.Sprint(i))
		}
	})
}

func TestARequestThatFailsInABatchFailsAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, nets := q.warm()
		nets[0].set(func(w *network) { w.delay = 10 * time.Millisecond })
		_, err := q.nodes[0].redis.Lpush("redlock:list", "x")
		require.NoError(t, err)
		k, _ := script.NewKeys("redlock:", "count")
		q.nodes[0].redis.HSet(k.Fence, "count", "many", "run", "-")
		errs := map[string]error{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, key := range []string{"first", "list", "count", "a", "b"} {
			wg.Go(func() {
				lease, err := l.TryAcquire(t.Context(), key, ttl)
				if err == nil {
					err = lease.Release(t.Context())
				}
				mu.Lock()
				errs[key] = err
				mu.Unlock()
			})
		}
		wg.Wait()
		require.ErrorContains(t, errs["list"], "WRONGTYPE")
		require.ErrorContains(t, errs["count"], "not a number")
		for _, key := range []string{"first", "a", "b"} {
			require.NoError(t, errs[key])
		}
	})
}

// stubborn asks again as soon as it has failed.
type stubborn struct {
	n     *node.Node
	tries int
	got   chan node.Answer
}

func (s *stubborn) Done(c *node.Call, a node.Answer) {
	if s.tries++; a.Err != nil && s.tries < 1000 {
		s.n.Ask(c)
		return
	}
	s.got <- a
}

// Else callers that ask again and again, together, would keep each other from the
// new connection for ever.
func TestWhoAsksAgainAfterAConnectionHasDiedIsHeardOnTheNextOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, nets := q.warm()
		nets[0].set(func(w *network) { w.loseNext = true })
		require.NoError(t, l.begin(1))
		defer l.wg.Done()
		s := &stubborn{n: l.nodes[0], got: make(chan node.Answer, 1)}
		k, _ := script.NewKeys("redlock:", "k")
		c := &node.Call{Request: script.Release(k, "value", "", "", "1", script.Guard{Least: "0"}), Who: s, Class: node.Freeing}
		l.nodes[0].Ask(c)
		require.NoError(t, (<-s.got).Err)
		require.Equal(t, 3, s.tries) // once with what waited behind the first
	})
}

// A server refuses a script with all its keys. One that may not be used, such as the
// queue of those who wait, must not cost the others of a batch their answers.
func TestARequestWhoseKeysAreForbiddenFailsAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 1)
		l, nets := q.warm()
		q.nodes[0].mu.Lock()
		q.nodes[0].forbids = "secret"
		q.nodes[0].mu.Unlock()
		nets[0].set(func(w *network) { w.delay = time.Millisecond })
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				lease := must(t)(l.TryAcquire(t.Context(), fmt.Sprint(i), ttl))
				require.NoError(t, lease.Extend(t.Context(), ttl))
				require.NoError(t, lease.Release(t.Context()))
			})
			wg.Go(func() {
				_, err := l.TryAcquire(t.Context(), fmt.Sprint("secret", i), ttl)
				require.ErrorContains(t, err, "NOPERM")
			})
		}
		wg.Wait()
		require.NotZero(t, q.nodes[0].seen("batch"))
	})
}

// What waited behind a connection that died was never sent: it fails at once, and
// there is nothing of it to clean up.
func TestWhatWaitsBehindAHungNodeIsNeverSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 3)
		l, nets := q.warm()
		for _, w := range nets {
			w.set(hang)
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				_, err := l.TryAcquire(t.Context(), fmt.Sprint(i), ttl)
				require.ErrorIs(t, err, lock.ErrUnavailable)
			})
		}
		wg.Wait()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for _, n := range q.nodes {
			require.Zero(t, n.seen("acquire"))
		}
		for _, w := range nets {
			w.set(healthy)
		}
		time.Sleep(5 * time.Second)
		lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait()
		for _, n := range l.nodes {
			require.Zero(t, n.InFlight(), "none waits in a queue")
		}
	})
}
