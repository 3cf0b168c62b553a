package redlock

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/logtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// newServers are nodes that have been up for long and report which server they are.
func newServers(t *testing.T, n int) *quorum {
	q := newQuorum(t, n)
	for i, node := range q.nodes {
		node.server = string(rune('a' + i))
		node.guarded(time.Hour)
	}
	return q
}

// some is a quorum of these nodes only, numbered from 1.
func (q *quorum) some(numbers ...int) *quorum {
	sub := &quorum{t: q.t}
	for _, i := range numbers {
		sub.nodes = append(sub.nodes, q.nodes[i-1])
	}
	return sub
}

// takesTime makes the way to the nodes one that takes time, as all real ones do: how long
// the slowest are waited for is measured by what the others took.
func takesTime(nets []*network) {
	for _, w := range nets {
		w.set(func(w *network) { w.delay = time.Millisecond })
	}
}

func (n *fakeNode) agreed() string {
	text, _ := n.redis.Get(AgreedPrefix + "redlock:")
	return text
}

// Each of these could hold a lock beside the others: some quorums of the two share no
// node, or one gives a restarted node its vote back while the other's lease stands.
func TestAClientWithOtherNodesQuorumOrGuardIsRefusedAndBothAreNamed(t *testing.T) {
	three := []int{1, 2, 3}
	for name, tc := range map[string]struct {
		nodes []int
		o     *Options
		says  string
	}{
		"one node of the three":      {[]int{1}, nil, "1 node (fake1:6379), quorum 1, restart guard 1m0s"},
		"another one of them":        {[]int{3}, nil, "1 node (fake3:6379), quorum 1, restart guard 1m0s"},
		"two of them":                {[]int{2, 3}, nil, "2 nodes (fake2:6379, fake3:6379), quorum 2, restart guard 1m0s"},
		"five":                       {[]int{1, 2, 3, 4, 5}, nil, "5 nodes (fake1:6379, fake2:6379, fake3:6379, fake4:6379, fake5:6379), quorum 3, restart guard 1m0s"},
		"another third node":         {[]int{1, 2, 4}, nil, "3 nodes (fake1:6379, fake2:6379, fake4:6379), quorum 2, restart guard 1m0s"},
		"two other nodes":            {[]int{3, 4, 5}, nil, "3 nodes (fake3:6379, fake4:6379, fake5:6379), quorum 2, restart guard 1m0s"},
		"a larger quorum":            {three, &Options{Quorum: 3}, "quorum 3, restart guard 1m0s"},
		"a shorter guard":            {three, &Options{RestartGuard: 30 * time.Second}, "quorum 2, restart guard 30s"},
		"a guard that is a ms apart": {three, &Options{RestartGuard: time.Minute + time.Millisecond}, "quorum 2, restart guard 1m0.001s"},
		"no guard":                   {three, &Options{RestartGuard: -1}, "quorum 2, restart guard off"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newServers(t, 5)
				fleet, _ := q.some(three...).client(nil)
				other, nets := q.some(tc.nodes...).client(tc.o)
				takesTime(nets)
				lease := must(t)(fleet.TryAcquire(t.Context(), "k", ttl))
				for _, key := range []string{"k", "never used"} {
					_, err := other.TryAcquire(t.Context(), key, ttl)
					require.ErrorIs(t, err, lock.ErrRefused)
					require.NotErrorIs(t, err, lock.ErrUnavailable)
					require.ErrorContains(t, err, "3 nodes (fake1:6379, fake2:6379, fake3:6379), quorum 2, restart guard 1m0s")
					require.ErrorContains(t, err, tc.says)
					require.ErrorContains(t, err, `"redlock:*"`)
					require.ErrorContains(t, err, "stop all of them, wait ")
				}
				require.NoError(t, lease.Extend(t.Context(), ttl), "the others are not disturbed")
				require.NoError(t, lease.Release(t.Context()))
				must(t)(fleet.TryAcquire(t.Context(), "k", ttl))

				h, err := other.Health(t.Context())
				require.NoError(t, err)
				require.False(t, h.HasQuorum())
				require.Contains(t, fmt.Sprint(h), tc.says)
				h, err = fleet.Health(t.Context())
				require.NoError(t, err)
				require.True(t, h.HasQuorum())
				require.Equal(t, "quorum 2 of 3, guard 1m0s", fact(h.Nodes[0], "clients"))
			})
		})
	}
}

// So does the last copy of the old ones, in the wrong order.
func TestTheFleetIsRefusedWhereAnotherClientCameFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		alone, _ := q.some(2).client(nil)
		fleet, nets := q.client(nil)
		takesTime(nets)
		must(t)(alone.TryAcquire(t.Context(), "k", ttl))
		_, err := fleet.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrRefused)
		synctest.Wait()
		require.Empty(t, q.nodes[0].value("k")+q.nodes[2].value("k"), "nothing is left")
	})
}

// Its terms would protect no lease, and refuse those who come with the right ones.
func TestAClientThatFindsNoQuorumLeavesNoTerms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		wrong, nets := q.client(nil)
		nets[1].set(refuse)
		nets[2].set(refuse)
		for range 3 {
			_, err := wrong.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			time.Sleep(testNodeTimeout)
		}
		require.Empty(t, q.nodes[0].agreed())
		right, _ := q.some(1).client(nil)
		require.NoError(t, must(t)(right.TryAcquire(t.Context(), "k", ttl)).Release(t.Context()))

		nets[1].set(healthy)
		_, err := wrong.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrRefused, "it meets the others once it has a quorum")
		require.Empty(t, q.nodes[1].agreed())
	})
}

func TestOtherPrefixesAreOtherLocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		fleet, _ := q.client(nil)
		alone, _ := q.some(1).client(&Options{Prefix: "mine:"})
		must(t)(fleet.TryAcquire(t.Context(), "k", ttl))
		must(t)(alone.TryAcquire(t.Context(), "k", ttl))
		for _, key := range []string{AgreedPrefix + "redlock:", AgreedPrefix} {
			bare, _ := q.client(&Options{NoPrefix: true})
			_, err := bare.TryAcquire(t.Context(), key, ttl)
			require.ErrorIs(t, err, lock.ErrInvalid)
		}
	})
}

// The documented way: stop all, wait for the guard time, start the new ones. Nobody is
// needed to forget anything.
func TestTheSetOfNodesIsChangedByAPauseOfTheGuardTime(t *testing.T) {
	for name, tc := range map[string]struct {
		old, new *Options
		pause    time.Duration
		ttl      time.Duration
	}{
		"guard":                {nil, nil, time.Minute, time.Minute},
		"short leases":         {nil, &Options{Quorum: 4}, time.Minute, time.Second},
		"another guard":        {nil, &Options{RestartGuard: time.Hour}, time.Minute, time.Minute},
		"no guard":             {&Options{RestartGuard: -1}, &Options{RestartGuard: -1}, 10 * time.Minute, 10 * time.Minute},
		"no guard, short ttls": {&Options{RestartGuard: -1}, nil, 15 * time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newServers(t, 5)
				old, _ := q.some(1, 2, 3).client(tc.old)
				lease := must(t)(old.TryAcquire(t.Context(), "k", tc.ttl))
				time.Sleep(tc.ttl / 2)
				require.NoError(t, lease.Extend(t.Context(), tc.ttl)) // the last of its doings, as if it died
				synctest.Wait()
				next, _ := q.client(tc.new)
				last := time.Now()
				for time.Until(lease.Expiry()) > 0 {
					_, err := next.TryAcquire(t.Context(), "k", time.Second)
					require.ErrorIs(t, err, lock.ErrRefused, "and asking does not make it longer")
					time.Sleep(tc.ttl / 10)
				}
				time.Sleep(time.Until(last.Add(tc.pause)) + 50*time.Millisecond)
				must(t)(next.TryAcquire(t.Context(), "k", time.Second))
				_, err := old.TryAcquire(t.Context(), "k", time.Second)
				require.ErrorIs(t, err, lock.ErrRefused, "one that was not stopped")
			})
		})
	}
}

// While leases stand the terms do, without a request for each.
func TestTermsStandAsLongAsALeaseIsRenewedAndCostNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		fleet, _ := q.client(nil)
		other, _ := q.some(3).client(nil)
		lease := must(t)(fleet.TryAcquire(t.Context(), "k", ttl))
		for range 200 {
			time.Sleep(ttl / 2)
			require.NoError(t, lease.Extend(t.Context(), ttl))
			_, err := other.TryAcquire(t.Context(), "other", ttl)
			require.ErrorIs(t, err, lock.ErrRefused)
		}
		require.NoError(t, lease.Release(t.Context()))
		for range 200 {
			lease := must(t)(fleet.TryAcquire(t.Context(), "k", ttl))
			require.NoError(t, lease.Release(t.Context()))
		}
		renewals := 2 * (2 + int(200*ttl/2/(time.Minute-ttl))) // a look and a write each
		require.LessOrEqual(t, q.nodes[0].seen("agree"), renewals, "400 requests in %v", 200*ttl/2)
	})
}

func TestTheLongestLeasesCostNoRequestEach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		l, _ := q.client(nil)
		for range 500 {
			lease := must(t)(l.TryAcquire(t.Context(), "k", time.Minute))
			require.NoError(t, lease.Release(t.Context()))
		}
		synctest.Wait()
		require.LessOrEqual(t, q.nodes[0].seen("agree"), 6)
	})
}

func TestClientsThatStartTogetherAgree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 5)
		var wg sync.WaitGroup
		for range 16 {
			l, nets := q.client(nil)
			for i, w := range nets {
				w.set(func(w *network) { w.delay = time.Duration(i+1) * time.Millisecond })
			}
			wg.Go(func() {
				_, err := l.TryAcquire(t.Context(), "k", ttl)
				if err != nil {
					require.NotErrorIs(t, err, lock.ErrRefused)
				}
			})
		}
		wg.Wait()
		for _, n := range q.nodes {
			require.Equal(t, q.nodes[0].agreed(), n.agreed())
		}
	})
}

// Copies of a program on several machines may know a server by several names.
func TestClientsThatKnowTheNodesByOtherNamesAgree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		fleet, _ := q.client(nil)
		calls := 0
		other, _ := q.clientWith(nil, func(o *rueidis.ClientOption) {
			calls++
			o.InitAddress = []string{fmt.Sprintf("10.0.0.%d:6379", calls)}
		})
		use(t, fleet)
		for range 3 {
			lease := must(t)(other.TryAcquire(t.Context(), "k", ttl))
			require.NoError(t, lease.Release(t.Context()))
			use(t, fleet)
		}
		// Also when a server restarts, and is another one by what it says.
		q.nodes[1].restart(false)
		for range 20 {
			use(t, fleet)
			lease := must(t)(other.TryAcquire(t.Context(), "k", ttl))
			require.NoError(t, lease.Release(t.Context()))
		}
	})
}

// Whatever becomes of the terms, a lease stands until its own end.
func TestOtherTermsNeverEndALease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		log := &lines{logtest.Recorder{First: "node"}}
		fleet, _ := q.client(&Options{Logger: log.Logger()})
		alone, _ := q.some(2).client(nil)
		lease := must(t)(fleet.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		q.nodes[1].redis.Del(AgreedPrefix + "redlock:") // by an operator
		must(t)(alone.TryAcquire(t.Context(), "other", ttl))
		for range 30 {
			require.NoError(t, lease.Extend(t.Context(), ttl))
			use(t, alone) // which takes half of the ttl
		}
		for range 3 {
			_, err := fleet.TryAcquire(t.Context(), "k2", ttl)
			require.ErrorIs(t, err, lock.ErrRefused)
		}
		warned := log.since()
		require.Len(t, warned, 1)
		require.Contains(t, warned[0], "fake2:6379 WARN clients with other nodes, another quorum or restart guard use the same locks")
		require.NoError(t, lease.Release(t.Context()))
		time.Sleep(time.Minute) // the other one has gone
		must(t)(fleet.TryAcquire(t.Context(), "k2", ttl))
	})
}

// Users from before there was this key may not have the right to it. They go on, and
// are reported.
func TestWhoMayNotUseTheKeyGoesOnAndIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		log := &lines{logtest.Recorder{First: "node"}}
		l, _ := q.client(&Options{Logger: log.Logger()})
		for _, n := range q.nodes {
			n.forbids = AgreedPrefix
		}
		for range 5 {
			lease := must(t)(l.TryAcquire(t.Context(), "k", ttl))
			require.NoError(t, lease.Release(t.Context()))
		}
		warned := log.since()
		require.Len(t, warned, 3)
		require.Contains(t, warned[0], "(ACL ~lockkeeper:agreed:*)")
		h, err := l.Health(t.Context())
		require.NoError(t, err)
		require.True(t, h.HasQuorum())
		require.Contains(t, strings.Join(h.Nodes[0].Warnings, "\n"), "(ACL ~lockkeeper:agreed:*)")
	})
}

func TestNewAsksNothingAndHealthWritesNoTerms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		l, _ := q.client(nil)
		synctest.Wait()
		require.Zero(t, q.nodes[0].seen("agree"))
		_, err := l.Health(t.Context())
		require.NoError(t, err)
		require.Empty(t, q.nodes[0].agreed())
		for range l.List(t.Context(), "") {
			t.Error("no keys")
		}
	})
}
