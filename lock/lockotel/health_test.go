package lockotel_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/lockotel"
)

// patient is a locker whose nodes are as a test says.
type patient struct {
	lock.Locker
	mu     sync.Mutex
	health lock.Health
	err    error
	hangs  bool
	deaf   time.Duration // for how long ctx does not end a question
	asked  int
}

func (p *patient) Health(ctx context.Context) (lock.Health, error) {
	p.mu.Lock()
	p.asked++
	health, err, hangs := p.health, p.err, p.hangs
	deaf := p.deaf
	p.mu.Unlock()
	time.Sleep(deaf)
	if hangs {
		<-ctx.Done()
		return lock.Health{}, ctx.Err()
	}
	return health, err
}

func (p *patient) set(change func(p *patient)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func TestHealth(t *testing.T) {
	bubble(t, "TellsEachNodesVoteLatencyAndWarnings", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		p := &patient{Locker: memory.New(), health: lock.Health{Quorum: 2, Nodes: []lock.NodeHealth{
			{Name: "a:1", Latency: 2 * time.Millisecond}, {Name: "b:1", Latency: time.Millisecond, Warnings: []string{"x", "y"}}, {Name: "c:1", Err: errors.New("down")},
		}}}
		stop, err := s.Health(s.Observe(p), 0)
		require.NoError(t, err)
		synctest.Wait()
		s.requireCount(1, "lock_node_voting", "lock_node_name", "a:1")
		s.requireCount(0, "lock_node_voting", "lock_node_name", "c:1")
		s.requireCount(2, "lock_node_warnings", "lock_node_name", "b:1")
		latency, _ := s.value("lock_node_latency_seconds", "lock_node_name", "a:1")
		require.Equal(t, 0.002, latency)
		require.Len(t, s.gather()["lock_node_latency_seconds"].GetMetric(), 2, "a node that is down has none")
		s.requireCount(0, "lock_quorum_spare")

		p.set(func(p *patient) { p.health.Nodes = p.health.Nodes[2:] })
		s.requireCount(0, "lock_quorum_spare") // a scrape asks no node
		time.Sleep(lockotel.DefaultHealthInterval)
		synctest.Wait()
		s.requireCount(-2, "lock_quorum_spare")

		p.set(func(p *patient) { p.hangs = true })
		time.Sleep(10 * lockotel.DefaultHealthInterval)
		require.NotContains(t, s.gather(), "lock_quorum_spare", "what is not known is not reported")
		p.set(func(p *patient) { p.hangs = false })
		time.Sleep(2 * lockotel.DefaultHealthInterval)
		s.requireCount(-2, "lock_quorum_spare")
		require.NoError(t, stop())
		require.NotContains(t, s.gather(), "lock_quorum_spare")
		asked := p.asked
		time.Sleep(time.Hour)
		require.Equal(t, asked, p.asked)
	})

	bubble(t, "StopEndsAQuestionThatHangs", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		stop, err := s.Health(&patient{Locker: memory.New(), hangs: true}, time.Hour)
		require.NoError(t, err)
		synctest.Wait()
		start := time.Now()
		require.NoError(t, stop())
		require.Zero(t, time.Since(start))
	})

	bubble(t, "StopWaitsForAQuestionThatGoesOn", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		stop, err := s.Health(&patient{Locker: memory.New(), deaf: time.Minute}, time.Second)
		require.NoError(t, err)
		synctest.Wait()
		start := time.Now()
		require.NoError(t, stop())
		require.Equal(t, time.Minute, time.Since(start))
	})

	bubble(t, "RefusesWhatCantWork", func(t *testing.T) {
		s := scrape(t, lockotel.Options{})
		for _, every := range []time.Duration{-1, -time.Second, 5} {
			_, err := s.Health(memory.New(), every)
			require.ErrorIs(t, err, lock.ErrInvalid)
			require.ErrorContains(t, err, every.String())
		}
		_, err := s.Health(nil, 0)
		require.ErrorIs(t, err, lock.ErrInvalid)
		_, err = s.Elector(nil)
		require.ErrorIs(t, err, lock.ErrInvalid)
		_, err = s.Observe(nil).TryAcquire(t.Context(), "k", time.Second)
		require.ErrorIs(t, err, lock.ErrInvalid)
		_, err = s.Health(bare{memory.New()}, 0)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		stop, err := s.Health(memory.New(), 0)
		require.NoError(t, err)
		_, err = s.Health(memory.New(), 0)
		require.ErrorIs(t, err, lock.ErrInvalid)
		require.NoError(t, stop())
		stop, err = s.Health(memory.New(), 0)
		require.NoError(t, err)
		require.NoError(t, stop())
	})
}

// bare has no more than a Locker must have.
type bare struct{ l lock.Locker }

func (b bare) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	return b.l.TryAcquire(ctx, key, ttl)
}
