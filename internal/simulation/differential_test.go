package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/redlock"
)

// sources collects the scripts that redlock sends: a node that has none gets them.
type sources struct {
	*conn
	seen map[string]string
}

func (s *sources) Do(_ context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	args := cmd.Commands()
	if args[0] == "EVAL" {
		s.seen[scriptName(args[1])] = args[1]
	}
	return answered(s.n.do(args))
}

// scripts are the Lua sources, as redlock sends them on a lock's way.
func scripts(t *testing.T) map[string]string {
	n := newNode("n1", time.Now)
	s := &sources{&conn{n: n}, map[string]string{}}
	l, err := redlock.New([]rueidis.Client{s}, nil)
	require.NoError(t, err)
	ctx := t.Context()
	for range 3 { // those of the first can go together with what agrees on the nodes
		lease, err := l.TryAcquire(ctx, "k", time.Minute)
		require.NoError(t, err)
		require.NoError(t, lease.Extend(ctx, time.Minute))
		require.NoError(t, lease.Release(ctx))
	}
	require.NoError(t, l.Close())
	for _, name := range []string{"acquire", "extend", "release", "agree"} {
		require.Contains(t, s.seen, name)
	}
	return s.seen
}

func TestTheSimulatedScriptsAnswerAsTheLuaDoes(t *testing.T) {
	server := redistest.Start(t)
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
	require.NoError(t, err)
	defer c.Close()
	lua := scripts(t)
	for _, name := range []string{"commit", "repair"} { // what an undisturbed lock does not send
		lua[name] = loadLua(t, lua["extend"], name)
	}
	do := func(args ...string) rueidis.RedisResult {
		return c.Do(t.Context(), c.B().Arbitrary(args...).Build())
	}
	info, err := do("INFO", "server").ToString()
	require.NoError(t, err)
	n := newNode("n1", time.Now)
	n.run = field(info, "run_id")
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	for i := range 6000 {
		uptime, err := strconv.Atoi(field(mustString(t, do("INFO", "server")), "uptime_in_seconds"))
		require.NoError(t, err)
		n.started = n.clock() - time.Duration(uptime)*time.Second
		lock := pick("l1", "l2", "l3")
		fence := "f" + lock
		value, ttl, run := pick("v1", "v2", "v3"), pick("60000", "600000", "6000000"), pick(n.run, n.run, "other", "")
		least := pick("0", "0", "0", "1000000")
		token := pick("5", "1000", strconv.FormatInt(n.micros()+1000, 10), "9007199254740000")
		if f, ok := n.fence(fence); ok && rng.IntN(2) == 0 {
			token = f.count
		}
		name := pick("acquire", "acquire", "commit", "extend", "repair", "release", "agree", "DEL", "HSET", "HDEL", "FENCE")
		if name == "agree" {
			lock = pick("a1", "a2")
			fence = lock
			if rng.IntN(5) == 0 { // forgotten
				require.NoError(t, do("DEL", lock).Error())
				delete(n.data.agreed, lock)
			}
		}
		args := map[string][]string{
			"acquire": {value, ttl, "600000000", least, run},
			"commit":  {value, token, "600000000"},
			"extend":  {value, ttl, "600000000", least, run},
			"repair":  {value, ttl, "600000000", token, run},
			"release": {pick(value, value, "*"), "0", pick("0", "0", "1")},
			"agree":   {pick("", value), pick("", "v1", "v2", "v3"), ttl},
		}[name]
		if name == "extend" && rng.IntN(2) == 0 {
			args = append(args, "exact")
		}
		what := fmt.Sprint(i, " ", name, lock, args, " at ", n.data.locks[lock], n.data.fences[fence])
		switch name {
		case "DEL":
			require.NoError(t, do("DEL", lock).Error())
			delete(n.data.locks, lock)
			continue
		case "FENCE":
			require.NoError(t, do("DEL", fence).Error())
			delete(n.data.fences, fence)
			continue
		case "HSET":
			count := pick("7", "1x", "0", "9007199254740991", "9007199254740992", "12")
			require.NoError(t, do("HSET", fence, "count", count, "run", run).Error())
			n.data.fences[fence] = fenceEntry{count: count, run: run}
			continue
		case "HDEL":
			require.NoError(t, do("HDEL", fence, "run").Error())
			if f, ok := n.fence(fence); ok && f.count != "" {
				f.run = ""
				n.data.fences[fence] = f
			} else {
				delete(n.data.fences, fence)
			}
			continue
		}
		real, err := do(append([]string{"EVAL", lua[name], "2", lock, fence}, args...)...).ToMessage()
		if name == "agree" { // the rest is INFO
			want, err := real.ToArray()
			require.NoError(t, err, what)
			m := reply(n.do(append([]string{"EVAL", lua[name], "2", lock, fence}, args...)))
			got, err := m.ToArray()
			require.NoError(t, err, what)
			for i := range 2 {
				require.True(t, near("reply "+text(want[i], nil), "reply "+text(got[i], nil)), "%s: the server %v, simulated %v", what, want[i], got[i])
			}
			continue
		}
		want := text(real, err)
		m := reply(n.do(append([]string{"EVAL", lua[name], "2", lock, fence}, args...)))
		got := text(m, m.Error())
		if a, errA := strconv.ParseInt(want, 10, 64); errA == nil && a > 1e15 && name == "acquire" {
			b, errB := strconv.ParseInt(got, 10, 64)
			require.NoError(t, errB, what)
			require.InDelta(t, a, b, 5e6, what) // from the clock, in microseconds
			f := n.data.fences[fence]
			f.count = want
			n.data.fences[fence] = f
			continue
		}
		require.True(t, near(want, got), "%s: the server %s, simulated %s", what, want, got)
	}
}

// near: equal, but for numbers behind the first of an array: times, which may be 3s (in
// ms) apart.
func near(want, got string) bool {
	a, b := strings.Fields(want), strings.Fields(got)
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, err1 := strconv.ParseFloat(a[i], 64)
		y, err2 := strconv.ParseFloat(b[i], 64)
		if a[i] != b[i] && (i == 0 || err1 != nil || err2 != nil || x-y > 3000 || y-x > 3000) {
			return false
		}
	}
	return true
}

func text(m rueidis.RedisMessage, err error) string {
	if err != nil {
		return "error"
	}
	if parts, err := m.ToArray(); err == nil {
		var out []string
		for _, p := range parts {
			out = append(out, text(p, p.Error()))
		}
		return strings.Join(out, " ")
	}
	if n, err := m.ToInt64(); err == nil {
		return strconv.FormatInt(n, 10)
	}
	s, _ := m.ToString()
	return s
}

func field(info, name string) string {
	_, rest, _ := strings.Cut(info, name+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

func mustString(t *testing.T, res rueidis.RedisResult) string {
	s, err := res.ToString()
	require.NoError(t, err)
	return s
}
