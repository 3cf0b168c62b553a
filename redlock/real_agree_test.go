package redlock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// A typing error in one copy's list of nodes, or a copy that was left out of a change,
// must not lead beside the others.
func TestRealCopiesWithOtherNodesQuorumOrGuardDoNotBothLead(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 5, durableArgs...)
	for name, tc := range map[string]struct {
		fleet, copy []*redistest.Server
		o           redlock.Options
	}{
		"one node of the three":  {servers[:3], servers[1:2], redlock.Options{}},
		"three beside five":      {servers, servers[2:], redlock.Options{}},
		"five beside three":      {servers[:3], servers, redlock.Options{}},
		"another third node":     {servers[:3], []*redistest.Server{servers[0], servers[1], servers[4]}, redlock.Options{}},
		"one node in common":     {servers[:3], servers[2:], redlock.Options{}},
		"another quorum":         {servers[:3], servers[:3], redlock.Options{Quorum: 3}},
		"another guard":          {servers[:3], servers[:3], redlock.Options{RestartGuard: 2 * time.Minute}},
		"no guard":               {servers[:3], servers[:3], redlock.Options{RestartGuard: -1}},
		"another database's set": {servers[:3], servers[:1], redlock.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := strings.ReplaceAll(name, " ", "-") + ":"
			tc.o.Prefix, tc.o.NodeTimeout = prefix, nodeTimeout
			fleet := dial(t, tc.fleet, &redlock.Options{Prefix: prefix, NodeTimeout: nodeTimeout})
			first := acquire(t, fleet, "k", time.Minute)
			// With each server's run: while one has not shown it, a client that names another in
			// its place is in doubt the same.
			eventually(t, "all nodes to remember", func() bool {
				for _, s := range tc.fleet {
					if strings.Count(s.Do("GET", redlock.AgreedPrefix+prefix), `"run":`) < len(tc.fleet) {
						return false
					}
				}
				return true
			})
			other := dial(t, tc.copy, &tc.o)
			for _, key := range []string{"k", "another key"} {
				var err error
				// Until a slow node has shown its run, it is in doubt, too: k is held anyway.
				eventually(t, "a refusal", func() bool {
					_, err = other.TryAcquire(within(t, testTimeout), key, time.Minute)
					require.Error(t, err)
					return !errors.Is(err, lock.ErrHeld)
				})
				require.ErrorIs(t, err, lock.ErrRefused)
				require.ErrorContains(t, err, fmt.Sprintf("have %d nodes (", len(tc.fleet)), "what the others have")
				require.ErrorContains(t, err, fmt.Sprintf("this one has %d node", len(tc.copy)), "and what this one has")
			}
			h, err := other.Health(within(t, testTimeout))
			require.NoError(t, err)
			require.False(t, h.HasQuorum())
			require.ErrorIs(t, h.Nodes[0].Err, lock.ErrRefused)

			require.NoError(t, extend(t, first, time.Minute), "the others are not disturbed")
			release(t, first)
			release(t, acquire(t, fleet, "another key", time.Minute))
			h, err = fleet.Health(within(t, testTimeout))
			require.NoError(t, err)
			require.True(t, h.HasQuorum(), "%+v", h)
		})
	}
}

// The documented way: all are stopped, a pause of the guard time, and the new ones.
func TestRealSetOfNodesIsChangedByAPauseOfTheGuard(t *testing.T) {
	t.Parallel()
	const guard = 8 * time.Second // for which a busy machine does not stand still between two attempts
	servers := redistest.StartN(t, 5, durableArgs...)
	o := &redlock.Options{RestartGuard: guard, NodeTimeout: nodeTimeout}
	old := dial(t, servers[:3], o)
	acquire(t, old, "k", guard) // and it dies
	require.NoError(t, old.Close())
	stopped := time.Now()
	next := dial(t, servers, o)
	_, err := next.TryAcquire(within(t, testTimeout), "other", guard)
	require.ErrorIs(t, err, lock.ErrRefused)
	time.Sleep(time.Until(stopped.Add(guard))) // the pause itself
	release(t, acquire(t, next, "k", guard))
}

// What is compared is the servers, by whatever names: through proxies, and after a
// restart.
func TestRealClientsThatKnowTheServersByOtherNamesAgree(t *testing.T) {
	t.Parallel()
	servers, _, behind := proxied(t, 3)
	for _, s := range servers {
		s.Restart(true)
	}
	direct, proxied := dial(t, servers, throwaway()), dialURLs(t, behind, throwaway())
	for range 3 {
		release(t, acquire(t, direct, "k", longTTL))
		release(t, acquire(t, proxied, "k", longTTL))
	}
	servers[0].Restart(true)
	release(t, acquire(t, direct, "k", longTTL))
	release(t, acquire(t, proxied, "k", longTTL))
	release(t, acquire(t, dialURLs(t, behind, throwaway()), "k", longTTL))
}

// Locks of another database are other locks, and so are those of other libraries, which
// know nothing of this.
func TestRealOtherDatabasesAndClientsOfOtherKindsGoOn(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	l := dial(t, servers, throwaway())
	held := acquire(t, l, "k", longTTL)
	release(t, acquire(t, dialURLs(t, []string{"redis://" + servers[0].Addr() + "/1"}, throwaway()), "k", longTTL))
	require.Equal(t, "OK", servers[0].Do("SET", lockKey("another"), "redsync's", "NX", "PX", "60000"))
	release(t, held)
}

// A user from before there was the key goes on as before, and Health says what to allow.
func TestRealUserWhoMayNotUseTheKeyGoesOn(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, durableArgs...)
	var rules []string
	for _, rule := range keeperRules {
		if rule != "~"+redlock.AgreedPrefix+"*" {
			rules = append(rules, rule)
		}
	}
	s.Do(append([]string{"ACL", "SETUSER", "keeper", "on", ">secret"}, rules...)...)
	l := dialURLs(t, []string{"redis://keeper:secret@" + s.Addr()}, guarded())
	for range 3 {
		release(t, acquire(t, l, "k", time.Minute))
	}
	h, err := l.Health(within(t, testTimeout))
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
	require.Contains(t, strings.Join(h.Nodes[0].Warnings, "\n"), "ACL ~lockkeeper:agreed:*")
}

// The same servers by names that lead to them otherwise, in New.
func TestRealCallersClientsAgreeWithDialed(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	release(t, acquire(t, dial(t, servers, throwaway()), "k", longTTL))
	var clients []rueidis.Client
	for _, s := range servers {
		_, port, _ := strings.Cut(s.Addr(), ":")
		c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{"localhost:" + port}, ForceSingleClient: true, DisableCache: true, ConnWriteTimeout: time.Second})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		clients = append(clients, c)
	}
	l, err := redlock.New(clients, throwaway())
	require.NoError(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	lease, err := lock.Acquire(ctx, l, "k", longTTL, nil)
	require.NoError(t, err)
	release(t, lease)
}

// On full nodes leases go on, which takes no memory, and so must what the clients agreed
// on: else a client with other nodes comes first once there is room again.
func TestRealTermsLastAsLongAsLeasesOnFullNodes(t *testing.T) {
	t.Parallel()
	const guard = 4 * time.Second
	o := &redlock.Options{RestartGuard: guard, AssumeDurable: true, NodeTimeout: nodeTimeout}
	servers := redistest.StartN(t, 3)
	held := acquire(t, dial(t, servers, o), "k", guard)
	for _, s := range servers {
		s.Do("CONFIG", "SET", "maxmemory", "1")
	}
	for range 30 { // for longer than anything stands that nobody renews
		require.NoError(t, extend(t, held, guard))
		time.Sleep(guard / 10) // the time that passes is what this is about
	}
	for _, s := range servers {
		s.Do("CONFIG", "SET", "maxmemory", "0")
	}
	_, err := dial(t, servers[:1], o).TryAcquire(within(t, testTimeout), "another key", guard)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "have 3 nodes (")
	require.NoError(t, extend(t, held, guard))
	release(t, held)
}
