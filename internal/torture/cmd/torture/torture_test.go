package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// The torture runs this program again as its clients.
func TestMain(m *testing.M) {
	if os.Getenv(clientEnv) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(programtest.Main(m))
}

func settings(t *testing.T) config {
	return config{seed: rand.Uint64N(1_000_000), nodes: 3, clients: 6, profile: profiles[0], keep: t.TempDir(), locker: "lockkeeper",
		pace: 250 * time.Millisecond, chaos: 2 * time.Minute, out: os.Stdout}
}

// tortured runs, and logs the report.
func tortured(t *testing.T, c config) report {
	t.Helper()
	if c.store == nil {
		redistest.Require(t)
	}
	r, err := run(t.Context(), c)
	var out bytes.Buffer
	r.print(&out)
	t.Log(out.String())
	require.NoError(t, err)
	if len(r.violations) > 0 && c.locker == "lockkeeper" {
		dir, err := r.keepIn(os.TempDir())
		t.Logf("kept in %s: %v", dir, err)
	}
	return r
}

// Two minutes where CI demands the servers, a look in passing elsewhere.
func TestTorture(t *testing.T) {
	c := settings(t)
	c.duration, c.chaos = 15*time.Second, 10*time.Second
	if os.Getenv(redistest.RequireEnv) == "1" {
		c.duration, c.chaos = 2*time.Minute, 45*time.Second
	}
	r := tortured(t, c)
	require.Empty(t, r.violations)
	faults, _ := r.faultCount()
	require.NotZero(t, faults)
	require.NotZero(t, r.Acquisitions)
	require.NotZero(t, r.rolls)
	require.Equal(t, r.rolls, r.survived+r.spoiled)
	require.NoError(t, r.drawTo(filepath.Join(t.TempDir(), "timeline.html"), true))
}

// Half a minute of each other store where CI demands the servers, a look in passing
// elsewhere.
func TestTortureOfEachStore(t *testing.T) {
	for i := range stores {
		s := &stores[i]
		if s.name == "redlock" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			s.require(t)
			c := settings(t)
			c.store, c.nodes, c.duration = s, 0, 8*time.Second
			if os.Getenv(redistest.RequireEnv) == "1" {
				c.duration = 30 * time.Second
			}
			r := tortured(t, c)
			require.Empty(t, r.violations)
			faults, _ := r.faultCount()
			require.NotZero(t, faults)
			require.NotZero(t, r.Acquisitions)
			require.NotZero(t, r.Handoffs)
			require.NotEmpty(t, r.leftOut, "no store suffers everything")
		})
	}
}

// Every kind of fault of every store is in a plan of an hour, and none but those that its
// page excludes is unsafe.
func TestEveryKindOfFaultOfEachStoreComesUp(t *testing.T) {
	for _, s := range stores {
		kinds := s.kinds()
		p := planner{kinds: kinds, rng: rand.New(rand.NewPCG(4, 0)), nodes: s.nodes, clients: 6, maxTTL: maxTTL, unsafe: true}
		if s.nodes > 0 {
			p.quorum = s.nodes/2 + 1
		}
		seen := map[string]bool{}
		for _, f := range p.plan(time.Hour, 250*time.Millisecond) {
			seen[f.kind.name] = true
		}
		require.Len(t, seen, len(kinds), s.name)
		down := time.Duration(0)
		p.unsafe = false
		for _, f := range p.plan(time.Hour, 250*time.Millisecond) {
			require.False(t, f.kind.unsafe, "%s: %s", s.name, f.kind.name)
			if hitsServer(f) {
				down += f.length
			}
		}
		if s.nodes == 1 {
			require.Less(t, down, time.Hour/2, "%s: a system that is mostly down shows nothing", s.name)
			require.Greater(t, down, time.Hour/50, s.name)
		}
	}
}

// What the limits do not promise may happen then, but tokens stay in order, and the
// register loses nothing.
func TestTokensHoldWhereTheLockDoesNot(t *testing.T) {
	c := settings(t)
	c.duration, c.profile, c.pace = 15*time.Second, profiles[1], 100*time.Millisecond
	r := tortured(t, c)
	require.Empty(t, r.violations)
	require.NotZero(t, r.Acquisitions)
}

func TestTheSameSeedPlansTheSameFaults(t *testing.T) {
	kinds := redisKinds()
	plan := func(seed uint64, quorum int) []planned {
		p := planner{kinds: kinds, rng: rand.New(rand.NewPCG(seed, 0)), nodes: 5, clients: 6, quorum: quorum, guard: 4 * time.Second, maxTTL: maxTTL}
		return p.plan(10*time.Minute, 250*time.Millisecond)
	}
	require.Equal(t, plan(1, 3), plan(1, 3))
	require.NotEqual(t, plan(1, 3), plan(2, 3))
	require.Greater(t, len(plan(1, 3)), 10*60*2, "at two faults a second")
}

// No plan of the safe profile makes more nodes forget within one ttl than two quorums
// can spare: none, with majorities; two of five, where four must agree.
func TestASafePlanFlushesNoMoreNodesThanAQuorumSurvives(t *testing.T) {
	for _, test := range []struct{ nodes, quorum, most int }{{3, 2, 0}, {5, 3, 0}, {3, 3, 2}, {5, 4, 2}, {4, 3, 1}} {
		p := planner{kinds: redisKinds(), rng: rand.New(rand.NewPCG(3, 0)), nodes: test.nodes, clients: 6, quorum: test.quorum, guard: 4 * time.Second, maxTTL: maxTTL}
		var flushed []planned
		for _, f := range p.plan(30*time.Minute, 250*time.Millisecond) {
			require.True(t, !f.kind.unsafe || f.kind.forgets, f.kind.name)
			if f.kind.forgets {
				flushed = append(flushed, f)
			}
		}
		most := 0
		for i := range flushed {
			nodes := map[int]bool{}
			for _, f := range flushed[i:] {
				if f.at < flushed[i].at+maxTTL {
					nodes[f.node] = true
				}
			}
			most = max(most, len(nodes))
		}
		require.Equal(t, test.most, most, "%+v", test)
	}
}

// Every kind of fault is in a plan of half an hour, and can be carried out.
func TestEveryKindOfFaultComesUp(t *testing.T) {
	p := planner{kinds: redisKinds(), rng: rand.New(rand.NewPCG(4, 0)), nodes: 3, clients: 6, quorum: 2, guard: 4 * time.Second, maxTTL: maxTTL, unsafe: true}
	seen := map[string]bool{}
	for _, f := range p.plan(30*time.Minute, 250*time.Millisecond) {
		seen[f.kind.name] = true
	}
	require.Len(t, seen, len(redisKinds()))
}

func TestBadFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-nodes", "2"}, {"-clients", "1"}, {"-profile", "x"}, {"-quorum", "1"}, {"-locker", "x"}, {"-only", "("},
		{"-store", "x"}, {"-store", "file", "-nodes", "3"}, {"-store", "postgres", "-locker", "redsync"}, {"-store", "file", "-profile", "fenced"},
		{"-duration", "0s"}, {"-check", "/no/such/file"}, {"extra"}} {
		require.Error(t, realMain(context.Background(), args), args)
	}
}
