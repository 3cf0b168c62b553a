package redlock

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
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

// A node that reports nothing of itself is no reason to refuse.
func TestInDoubtClientsAgree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQuorum(t, 4) // by their names only
		fleet, _ := q.some(1, 2, 3).client(nil)
		other, _ := q.some(1, 2, 4).client(nil)
		use(t, fleet)
		must(t)(other.TryAcquire(t.Context(), "k", ttl))
		alone, _ := q.some(2).client(nil)
		_, err := alone.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrRefused, "their number is known")
	})
}

func TestANodeThatWasDownAgreesWhenItIsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		fleet, nets := q.client(nil)
		nets[2].set(refuse)
		start := time.Now()
		use(t, fleet)
		require.Equal(t, 5*time.Second, time.Since(start), "and that costs no time: use sleeps so long")
		require.Empty(t, q.nodes[2].agreed())
		nets[2].set(func(w *network) { w.down = false })
		use(t, fleet)
		require.Contains(t, q.nodes[2].agreed(), "fake1")
		alone, _ := q.some(3).client(nil)
		_, err := alone.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrRefused)
		synctest.Wait() // its vote is taken back
		lease := must(t)(fleet.TryAcquire(t.Context(), "k", ttl))
		synctest.Wait()
		require.NotEmpty(t, q.nodes[2].value("k"), "and votes again")
		require.NoError(t, lease.Release(t.Context()))
	})
}

func TestAHungNodeDelaysNoAgreement(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		l, nets := q.client(nil)
		nets[0].set(hang)
		start := time.Now()
		must(t)(l.TryAcquire(t.Context(), "k0", ttl))
		require.Zero(t, time.Since(start))
		for i := range 20 {
			start := time.Now()
			must(t)(l.TryAcquire(t.Context(), fmt.Sprint("k", i+1), ttl))
			require.Zero(t, time.Since(start))
		}
	})
}

// A slow node is waited for at first, since it may be the one that knows better.
func TestASlowNodeThatHasOtherTermsIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 5)
		fleet, _ := q.some(1, 2, 3).client(nil)
		use(t, fleet)
		other, nets := q.some(3, 4, 5).client(nil)
		for i, w := range nets {
			w.set(func(w *network) { w.delay = time.Duration(20/(i+1)) * time.Millisecond })
		}
		_, err := other.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrRefused)
	})
}

// A node that forgot its terms has them again before it votes.
func TestANodeThatForgotGetsTheTermsAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		fleet, _ := q.client(nil)
		lease := must(t)(fleet.TryAcquire(t.Context(), "k", ttl))
		q.nodes[1].restart(true)
		require.Empty(t, q.nodes[1].agreed())
		require.NoError(t, lease.Extend(t.Context(), ttl))
		synctest.Wait()
		require.NoError(t, lease.Extend(t.Context(), ttl)) // the node sat out the first
		synctest.Wait()
		require.NoError(t, lease.Extend(t.Context(), ttl))
		synctest.Wait()
		require.Contains(t, q.nodes[1].agreed(), "fake1")
		alone, _ := q.some(2).client(nil)
		_, err := alone.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrRefused)
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

// Text of somebody else is no terms: the node has no vote, and says why.
func TestTextThatIsNoTermsIsNoVote(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		l, _ := q.client(nil)
		for _, text := range []string{"x", "{}", `{"nodes":[],"quorum":1}`, strings.Repeat("x", maxTerms+1)} {
			for i, n := range q.nodes {
				require.NoError(t, n.redis.Set(AgreedPrefix+"redlock:", text))
				if i == 1 {
					break
				}
			}
			_, err := l.TryAcquire(t.Context(), "k", ttl)
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.ErrorContains(t, err, "node fake1:6379: unexpected text in the key in which clients agree")
		}
		for _, n := range q.nodes[:2] {
			n.redis.Del(AgreedPrefix + "redlock:")
			_, err := n.redis.Push(AgreedPrefix+"redlock:", "x")
			require.NoError(t, err)
		}
		_, err := l.TryAcquire(t.Context(), "k", ttl)
		require.ErrorContains(t, err, miniredis.ErrWrongType.Error()[:9])
	})
}

// endless takes the expiry of a node's terms away, as PERSIST, or a restore without it, does.
func (n *fakeNode) endless(t *testing.T) {
	text := n.agreed()
	require.NotEmpty(t, text)
	require.NoError(t, n.redis.Set(AgreedPrefix+"redlock:", text))
	require.Zero(t, n.redis.TTL(AgreedPrefix+"redlock:"))
}

// To delete what clients may still use would let others in beside them. What is said to do
// instead keeps them apart at any moment, and ends the refusal once nobody uses it.
func TestTermsWithoutAnExpiryAreSaidToHaveNoneAndWhatToDo(t *testing.T) {
	for name, tc := range map[string]struct {
		theirs, mine *Options
		lasting      string
	}{
		"the same guard":  {&Options{Quorum: 3}, nil, "60000: "},
		"a longer guard":  {&Options{RestartGuard: 10 * time.Minute}, nil, "600000: "},
		"a shorter guard": {&Options{RestartGuard: 20 * time.Second}, nil, "60000: "},
		"theirs is off":   {&Options{RestartGuard: -1}, nil, "with the longest ttl of all clients in ms, and 15000 at least: "},
		"mine is off":     {nil, &Options{RestartGuard: -1}, "with the longest ttl of all clients in ms, and 15000 at least: "},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newServers(t, 3)
				fleet, _ := q.client(tc.theirs)
				use(t, fleet)
				synctest.Wait()
				for _, n := range q.nodes {
					n.endless(t)
				}
				mine, _ := q.client(tc.mine)
				_, refused := mine.TryAcquire(t.Context(), "k", time.Second)
				require.ErrorIs(t, refused, lock.ErrRefused)
				h, err := mine.Health(t.Context())
				require.NoError(t, err)
				for _, err := range []error{refused, h.Nodes[0].Err, h.Nodes[2].Err} {
					require.ErrorContains(t, err, `the key "lockkeeper:agreed:redlock:" there has no expiry`)
					require.ErrorContains(t, err, `Do not delete it; give it one, by PEXPIRE "lockkeeper:agreed:redlock:" `+tc.lasting)
					require.NotContains(t, err.Error(), "-1ns")
					require.NotContains(t, err.Error(), "wait")
				}
				expire := func() {
					for _, n := range q.nodes {
						n.redis.SetTTL(AgreedPrefix+"redlock:", 10*time.Minute)
					}
				}
				expire()
				for range 60 { // for 15 minutes they go on, and nobody comes in beside them
					time.Sleep(10 * time.Second)
					use(t, fleet)
					_, err := mine.TryAcquire(t.Context(), "k", time.Second)
					require.ErrorIs(t, err, lock.ErrRefused)
				}
				for _, n := range q.nodes {
					n.endless(t)
				}
				expire()
				time.Sleep(10*time.Minute + time.Second)
				must(t)(mine.TryAcquire(t.Context(), "k", time.Second))
			})
		})
	}
}

// While the machine was suspended the nodes forgot, and others may have agreed.
func TestASuspendedClientLooksAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 3)
		fleet, nets := q.client(nil)
		takesTime(nets)
		asleep := time.Duration(0)
		fleet.suspended = func() func() time.Duration {
			since := asleep
			return func() time.Duration { return asleep - since }
		}
		lease := must(t)(fleet.TryAcquire(t.Context(), "k", ttl))
		require.NoError(t, lease.Release(t.Context()))
		synctest.Wait()
		for _, n := range q.nodes {
			n.redis.Del(AgreedPrefix + "redlock:")
		}
		alone, _ := q.some(1).client(nil)
		must(t)(alone.TryAcquire(t.Context(), "k", ttl))
		asleep = time.Hour
		_, err := fleet.TryAcquire(t.Context(), "k", ttl)
		require.ErrorIs(t, err, lock.ErrRefused)
	})
}

// The node that distinguishes two sets may have been too slow to be named in full at first.
// Who agreed in that doubt looks again soon, and not when its terms are due.
func TestADoubtThatASlowNodeLeavesEndsSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newServers(t, 4)
		fleet, nets := q.some(1, 2, 3).client(nil)
		takesTime(nets)
		slow := nets[2]
		slow.set(func(w *network) { w.delay = 800 * time.Millisecond })
		must(t)(fleet.TryAcquire(t.Context(), "k", 10*time.Second))
		other, nets := q.some(1, 2, 4).client(nil)
		takesTime(nets)
		_, _ = other.TryAcquire(t.Context(), "k2", 10*time.Second) // in doubt the sets are the same
		slow.set(func(w *network) { w.delay = time.Millisecond })
		for range 3 {
			use(t, fleet) // the slow node answers by now
		}
		_, _ = other.TryAcquire(t.Context(), "k3", 10*time.Second) // may come before it has looked
		time.Sleep(2 * time.Second)
		_, err := other.TryAcquire(t.Context(), "k4", 10*time.Second)
		require.ErrorIs(t, err, lock.ErrRefused)
	})
}

// A port or an address may have been another server's a moment ago.
func TestARunSaysMoreOfAServerThanItsName(t *testing.T) {
	mine := terms{Quorum: 2, Nodes: []member{
		{Name: "x", Run: "a", uptime: time.Hour}, {Name: "y", Run: "b", uptime: time.Hour}, {Name: "z", Run: "c", uptime: time.Hour},
	}}
	others := terms{Quorum: 2, Nodes: []member{{Name: "p", Run: "a"}, {Name: "x", Run: "b"}, {Name: "q", Run: "c"}}}
	pairs, same := mine.pair(others, time.Second)
	require.True(t, same)
	require.Equal(t, []int{0, 1, 2}, pairs)
}
