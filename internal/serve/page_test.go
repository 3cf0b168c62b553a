package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// hostile are names that somebody could choose to deceive or to break a page.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`,
	`{{.Store}}`, `</title><h1>`, `--><b>`, "\x1b]0;title\a\x1b[31mred", "line\nbreak\r\n", "\x00nul",
	"admin\u202egnp.exe", "\u2066isolate\u2069", "\u200bzero\ufeff", "e" + strings.Repeat("\u0301", 50),
	"\xff\xfe not UTF-8", strings.Repeat("long", 128), "emoji 🔒", "עברית", `back\slash "quotes"`, "\u2028separator",
	"a/../b?c=d&e=f#g", "%3Cscript%3E", "data: x\n\nevent: nodes\ndata: <b>",
}

var (
	onlyTags  = regexp.MustCompile(`<(/?[a-zA-Z][^\s/>]*)`)
	wholeTags = regexp.MustCompile(`<[a-zA-Z](?:[^>"]|"[^"]*")*>`)
	values    = regexp.MustCompile(`"[^"]*"`)
	inline    = regexp.MustCompile(`(?i)\s(style|on[a-z]+)\s*=`)
	elsewhere = regexp.MustCompile(`(?i)(href|src)="\s*(javascript|data):`)
	typed     = regexp.MustCompile(`(<input id="prefix"[^>]*) value="[^"]*"`)
	// known are the elements of the templates.
	known = strings.Fields("html head meta title link script noscript body a header img p span button div section aside main nav h1 h2 h3 form label input footer table caption thead tbody tr th td bdi time details summary dl dt dd ol ul li pre code small strong svg rect")
)

// requireHarmless requires that text has no element, attribute or rune that a template
// does not have.
func requireHarmless(t *testing.T, text string) {
	t.Helper()
	for _, tag := range onlyTags.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(known, strings.TrimPrefix(tag[1], "/")) {
			t.Fatalf("%s is no element of the page", tag[0])
		}
	}
	for _, tag := range wholeTags.FindAllString(text, -1) {
		bare := values.ReplaceAllString(tag, "")
		if inline.MatchString(bare) || elsewhere.MatchString(tag) {
			t.Fatalf("the content policy would refuse %s", tag)
		}
	}
	// What is typed into a field stays there, with its own direction.
	text = typed.ReplaceAllString(text, "$1")
	for _, r := range html.UnescapeString(text) {
		if r != '\n' && !strconv.IsPrint(r) && r != unicode.ReplacementChar {
			t.Fatalf("%U steers what is around it", r)
		}
	}
}

// of is a server that shows name wherever one can stand.
func showing(t *testing.T, name string) *Server {
	l := viewed(redlock.StateSplit, held(name, name), []string{name, name},
		redlock.NodeView{Node: name, Err: errors.New(name)}, redlock.NodeView{Node: name, Term: 1, Holder: name, TTL: time.Second}, redlock.NodeView{Node: name, Term: 2, Holder: name})
	l.Story, l.ResignBy = name, name
	c := healthy(name)
	c.Health.Status = name
	c.Health.Nodes = append(c.Health.Nodes, inspect.NodeJSON{Name: name, State: name, Reason: name, Texts: []lock.Fact{{Name: name, Value: name}}, Advice: []string{name}})
	s := server(t, Reading{
		Locks: []Lock{l}, Partial: errors.New(name),
		Events: []Event{{Kind: "acquired", Key: name, Text: name, JSON: map[string]string{"key": name}}, {Kind: "node_down", Node: name, Text: name, JSON: map[string]string{"node": name}}},
	}, c)
	s.opts.Store, s.opts.Prefix = name, ""
	return s
}

func TestHostileNamesAreShownAsText(t *testing.T) {
	for _, name := range hostile {
		s := showing(t, name)
		shown := html.EscapeString(plain.Printable(name))
		index := get(t, s, "/")
		requireHarmless(t, index)
		require.Contains(t, html.UnescapeString(index), html.UnescapeString(shown), "%q", name)
		if valid := strings.ToValidUTF8(name, ""); valid == name {
			page := get(t, s, "/lock?key="+url.QueryEscape(name))
			requireHarmless(t, page)
			require.Contains(t, html.UnescapeString(page), html.UnescapeString(shown), "%q", name)
			requireHarmless(t, get(t, s, "/?prefix="+url.QueryEscape(name)))
			requireHarmless(t, get(t, s, "/?prefix="+url.QueryEscape(strings.ToValidUTF8(name[len(name)/2:], ""))))
		}
		for _, path := range []string{"/api", "/api/locks", "/api/events"} {
			require.True(t, json.Valid([]byte(get(t, s, path))), path)
		}
		requireMetrics(t, get(t, s, "/metrics"))
	}
}

func FuzzNames(f *testing.F) {
	for _, name := range hostile {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || len(name) > lock.MaxKeyLen {
			t.Skip()
		}
		s := showing(t, name)
		requireHarmless(t, get(t, s, "/"))
		requireMetrics(t, get(t, s, "/metrics"))
		if lock.Check(name, time.Second) == nil {
			requireHarmless(t, get(t, s, "/lock?key="+url.QueryEscape(name)))
		}
	})
}

// A link to a key leads to that key, whatever is in its name.
func TestTheLinkOfAKeyLeadsToIt(t *testing.T) {
	for _, name := range hostile {
		if lock.Check(name, time.Second) != nil {
			continue
		}
		link := regexp.MustCompile(`href="(lock\?[^"]*)"`).FindStringSubmatch(get(t, showing(t, name), "/"))
		require.NotNil(t, link, "%q", name)
		u, err := url.Parse(html.UnescapeString(link[1]))
		require.NoError(t, err)
		require.Equal(t, name, u.Query().Get("key"))
	}
}

func TestWhatIsNotKnownIsNotShownAsZero(t *testing.T) {
	l := held("k", "x")
	l.Token = 0
	s := server(t, Reading{Locks: []Lock{l}}, Checkup{Err: errors.ErrUnsupported})
	index, page, metrics := get(t, s, "/"), get(t, s, "/lock?key=k"), get(t, s, "/metrics")
	cell := func(label string) string {
		found := regexp.MustCompile(`data-label="` + label + `"[^>]*>(.*?)</td>`).FindStringSubmatch(index)
		require.NotNil(t, found, label)
		return found[1]
	}
	for _, label := range []string{"Held for", "Token", "Waiting"} {
		assert.Contains(t, cell(label), "not known", label)
	}
	assert.Contains(t, index, "How the nodes are is not known")
	assert.Contains(t, page, "can't tell who waits")
	for _, absent := range []string{"lockkeeper_waiters", "lockkeeper_nodes", "lockkeeper_quorum"} {
		assert.NotContains(t, metrics, absent)
	}
	requireMetrics(t, metrics)

	l.Queues, l.Held, l.Token = true, time.Minute, 5
	s = server(t, Reading{Locks: []Lock{l}}, healthy("n"))
	index = get(t, s, "/")
	assert.Equal(t, "5", cell("Token"))
	assert.Equal(t, "1 min 0 s", cell("Held for"))
	assert.Contains(t, cell("Waiting"), ">0<")
	assert.Contains(t, get(t, s, "/metrics"), "lockkeeper_waiters 0\n")
}

func TestBeforeTheFirstAnswerNothingIsSaidToBeFree(t *testing.T) {
	s, err := New(&store{}, nil)
	require.NoError(t, err)
	index, page := get(t, s, "/"), get(t, s, "/lock?key=k")
	assert.NotContains(t, index, "No lock is held")
	assert.Contains(t, index, "being asked")
	assert.NotContains(t, page, "It is free")
	assert.Contains(t, get(t, s, "/api"), `"locks": null`)
	assert.Equal(t, "null\n", get(t, s, "/api/health"))
	assert.NotContains(t, get(t, s, "/metrics"), "lockkeeper_locks")

	s = server(t, Reading{Err: errDown}, Checkup{Err: errDown})
	index = get(t, s, "/")
	assert.NotContains(t, index, "No lock is held")
	assert.Contains(t, index, "Who holds what is not known")
	assert.Contains(t, index, "connection refused")
	assert.NotContains(t, get(t, s, "/lock?key=k"), "It is free")
}

// What was known stays to be seen, and that it is old is said.
func TestAnOutageShowsWhatWasKnownAsOld(t *testing.T) {
	s := server(t, Reading{Locks: []Lock{held("k", "x")}}, healthy("n"))
	s.feed.publish(func(st state, now time.Time) state { return st.take(Reading{Err: errDown}, now, now) })
	index, page := get(t, s, "/"), get(t, s, "/lock?key=k")
	for _, text := range []string{index, page} {
		assert.Contains(t, text, "stale")
		assert.Contains(t, text, "connection refused")
		assert.Contains(t, text, "The locks are shown as they were at")
		assert.Contains(t, text, "<title>no answer · ")
	}
	assert.NotContains(t, get(t, s, "/lock?key=other"), "It is free")
	assert.Contains(t, get(t, s, "/metrics"), "lockkeeper_store_available 0\n")
	assert.Contains(t, get(t, s, "/api"), `"available": false`)

	s.feed.publish(func(st state, now time.Time) state { return st.take(Reading{}, now, now) })
	assert.Contains(t, get(t, s, "/"), "No lock is held")
	assert.Contains(t, get(t, s, "/lock?key=k"), "It is free")

	s.feed.publish(func(st state, now time.Time) state { return st.take(Reading{Partial: errDown}, now, now) })
	assert.Contains(t, get(t, s, "/lock?key=k"), "some locks can&#39;t be read")
	assert.NotContains(t, get(t, s, "/lock?key=k"), "It is free")
}

func TestTheTimeLeftPassesBetweenTheAnswers(t *testing.T) {
	began := time.Now()
	l := held("k", "x")
	l.Read, l.Seen, l.TTL = began, began, 8*time.Second
	at := func(after time.Duration) *frame { return newFrame(state{}, began.Add(after)) }
	require.Equal(t, bar{8 * time.Second, 80, Plain}, at(0).bar(l), "of the longest that was seen")
	require.Equal(t, bar{2 * time.Second, 20, Warn}, at(6*time.Second).bar(l))
	require.Equal(t, bar{0, 0, Warn}, at(time.Minute).bar(l))
	require.Equal(t, heldFor{6 * time.Second, false}, at(6*time.Second).heldFor(l), "or longer")
	l.Before = false
	require.Equal(t, heldFor{6 * time.Second, true}, at(6*time.Second).heldFor(l))
	l.Held = time.Hour
	require.Equal(t, heldFor{time.Hour + time.Second, true}, at(time.Second).heldFor(l))
	l.TTL = -1
	require.Equal(t, bar{-1, 100, Plain}, at(time.Hour).bar(l))

	l = held("k", "x")
	l.Read, l.Held = began, time.Minute
	now := l.now(began.Add(4 * time.Second))
	require.Equal(t, 6*time.Second, now.TTL, "in the API, too")
	require.Equal(t, 64*time.Second, now.Held)
}

func manyLocks(n int) Reading {
	var r Reading
	for i := range n {
		l := held(fmt.Sprintf("tenant-%03d:job-%05d", i%100, i), fmt.Sprintf("host-%d:%d", i%7, i))
		l.TTL = time.Duration(i+1) * time.Second
		r.Locks = append(r.Locks, l)
	}
	return r
}

func TestTenThousandLocksAreShownByPages(t *testing.T) {
	s := server(t, manyLocks(10_000), healthy("n"))
	index := get(t, s, "/")
	require.Equal(t, perPage, strings.Count(index, `id="lock-`))
	require.Contains(t, index, "1–50 of 10000 keys")
	require.Contains(t, index, "tenant-000:job-00000")
	require.Less(t, len(index), 100_000, "bytes")
	last := get(t, s, "/?page=200")
	require.Contains(t, last, "9951–10000 of 10000 keys")
	require.Contains(t, last, "tenant-099:job-09999")
	require.Equal(t, last[strings.Index(last, "<main"):strings.Index(last, "</main>")], func() string {
		beyond := get(t, s, "/?page=100000") // as after others were released
		return beyond[strings.Index(beyond, "<main"):strings.Index(beyond, "</main>")]
	}())
	found := get(t, s, "/?prefix=tenant-042:")
	require.Contains(t, found, "1–50 of 100 keys, 10000 without the filter")
	require.Contains(t, get(t, s, "/?prefix=tenant-042:job-00042"), "1 key, 10000 without the filter")
	require.Contains(t, get(t, s, "/?prefix=nothing"), "No key that is held begins with <bdi>nothing</bdi>")
	require.Regexp(t, `(?s)id="lock-[^"]*job-00000".*id="lock-[^"]*job-00001"`, get(t, s, "/?sort=left"))
	var all []any
	require.NoError(t, json.Unmarshal([]byte(get(t, s, "/api/locks?prefix=tenant-042:")), &all))
	require.Len(t, all, 100)
}

func BenchmarkAFrameOfTenThousandLocks(b *testing.B) {
	s, err := New(&store{}, nil)
	require.NoError(b, err)
	r := manyLocks(10_000)
	for b.Loop() {
		s.feed.publish(func(st state, now time.Time) state { return st.take(r, now, now) })
		for _, part := range (view{}).parts() {
			_, err := s.feed.frame().render(part, view{})
			require.NoError(b, err)
		}
	}
}

func TestOnePageOfAViewIsRenderedOnce(t *testing.T) {
	s := server(t, manyLocks(3), healthy("n"))
	f := s.feed.frame()
	one, err := f.render("locks", view{prefix: "t"})
	require.NoError(t, err)
	again, err := f.render("locks", view{prefix: "t"})
	require.NoError(t, err)
	require.Same(t, &one[0], &again[0])
	for i := range 2 * mostParts {
		_, err := f.render("locks", view{prefix: strconv.Itoa(i)})
		require.NoError(t, err)
	}
	require.LessOrEqual(t, len(f.parts), mostParts)
}

func TestEventsArePlacedWithTheirKeyAndBounded(t *testing.T) {
	var events []Event
	for i := range 2 * keptEvents {
		events = append(events, Event{Time: time.Now(), Kind: "acquired", Key: []string{"a", "b;slot=2"}[i%2], Text: fmt.Sprintf("number %d", i)})
	}
	s := server(t, Reading{Events: events}, Checkup{Events: []Event{{Kind: "node_down", Node: "n", Text: "away"}}})
	require.Len(t, s.feed.frame().events, keptEvents)
	require.Contains(t, get(t, s, "/metrics"), `lockkeeper_events_total{event="acquired"} 1000`)
	index := get(t, s, "/")
	require.Equal(t, mostShown, strings.Count(index, `class="text"`))
	require.Contains(t, index, "away")
	page := get(t, s, "/lock?key=b")
	require.Contains(t, page, "number 999")
	require.NotContains(t, page, "number 998")
	require.NotContains(t, page, "away")
	require.NotContains(t, get(t, s, "/?prefix=a"), "number 999")
	require.Contains(t, get(t, s, "/?prefix=a"), "away", "a node is everybody's")
}

func TestSlotsAndReadersStandWithTheirKey(t *testing.T) {
	var all []inspect.Reading
	add := func(holder string, names ...string) {
		for _, name := range names {
			all = append(all, held(name, holder).Reading)
		}
	}
	add("p", "crawl", "crawl;slot=3")
	add("w", "doc", "doc;readers")
	for i := 2; i <= 16; i++ {
		add("w", fmt.Sprintf("doc;readers;slot=%d", i))
	}
	add("r1", "map;readers")
	add("r2", "map;readers;slot=2")
	add("x", "plain", ";readers", "odd;slot=1")
	var r Reading
	for _, k := range inspect.Fold(all, "") {
		r.Locks = append(r.Locks, Lock{Reading: k, Read: time.Now()})
	}
	s := server(t, r, healthy("n"))
	kinds := map[string]string{}
	for _, g := range s.feed.frame().groups {
		kinds[g.Key] = g.kind()
	}
	require.Equal(t, map[string]string{"crawl": "2 slots", "doc": "writer", "map": "2 readers", "plain": "", ";readers": "", "odd;slot=1": ""}, kinds)
	page := get(t, s, "/lock?key=map")
	require.Contains(t, page, "reader, place 1")
	require.Contains(t, page, "reader, place 2")
	require.Contains(t, get(t, s, "/lock?key=crawl"), "slot 3")
	require.Equal(t, get(t, s, "/lock?key=crawl"), get(t, s, "/lock?key="+url.QueryEscape("crawl;slot=3")), "a slot's page is its key's")
	require.Equal(t, 1, strings.Count(get(t, s, "/lock?key=doc"), "<dt>Holder</dt>"))
}
