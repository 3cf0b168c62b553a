package simulation

import (
	"context"
	"fmt"
	"math"
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
	switch args[0] {
	case "EVAL":
		s.seen[scriptName(args[1])] = args[1]
	case "FUNCTION":
		s.seen["library"] = args[2]
	}
	return answered(s.n.do(args))
}

func (s *sources) DoMulti(ctx context.Context, cmds ...rueidis.Completed) (all []rueidis.RedisResult) {
	for _, cmd := range cmds {
		all = append(all, s.Do(ctx, cmd))
	}
	return all
}

// scripts are the Lua sources, as redlock sends them on a lock's way to a server with
// functions or without.
func scripts(t *testing.T, functions bool) map[string]string {
	n := newNode("n1", time.Now)
	n.noFunctions = !functions
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
	sent := []string{"library", "agree"}
	if !functions {
		sent = []string{"acquire", "extend", "release", "agree"}
	}
	for _, name := range sent {
		require.Contains(t, s.seen, name)
	}
	return s.seen
}

func TestTheSimulatedScriptsAnswerAsTheLuaDoes(t *testing.T) {
	server := redistest.Start(t)
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
	require.NoError(t, err)
	defer c.Close()
	lua := scripts(t, false)
	for _, name := range []string{"commit", "confirm", "repair", "stand", "leave"} { // what an undisturbed lock does not send
		lua[name] = loadLua(t, lua["extend"], name)
	}
	d := &differential{t: t, c: c, n: newNode("n1", time.Now), lua: lua, rng: rand.New(rand.NewPCG(1, 2))}
	d.n.run = field(mustString(t, d.do("INFO", "server")), "run_id")
	library := scripts(t, true)["library"]
	if err := d.do("FUNCTION", "LOAD", library).Error(); err == nil {
		d.library = libraryName(library)
		d.n.do([]string{"FUNCTION", "LOAD", library})
	} else {
		require.ErrorContains(t, err, "unknown command") // before Redis 7
	}
	ctx, cancel := context.WithCancel(t.Context())
	listening := make(chan error, 1)
	go func() {
		listening <- c.Receive(ctx, c.B().Subscribe().Channel("known").Build(), func(rueidis.PubSubMessage) {})
	}()
	require.Eventually(t, func() bool {
		n, err := d.do("PUBLISH", "known", "").ToInt64()
		return err == nil && n == 1
	}, time.Minute, time.Millisecond)
	d.n.publish = func(channel, _ string) int { return map[string]int{"known": 1}[channel] }
	seen := map[string]int{}
	for i := range 6000 {
		seen[d.step(i)]++
	}
	cancel()
	<-listening
	for _, what := range []string{"stand granted", "stand standing", "stand free", "stand sits out", "stand behind", "stand after", "acquire left", "release passed", "leave passed"} {
		require.NotZero(t, seen[what], "%s: %v", what, seen)
	}
}

// differential asks the server and the simulated node the same.
type differential struct {
	t   *testing.T
	c   rueidis.Client
	n   *node
	lua map[string]string
	rng *rand.Rand

	library string // of functions; "": the server has none
}

func (d *differential) do(args ...string) rueidis.RedisResult {
	return d.c.Do(d.t.Context(), d.c.B().Arbitrary(args...).Build())
}

func (d *differential) must(args ...string) {
	require.NoError(d.t, d.do(args...).Error(), args)
}

func (d *differential) pick(from ...string) string { return from[d.rng.IntN(len(from))] }

// step makes a random request, and says what became of it.
func (d *differential) step(i int) string {
	t, n, pick := d.t, d.n, d.pick
	uptime, err := strconv.Atoi(field(mustString(t, d.do("INFO", "server")), "uptime_in_seconds"))
	require.NoError(t, err)
	n.started = n.clock() - time.Duration(uptime)*time.Second
	lock := pick("l1", "l2", "l3")
	fence := "lockkeeper:fence:" + lock
	value, ttl, run := pick("v1", "v2", "v3"), pick("60000", "600000", "6000000"), pick(n.run, n.run, "other", "")
	least := pick("0", "0", "0", "1000000")
	token := pick("5", "1000", strconv.FormatInt(n.micros()+1000, 10), "9007199254740000")
	if f, ok := n.fence(fence); ok && f.count != "" && d.rng.IntN(2) == 0 {
		token = f.count
	}
	waiter := pick("w1", "w2", "w3")
	name := pick("acquire", "acquire", "commit", "extend", "repair", "release", "release", "agree", "DEL", "HSET", "HDEL", "FENCE",
		"stand", "stand", "stand", "stand", "stand", "leave", "confirm", "AGE")
	if name == "agree" {
		lock = pick("a1", "a2")
		fence = lock
		if d.rng.IntN(5) == 0 { // forgotten
			d.must("DEL", lock)
			delete(n.data.agreed, lock)
		}
	}
	args := map[string][]string{
		"acquire": {value, ttl, "600000000", least, run},
		"commit":  {value, token, "600000000"},
		"confirm": {value, ttl, "600000000", least, run, token},
		"extend":  {value, ttl, "600000000", least, run},
		"repair":  {value, ttl, "600000000", token, run},
		"release": {pick(value, value, "*"), "600000000", least, run, pick("", waiter), pick("", token, token), pick("0", "0", "1")},
		"leave":   {value, "600000000", least, run, waiter},
		"stand": {
			value, ttl, "600000000", least, run, waiter, pick("1000000000", "2000000000", "3000000000", "0"),
			pick("0", "1", "1", "1", "2"), pick("known", "known", "unknown"), pick("0", "1", "1"), pick("", "v1", "v2", "v3"), pick("", "w1", "w2"),
		},
		"agree": {pick("", value), pick("", "v1", "v2", "v3"), ttl},
	}[name]
	if name == "extend" && d.rng.IntN(2) == 0 {
		args = append(args, "exact")
	}
	what := fmt.Sprint(i, " ", name, lock, args, " at ", n.data.locks[lock], n.data.fences[fence], n.queue(fence))
	switch name {
	case "DEL":
		d.must("DEL", lock)
		delete(n.data.locks, lock)
		return name
	case "FENCE":
		d.must("DEL", fence)
		delete(n.data.fences, fence)
		return name
	case "HSET":
		count := pick("7", "1x", "0", "9007199254740991", "9007199254740992", "12", "3", "4")
		d.must("HSET", fence, "count", count, "run", run)
		f, _ := n.fence(fence)
		f.count, f.run = count, run
		n.data.fences[fence] = f
		return name
	case "HDEL":
		d.must("HDEL", fence, "run")
		if f, ok := n.fence(fence); ok {
			f.run = ""
			n.data.fences[fence] = f
		}
		return name
	case "AGE": // it has not asked for long
		if r, ok := n.queue(fence).asked(waiter); ok {
			r.fresh = 1
			n.queue(fence).requests[waiter] = r
			d.must("HSET", askedKey(lock), waiter, r.String())
		}
		return name
	}
	eval := append([]string{"EVAL", d.lua[name], "2", lock, fence}, args...)
	if d.library != "" && name != "agree" && d.rng.IntN(2) == 0 { // the same as a function
		eval[0], eval[1] = "FCALL", d.library+"_"+name
	}
	real, err := d.do(eval...).ToMessage()
	if name == "agree" { // the rest is INFO
		want, err := real.ToArray()
		require.NoError(t, err, what)
		m := reply(n.do(eval))
		got, err := m.ToArray()
		require.NoError(t, err, what)
		for i := range 2 {
			require.True(t, near("reply "+text(want[i], nil), "reply "+text(got[i], nil)), "%s: the server %v, simulated %v", what, want[i], got[i])
		}
		return name
	}
	want := text(real, err)
	m := reply(n.do(eval))
	got := text(m, m.Error())
	require.True(t, near(want, got), "%s: the server %s, simulated %s", what, want, got)
	d.compare(what, lock, fence)
	return name + " " + outcome(name, want)
}

func outcome(name, reply string) string {
	part := strings.Split(reply, " ")
	switch {
	case name == "stand" && part[0] == "1":
		return "granted"
	case name == "stand" && part[0] == "0" && part[6] != "0" && len(part) == 8:
		return "sits out"
	case name == "stand" && part[0] == "0" && part[1] != "0":
		return "behind"
	case name == "stand" && part[0] == "0" && part[2] == "":
		return "free"
	case name == "stand" && part[0] == "0" && part[4] != "":
		return "after"
	case name == "stand" && part[0] == "0":
		return "standing"
	case name == "acquire" && part[0] == "0":
		return "left"
	case reply == "3":
		return "passed"
	}
	return ""
}

func askedKey(lock string) string { return "lockkeeper:standing:asked:" + lock }

func (r request) String() string {
	return strings.Join([]string{whole(r.position), whole(r.stamp), whole(r.fresh), r.claim, r.push, r.channel, r.value}, " ")
}

// compare looks at what both have, and goes on with the server's times.
func (d *differential) compare(what, lock, fence string) {
	t, n := d.t, d.n
	there := func(res rueidis.RedisResult) string {
		m, err := res.ToMessage()
		if rueidis.IsRedisNil(err) {
			return ""
		}
		return text(m, err)
	}
	holder, _ := n.lock(lock)
	require.Equal(t, there(d.do("GET", lock)), holder.value, what)
	f, _ := n.fence(fence)
	counted, err := d.do("HMGET", fence, "count", "run", "standing", "granted").AsStrSlice()
	require.NoError(t, err)
	for i, have := range []*string{&f.count, &f.run, &f.standing, &f.granted} {
		require.True(t, near("of "+counted[i], "of "+*have), "%s: the server has %q, simulated %q", what, counted[i], *have)
		*have = counted[i]
	}
	if f != (fenceEntry{}) {
		n.data.fences[fence] = f
	}
	order, err := d.do("ZRANGE", "lockkeeper:standing:"+lock, "0", "-1").AsStrSlice()
	require.NoError(t, err)
	asked, err := d.do("HGETALL", askedKey(lock)).AsStrMap()
	require.NoError(t, err)
	q := n.queue(fence)
	require.Equal(t, strings.Join(order, " "), strings.Join(q.order(), " "), what)
	require.Len(t, asked, len(order), what)
	for waiter, want := range asked {
		r := q.requests[waiter]
		require.True(t, near("of "+want, "of "+r.String()), "%s: the server has %s of %s, simulated %s", what, want, waiter, r)
		part := strings.Split(want, " ")
		r.position, _ = strconv.ParseFloat(part[0], 64)
		r.fresh, _ = strconv.ParseFloat(part[2], 64)
		q.requests[waiter] = r
	}
}

// near: equal, but for numbers behind the first of an array: times, which may be 3s (in
// ms) apart; and for numbers of the size of clocks in microseconds, which may be as well.
func near(want, got string) bool {
	a, b := strings.Split(want, " "), strings.Split(got, " ")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, err1 := strconv.ParseFloat(a[i], 64)
		y, err2 := strconv.ParseFloat(b[i], 64)
		clock := math.Abs(x) > 1e15 && math.Abs(x-y) < 3e6
		if a[i] != b[i] && (err1 != nil || err2 != nil || !clock && (i == 0 || math.Abs(x-y) > 3000)) {
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
