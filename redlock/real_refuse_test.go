package redlock_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// A server that answers, and refuses: it has no vote, its reason is reported, and the
// others go on.
func TestRealNodeThatRefusesCountsAsFailed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		args   []string
		refuse func(t *testing.T, s *redistest.Server)
		reason string
	}{
		{name: "wrong type of lock", reason: "WRONGTYPE", refuse: func(_ *testing.T, s *redistest.Server) {
			s.Do("RPUSH", lockKey("k"), "x")
		}},
		{name: "wrong type of fence", reason: "WRONGTYPE", refuse: func(_ *testing.T, s *redistest.Server) {
			s.Do("SET", fenceKey("k"), "1")
		}},
		{name: "count is no number", reason: "the fence count is not a number from 1 to 2^53", refuse: func(_ *testing.T, s *redistest.Server) {
			s.Do("HSET", fenceKey("k"), "count", "many", "run", "x")
		}},
		{name: "count is negative", reason: "the fence count is not a number from 1 to 2^53", refuse: func(_ *testing.T, s *redistest.Server) {
			s.Do("HSET", fenceKey("k"), "count", "-5", "run", "x")
		}},
		{name: "count is too large", reason: "the fence count is not a number from 1 to 2^53", refuse: func(_ *testing.T, s *redistest.Server) {
			s.Do("HSET", fenceKey("k"), "count", "9007199254740992", "run", "x")
		}},
		{name: "count would be too large", reason: "the fence count has reached 2^53", refuse: func(_ *testing.T, s *redistest.Server) {
			s.Do("HSET", fenceKey("k"), "count", "9007199254740991", "run", "x")
		}},
		{name: "password wanted", args: []string{"--requirepass", "pass-of-the-node"}, reason: "NOAUTH: it asks for a password"},
		{name: "no permission", reason: "NOPERM", refuse: func(_ *testing.T, s *redistest.Server) {
			s.Do("ACL", "SETUSER", "default", "-evalsha", "-fcall")
		}},
		{name: "full memory", reason: "OOM", refuse: func(_ *testing.T, s *redistest.Server) {
			s.Do("CONFIG", "SET", "maxmemory", "1")
		}},
		{name: "replica", reason: "READONLY", refuse: func(_ *testing.T, s *redistest.Server) {
			s.Do("REPLICAOF", "127.0.0.1", "1")
		}},
		{name: "cluster never formed", args: []string{"--cluster-enabled", "yes"}, reason: "CLUSTERDOWN"},
		{name: "no replicas to write", reason: "NOREPLICAS", refuse: func(_ *testing.T, s *redistest.Server) {
			s.Do("CONFIG", "SET", "min-replicas-to-write", "1")
		}},
		{name: "loading", reason: "LOADING", refuse: loading},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad := redistest.Start(t, tc.args...)
			servers := append(redistest.StartN(t, 2), bad)
			if tc.refuse != nil {
				tc.refuse(t, bad)
			}
			l := dial(t, servers, throwaway())
			for range 2 {
				lease := acquire(t, l, "k", longTTL)
				require.NoError(t, extend(t, lease, longTTL))
				release(t, lease)
			}
			servers[0].Kill()
			eventually(t, "the node's reason", func() bool {
				_, err := l.TryAcquire(within(t, testTimeout), "k", longTTL)
				require.ErrorIs(t, err, lock.ErrUnavailable)
				require.NotErrorIs(t, err, lock.ErrHeld)
				require.NotContains(t, err.Error(), "pass-of-the-node")
				_, after, found := strings.Cut(err.Error(), "node "+bad.Addr()+": ")
				reason, _, _ := strings.Cut(after, "; node ")
				return found && strings.Contains(reason, tc.reason)
			})
			standsOn(t, servers[1:2], "k", 0) // what was granted there is given back
		})
	}
}

// loading makes the server read its data for a minute.
func loading(t *testing.T, s *redistest.Server) {
	s.Do("DEBUG", "POPULATE", "10000", "filler", "100")
	s.Do("CONFIG", "SET", "key-load-delay", "6000") // microseconds a key
	if _, err := s.Try("CONFIG", "SET", "loading-process-events-interval-bytes", "1024"); err != nil {
		t.Skipf("before Redis 7 a server answers nothing while it loads so slowly: %v", err)
	}
	go func() { _, _ = s.Try("DEBUG", "RELOAD") }() // ends with the server
	eventually(t, "LOADING", func() bool {
		_, err := s.Try("GET", "x")
		return err != nil && strings.HasPrefix(err.Error(), "LOADING")
	})
}

func TestRealHealthTellsWhatPingDoesNot(t *testing.T) {
	t.Parallel()
	refusing := redistest.Start(t, "--cluster-enabled", "yes")
	full := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	dead := redistest.Start(t)
	good := redistest.Start(t, durableArgs...)
	replica := redistest.Start(t)
	servers := []*redistest.Server{good, full, dead, refusing, replica}
	l := dial(t, servers, throwaway())
	dead.Kill()
	replica.Do("REPLICAOF", "127.0.0.1", "1")
	h, err := l.Health(within(t, testTimeout))
	require.NoError(t, err)
	require.Equal(t, 3, h.Quorum)
	require.Equal(t, 2, h.Voting())
	require.False(t, h.HasQuorum())
	for i, s := range servers {
		require.Equal(t, s.Addr(), h.Nodes[i].Name)
	}
	require.NoError(t, h.Nodes[0].Err)
	require.Positive(t, h.Nodes[0].Latency)
	require.NoError(t, h.Nodes[1].Err)
	require.Error(t, h.Nodes[2].Err)
	require.ErrorContains(t, h.Nodes[3].Err, "CLUSTERDOWN")
	require.ErrorContains(t, h.Nodes[4].Err, "READONLY")
	warns := func(i int) string { return strings.Join(h.Nodes[i].Warnings, "\n") }
	require.Contains(t, warns(0), "restart guard is off")
	require.NotContains(t, warns(0), "not durable")
	require.Contains(t, warns(1), "maxmemory-policy is allkeys-lru, want noeviction")
	require.Contains(t, warns(1), "not durable")
	require.Contains(t, warns(4), "is a replica of 127.0.0.1:1")
	for _, s := range []*redistest.Server{good, full} {
		eventually(t, "the probe's end", func() bool { return s.Do("KEYS", "redlock:*") == "" })
	}
}

// Everything an operator or another library does with plain commands.
func TestRealPlainKeysOfOthersExcludeUsAndOursExcludeThem(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(string(rune('0'+n)), func(t *testing.T) {
			servers := redistest.StartN(t, n)
			first, l := dial(t, servers, throwaway()), dial(t, servers, throwaway())
			for _, s := range servers {
				require.Equal(t, "OK", s.Do("SET", "redlock:k", "theirs", "NX", "PX", "600000"))
			}
			_, err := first.TryAcquire(within(t, testTimeout), "k", longTTL)
			require.ErrorIs(t, err, lock.ErrHeld)
			// The refusals of a majority suffice; the last vote must not be granted below.
			require.NoError(t, first.Close())
			require.NotContains(t, err.Error(), "theirs", "anyone who knows a value can free the lock")
			for _, s := range servers {
				require.Equal(t, "theirs", s.Do("GET", "redlock:k"))
				s.Do("DEL", "redlock:k")
			}
			lease := acquire(t, l, "k", longTTL)
			standsOn(t, servers, "k", n)
			for _, s := range servers {
				require.Empty(t, s.Do("SET", "redlock:k", "theirs", "NX", "PX", "600000"))
				require.Equal(t, "string", s.Do("TYPE", "redlock:k"))
				require.NotContains(t, s.Do("PTTL", "redlock:k"), "-")
			}
			for _, s := range servers { // an operator frees it
				s.Do("DEL", "redlock:k")
			}
			require.ErrorIs(t, extend(t, lease, longTTL), lock.ErrLost)
		})
	}
}

// Sent back whole, it would be more than a client takes of a server: the connection
// would be cut, and all who use it would lose their answers.
func TestRealAHugeValueOfAnotherIsHeldAndCutsNoConnection(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var failed atomic.Int64
	o := throwaway()
	o.OnRequest = func(_ string, _ time.Duration, err error) {
		if err != nil {
			failed.Add(1)
		}
	}
	l := dial(t, []*redistest.Server{s}, o)
	s.Do("EVAL", "return redis.call('SET', KEYS[1], string.rep('x', 20000000))", "1", lockKey("huge"))
	lease := acquire(t, l, "k", longTTL)
	// One that takes long to be made is tried once more beside it, and one of both ends.
	eventually(t, "one connection", func() bool { return len(connectionsOf(s)) == 1 })
	connection := connectionsOf(s)
	_, err := l.TryAcquire(within(t, testTimeout), "huge", longTTL)
	held := &lock.HeldError{}
	require.ErrorAs(t, err, &held)
	require.Contains(t, held.Holder, "another client")
	v, err := l.View(within(t, testTimeout), "huge")
	require.NoError(t, err)
	require.ErrorContains(t, v.Nodes[0].Err, "20000000 bytes")
	require.NoError(t, lease.Extend(within(t, testTimeout), longTTL))
	require.Zero(t, failed.Load())
	require.Equal(t, connection, connectionsOf(s))
	require.NoError(t, l.ForceRelease(within(t, testTimeout), "huge", 0))
	release(t, acquire(t, l, "huge", longTTL))
}

// Pods have names, and one of them is what a protocol calls something else.
func TestRealAnyNameOfAHolderCanBeRead(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var failed atomic.Int64
	for _, name := range []string{"mail-unsubscribe-6d9f7:1", "subscribe", "unsubscribe", "QUEUED", "PONG", "OK", "message", "a b"} {
		o := throwaway()
		o.Owner = name
		o.OnRequest = func(_ string, _ time.Duration, err error) {
			if err != nil {
				failed.Add(1)
			}
		}
		l := dial(t, []*redistest.Server{s}, o)
		lease := acquire(t, l, name, longTTL)
		s.Do("SET", lockKey("theirs"), name)
		for _, key := range []string{name, "theirs"} {
			_, err := l.TryAcquire(within(t, testTimeout), key, longTTL)
			require.ErrorIs(t, err, lock.ErrHeld)
			_, err = l.Inspect(within(t, testTimeout), key)
			require.NoError(t, err)
			v, err := l.View(within(t, testTimeout), key)
			require.NoError(t, err)
			require.NoError(t, v.Nodes[0].Err)
		}
		info, err := l.Inspect(within(t, testTimeout), name)
		require.NoError(t, err)
		require.Equal(t, name, info.Holder)
		release(t, lease)
	}
	require.Zero(t, failed.Load())
}

// connectionsOf are the ids that the servers gave lockkeeper's connections.
func connectionsOf(servers ...*redistest.Server) []string {
	return clientIDs(servers, " name=lockkeeper ")
}

// clientIDs are the ids that the servers gave the connections of which CLIENT LIST, with these
// options, shows that text.
func clientIDs(servers []*redistest.Server, has string, options ...string) (ids []string) {
	for _, s := range servers {
		for line := range strings.Lines(s.Do(append([]string{"CLIENT", "LIST"}, options...)...)) {
			if id, rest, _ := strings.Cut(line, " "); strings.Contains(rest, has) {
				ids = append(ids, s.Addr()+" "+id)
			}
		}
	}
	return ids
}

func TestRealHostileKeysAreLocksOfTheirOwn(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	l := dial(t, servers, throwaway())
	keys := []string{
		"{", "}", "{}", "{a}", "{a}b", "a{b}c", "{{a}}", "}{", "{a", "a}", "*", "?", "[a]", `\`, `"`, "'",
		"\x00", "a\x00b", "\r\n", "*1\r\n$4\r\nPING\r\n", " ", "%s%d", "redlock:k", "lockkeeper:fence:k", "\u00e9", "e\u0301", "🔒",
		strings.Repeat("x", 512), strings.Repeat("x", 511) + "y", "K", "k",
	}
	leases := map[string]lock.Lease{}
	for _, key := range keys {
		leases[key] = acquire(t, l, key, longTTL) // would hang if two shared a lock
	}
	for _, key := range keys {
		require.Equal(t, key, leases[key].Key())
		standsOn(t, servers, key, 3)
		info, err := l.Inspect(within(t, testTimeout), key)
		require.NoError(t, err)
		require.Equal(t, leases[key].Token(), info.Token, "%q", key)
	}
	listed := map[string]bool{}
	for info, err := range l.List(within(t, testTimeout), "") {
		require.NoError(t, err)
		listed[info.Key] = true
	}
	require.Len(t, listed, len(leases))
	for _, prefix := range []string{"*", "[", `\`, "{a"} {
		for info, err := range l.List(context.Background(), prefix) {
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(info.Key, prefix), "%q in %q", info.Key, prefix)
		}
	}
	for _, key := range keys {
		require.NoError(t, extend(t, leases[key], longTTL))
		release(t, leases[key])
	}
	for _, s := range servers {
		eventually(t, "all free", func() bool { return s.Do("KEYS", "redlock:*") == "" })
	}
}

// Asking again does not mend a wrong password: a program that waits for its store must
// learn of it, and not wait for ever.
func TestRealAWrongPasswordEndsADialAndACampaign(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3, "--requirepass", "right")
	var urls []string
	for i, s := range servers {
		password := "wrong"
		if i == 0 {
			password = "right"
		}
		urls = append(urls, "redis://:"+password+"@"+s.Addr())
	}
	ctx := within(t, testTimeout)
	_, err := redlock.Dial(ctx, urls, throwaway())
	require.ErrorIs(t, err, lock.ErrRefused)
	require.NotErrorIs(t, err, lock.ErrUnavailable)
	require.NoError(t, ctx.Err(), "and does not wait until ctx ends")

	lazy := throwaway()
	lazy.Lazy = true
	l := dialURLs(t, urls, lazy)
	_, err = lock.Acquire(ctx, l, "k", longTTL, nil)
	require.ErrorIs(t, err, lock.ErrRefused)
	require.ErrorContains(t, err, "WRONGPASS")
	require.NoError(t, ctx.Err())

	for _, s := range servers {
		s.Do("CONFIG", "SET", "requirepass", "wrong")
	}
	_, err = lock.Acquire(ctx, l, "k", longTTL, nil)
	require.NoError(t, err, "two of three have that password now, and the locker is not spoilt")
}
