package redlock

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

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
