//go:build unix

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

var update = flag.Bool("update", false, "write the golden files, and the blocks of the pages that show them")

// What the command prints stands in testdata/golden, word for word. A page that shows it
// has the name before the block: <!-- golden: list.txt -->. After a change:
//
//	go test ./internal/cli -run Golden -update
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "%s: go test ./internal/cli -run Golden -update writes it", name)
}

// goldenBlock is a block of a page that shows a golden file; a prompt may stand before it.
var goldenBlock = regexp.MustCompile("(?s)<!-- golden: (\\S+) -->\n```\\w*\n((?:\\$ [^\n]*\n)?)(.*?)```")

// printed is what f prints, without a terminal, in a bubble whose clock says when.
func printed(t *testing.T, output string, f func(a *app) error) (out string) {
	t.Helper()
	local := time.Local
	time.Local = time.UTC
	defer func() { time.Local = local }()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(goldenTime))
		var b bytes.Buffer
		require.NoError(t, f(&app{out: &b, err: &b, getenv: func(string) string { return "" }, output: output}))
		out = b.String()
	})
	return out
}

var goldenTime = time.Date(2026, 11, 28, 7, 32, 40, 0, time.UTC)

var errDial = errors.New("dial tcp 127.0.0.1:6380: connect: connection refused")

// goldenView is a key on three nodes, one of which is down.
func goldenView(key, holder string, token uint64, left time.Duration, waiters ...string) inspect.Reading {
	v := redlock.View{
		Info:  lock.Info{Key: key, Holder: holder, Token: token, TTL: left, Waiting: len(waiters)},
		State: redlock.StateHeld, Quorum: 2, Waiters: waiters,
	}
	for i, node := range []string{"localhost:6379", "localhost:6380", "localhost:6381"} {
		n := redlock.NodeView{Node: node, Err: errDial}
		if i != 1 {
			n = redlock.NodeView{Node: node, Term: 1, Holder: holder, TTL: left, Count: token}
		}
		v.Nodes = append(v.Nodes, n)
	}
	return inspect.Reading{Info: v.Info, View: &v, Queues: true, At: goldenTime}
}

// goldenFile is a key in a store that reports ages.
func goldenFile(key, holder string, token uint64, left, held time.Duration, waiting int) inspect.Reading {
	return inspect.Reading{Info: lock.Info{Key: key, Holder: holder, Token: token, TTL: left, Held: held, Waiting: waiting}, Queues: true, At: goldenTime}
}

const goldenToken = 1795678661850660

// goldenLocks are one of each kind: a leader that was asked to resign, slots, readers, a
// writer with all its places.
func goldenLocks() []inspect.Reading {
	all := []inspect.Reading{
		goldenFile("catalogue;readers", "web-1:5120", goldenToken+1, 25300*time.Millisecond, 94*time.Second, 0),
		goldenFile("catalogue;readers;slot=7", "web-2:4411", goldenToken+2, 27100*time.Millisecond, 3*time.Second, 0),
		goldenFile("crawl", "web-1:2201", goldenToken+3, 28*time.Second, 4*time.Minute, 2),
		goldenFile("crawl;slot=2", "web-2:2207", goldenToken+4, 21500*time.Millisecond, 12*time.Second, 2),
		goldenFile("pricing-oracle-keeper", "web-1:4436", goldenToken, 28100*time.Millisecond, 76*time.Hour+12*time.Minute, 1),
		goldenFile(fmt.Sprintf("pricing-oracle-keeper;resign=%d", goldenToken), "ops-1:900", goldenToken+5, time.Minute, time.Second, 0),
		goldenFile("rates", "web-2:6001", goldenToken+6, 29*time.Second, 2*time.Second, 0),
		goldenFile("rates;readers", "web-2:6001", goldenToken+7, 29*time.Second, 2*time.Second, 0),
	}
	for slot := 2; slot <= 16; slot++ {
		all = append(all, goldenFile(fmt.Sprintf("rates;readers;slot=%d", slot), "web-2:6001", goldenToken+7, 29*time.Second, 2*time.Second, 0))
	}
	return all
}

func TestGoldenList(t *testing.T) {
	for output, name := range map[string]string{"table": "list.txt", "json": "list.json"} {
		golden(t, name, printed(t, output, func(a *app) error { return a.printLocks(inspect.Fold(goldenLocks(), ""), "", true) }))
	}
	split := goldenView("prices", "", 0, 0)
	split.View.State = redlock.StateSplit
	split.View.Nodes[0].Holder, split.View.Nodes[0].Term, split.View.Nodes[0].TTL = "web-1:17", 1, 9*time.Second
	split.View.Nodes[2].Holder, split.View.Nodes[2].Term, split.View.Nodes[2].TTL = "web-2:18", 2, 9*time.Second
	all := []inspect.Reading{goldenView("pricing-oracle-keeper", "web-1:4436", goldenToken, 28100*time.Millisecond, "web-2:4495"), split}
	golden(t, "list-redis.txt", printed(t, "table", func(a *app) error { return a.printLocks(inspect.Fold(all, ""), "", true) }))
	golden(t, "list-none.txt", printed(t, "table", func(a *app) error { return a.printLocks(nil, "", true) }))
}

func TestGoldenShow(t *testing.T) {
	redis := goldenView("pricing-oracle-keeper", "web-1:4436", goldenToken, 28100*time.Millisecond, "web-2:4495")
	file := goldenFile("pricing-oracle-keeper", "web-1:4436", goldenToken, 28100*time.Millisecond, 76*time.Hour+12*time.Minute, 1)
	file.ResignBy = "ops-1:900"
	// As Group makes them.
	folded := inspect.Fold(goldenLocks(), "")
	readers := inspect.Reading{Info: lock.Info{Key: "catalogue"}, Queues: true, Readers: folded[:2]}
	writer := folded[len(folded)-1]
	require.Equal(t, "rates", writer.Key)
	for name, k := range map[string]inspect.Reading{
		"show-redis": redis, "show-file": file, "show-readers": readers, "show-writer": writer,
		"show-free": {Info: lock.Info{Key: "pricing-oracle-keeper"}},
	} {
		golden(t, name+".txt", printed(t, "table", func(a *app) error { return a.printReading(k) }))
	}
	golden(t, "show-redis.json", printed(t, "json", func(a *app) error { return a.printReading(redis) }))
	golden(t, "show-readers.json", printed(t, "json", func(a *app) error { return a.printReading(readers) }))
}

func goldenHealth() lock.Health {
	facts := func(persistence, eviction, clock, guard string, guardLeft float64) []lock.Fact {
		f := []lock.Fact{
			{Name: "reachable", Value: "yes"}, {Name: "version", Value: "Redis 7.0.15"}, {Name: "role", Value: "primary"}, {Name: "persistence", Value: persistence},
			{Name: "memory", Value: "1.4 MB of 256 MB", Measures: []lock.Measure{{Name: "memory_bytes", Value: 1468006}, {Name: "memory_limit_bytes", Value: 256 << 20}}},
			{Name: "eviction", Value: eviction}, {Name: "uptime", Value: "2s", Measures: []lock.Measure{{Name: "uptime_seconds", Value: 2}}},
			{Name: "clock", Value: clock, Measures: []lock.Measure{{Name: "clock_ahead_seconds", Value: 5e-06}, {Name: "clock_error_seconds", Value: 1.5e-05}}},
			{Name: "guard", Value: guard}, {Name: "functions", Value: "yes"},
		}
		if guardLeft > 0 {
			f[8].Measures = []lock.Measure{{Name: "guard_left_seconds", Value: guardLeft}}
		}
		return f
	}
	return lock.Health{Quorum: 2, Nodes: []lock.NodeHealth{
		{Name: "localhost:6379", Latency: 168 * time.Microsecond, Facts: facts("durable (aof, always)", "noeviction", "+5µs ±15µs", "durable", 0)},
		{Name: "localhost:6380", Err: errDial, Facts: []lock.Fact{{Name: "reachable", Value: "no"}}},
		{
			Name: "localhost:6381", Latency: 65 * time.Microsecond, Facts: facts("aof, everysec", "allkeys-lru", "+5µs ±15µs", "votes in 59s", 59),
			Err: errors.New("restarted lately and may have forgotten locks: votes in 59s (it is not known to be durable; see Options.RestartGuard)"),
			Warnings: []string{
				"not durable (appendonly yes, appendfsync everysec, no-appendfsync-on-rewrite no; want yes, always, no): after a restart it does not vote for 1m0s",
				"maxmemory-policy is allkeys-lru, want noeviction: a full node could evict a held lock",
			},
		},
	}}
}

func TestGoldenHealth(t *testing.T) {
	r := healthReport{inspect.Health(goldenHealth()), "Redis node"}
	table := printed(t, "table", func(a *app) error { return a.printHealth(r) })
	for line := range strings.Lines(table) {
		require.LessOrEqual(t, columns(strings.TrimSuffix(line, "\n")), 100, line)
	}
	golden(t, "health.txt", table)
	golden(t, "health-wide.txt", printed(t, "wide", func(a *app) error { return a.printHealth(r) }))
	golden(t, "health-lines.txt", printed(t, "lines", func(a *app) error { return a.printHealthLines(r) }))
	golden(t, "health.json", printed(t, "json", func(a *app) error { return a.printJSON(r.HealthJSON) }))
}

// goldenEvents feeds s with what happens in some seconds.
func goldenEvents(s *watchState) (events []event) {
	at := func(seconds int, all []inspect.Reading) {
		l := listing{began: goldenTime.Add(time.Duration(seconds) * time.Second), locks: all}
		l.ended = l.began
		for i := range l.locks {
			l.locks[i].At = l.began
		}
		l.fold("")
		events = append(events, s.update(l)...)
	}
	check := func(seconds int, down bool) {
		h := goldenHealth()
		h.Nodes[2].Err = nil
		if !down {
			h.Nodes[1].Err, h.Nodes[1].Latency = nil, 71*time.Microsecond
		}
		events = append(events, s.checkup(goldenTime.Add(time.Duration(seconds)*time.Second), h, nil)...)
	}
	without := func(all []inspect.Reading, n int) []inspect.Reading { return append(all[:n:n], all[n+1:]...) }
	before := without(goldenLocks(), 5) // nobody has asked yet
	before[4].Held, before[4].Waiting = 0, 1
	at(0, before)
	check(0, false)
	asked := goldenLocks()
	asked[4].Held = 0
	at(1, asked)
	check(2, true)
	next := without(goldenLocks(), 5)
	next[4] = goldenFile("pricing-oracle-keeper", "web-2:4495", goldenToken+9, 29500*time.Millisecond, 500*time.Millisecond, 0)
	at(3, next[1:]) // and a reader has left
	return events
}

func TestGoldenWatch(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	w := &watcher{a: a}
	events := goldenEvents(&w.state)
	w.screen = &screen{w: &bytes.Buffer{}}
	require.NoError(t, w.report(events))
	golden(t, "watch.txt", strings.Join(w.frame(goldenTime.Add(4*time.Second), 100, 40), "\n")+"\n")
	var lines, objects strings.Builder
	for _, e := range events {
		fmt.Fprintln(&lines, e.line())
		encoder := json.NewEncoder(&objects)
		encoder.SetEscapeHTML(false)
		require.NoError(t, encoder.Encode(e))
		if e.Kind == evHandedOver {
			text, err := json.Marshal(e)
			require.NoError(t, err)
			golden(t, "watch-handed-over.jsonl", string(text)+"\n")
		}
	}
	golden(t, "watch-lines.txt", lines.String())
	golden(t, "watch.jsonl", objects.String())
}

// steadied puts fixed values in the place of what differs each time.
func steadied(out, url string) string {
	host, _ := os.Hostname()
	for _, r := range [][2]string{
		{regexp.QuoteMeta(url), "file:///run/locks"},
		{regexp.QuoteMeta(host) + `:\d+`, "web-1:4436"},
		{`token \d{16}`, fmt.Sprint("token ", goldenToken)},
		{`for up to \d[0-9.]*s`, "for up to 29.9s"},
		{`after \d[0-9.]*(µs|ms|s)`, "after 2ms"},
	} {
		out = regexp.MustCompile(r[0]).ReplaceAllString(out, r[1])
	}
	return out
}

func TestGoldenRun(t *testing.T) {
	url := fileURL(t)
	var b strings.Builder
	say := func(p *programtest.Program) { b.WriteString(steadied(p.Out.String(), url)) }
	prompt := func(args ...string) {
		b.WriteString("$ lockkeeper")
		for _, arg := range args {
			if strings.Contains(arg, " ") {
				arg = quoted(arg)
			}
			b.WriteString(" " + arg)
		}
		b.WriteByte('\n')
	}
	ends := func(args ...string) {
		prompt(args...)
		p := start(t, url, nil, args...)
		code := p.Exits(t)
		say(p)
		if code != 0 {
			fmt.Fprintf(&b, "(exit status %d)\n", code)
		}
	}
	ends("run", "keeper", "--", "echo", "working")
	holder := start(t, url, nil, "run", "keeper", "-q", "--", "sleep", "1000")
	require.Eventually(t, func() bool { return shown(t, url, "keeper").Held }, testTimeout, 20*time.Millisecond)
	ends("run", "keeper", "--once", "--", "echo", "working")
	prompt("run", "keeper", "--", "echo", "working")
	waiter := start(t, url, nil, "run", "keeper", "--", "echo", "working")
	waiter.Sees(t, "standing by")
	require.NoError(t, holder.Process.Signal(os.Interrupt))
	require.Zero(t, waiter.Exits(t))
	say(waiter)
	ends("run", "--shared", "catalogue", "--", "echo", "reading")
	ends("run", "--exclusive", "catalogue", "--", "echo", "writing")
	ends("run", "keeper", "--", "sh", "-c", "exit 3")
	ends("resign", "keeper")
	golden(t, "run.txt", b.String())
}

func TestGoldenErrors(t *testing.T) {
	var b strings.Builder
	for _, line := range []string{
		"run keeper", "run keeper --ttl 5 -- true", "run keeper --once --wait 5s -- true", "run keeper --shared --exclusive -- true",
		"run keeper --exclusive --slots 3 -- true", "run keeper --shared --slots 17 -- true", "run keeper --exclusive --at-least 1m -- true",
		"run keeper --onec -- true", "run keeper --url redis://localhost -- true", "run keeper --nodes localhost -- true", "run keeper --url memory: -- nosuch",
		"show", "list a b", "lsit", "release keeper", "health -o yaml", "watch --interval 1ms", "show keeper --url file:///nosuch/locks",
		"health --url redlock://127.0.0.1:1", "list --url redlock://127.0.0.1:1",
	} {
		out, code := said(t, strings.Fields(line)...)
		fmt.Fprintf(&b, "$ lockkeeper %s\n%s(exit status %d)\n", line, out, code)
	}
	golden(t, "errors.txt", b.String())
}

// shownOnPages must be on some page: a newcomer sees them there first.
var shownOnPages = []string{"health.txt", "show-redis.txt", "list.txt", "watch.txt", "watch-handed-over.jsonl", "run.txt"}

func TestGoldenFilesAreWhatThePagesShow(t *testing.T) {
	found := map[string]bool{}
	for _, page := range []string{"../../README.md", "../../cmd/lockkeeper/README.md", "../../docker/README.md"} {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		written := goldenBlock.ReplaceAllStringFunc(string(text), func(block string) string {
			m := goldenBlock.FindStringSubmatch(block)
			want, err := os.ReadFile(filepath.Join("testdata", "golden", m[1]))
			require.NoError(t, err, page)
			found[m[1]] = true
			if prompt := m[2]; strings.HasPrefix(string(want), "$ ") { // it has its own
				m[2], m[3] = "", prompt+m[3]
			}
			if *update {
				return block[:len(block)-len(m[3])-len("```")] + string(want) + "```"
			}
			require.Equal(t, string(want), m[3], "%s shows %s: go test ./internal/cli -run Golden -update writes it", page, m[1])
			return block
		})
		require.Equal(t, strings.Count(string(text), "<!-- golden: "), len(goldenBlock.FindAllString(string(text), -1)), "%s: a golden file without its block", page)
		if *update {
			require.NoError(t, os.WriteFile(page, []byte(written), 0o644))
		}
	}
	for _, name := range shownOnPages {
		require.True(t, found[name], "%s is on no page", name)
	}
}
