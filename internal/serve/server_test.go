package serve

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

var paths = []string{"/", "/lock?key=k", "/api", "/api/health", "/api/locks", "/api/events", "/metrics", "/assets/app.js", "/assets/app.css", "/assets/icon.svg"}

// Any site's page can make its own name lead to this server's address, and could then
// read it.
func TestARequestForAnotherNameIsRefused(t *testing.T) {
	s := server(t, Reading{}, healthy("n"))
	s.opts.Hosts = []string{"locks.example.com"}
	for _, host := range []string{"localhost", "LOCALHOST:4041", "127.0.0.1", "127.0.0.1:4041", "[::1]:4041", "[::1]", "10.1.2.3:80", "locks.example.com", "Locks.Example.com:443"} {
		require.Equal(t, 200, ask(s, "GET", "/", host).Code, host)
	}
	for _, host := range []string{"evil.example", "evil.example:4041", "localhost.evil.example", "127.0.0.1.evil.example", "locks.example.com.evil.example", "", "127.0.0.1@evil.example", "2130706433", "0x7f.1", "localhost:4041:evil", "[::1].evil.example"} {
		for _, path := range append(paths, "/stream", "/none") {
			require.Equal(t, http.StatusForbidden, ask(s, "GET", path, host).Code, "%s of %q", path, host)
		}
	}
}

func TestAnotherSitesPageGetsNothingToRead(t *testing.T) {
	s := server(t, Reading{}, healthy("n"))
	for mode, want := range map[string]int{"no-cors": 403, "cors": 403, "navigate": 200} {
		r := httptest.NewRequest("GET", "/api", nil)
		r.Host = "localhost:4041"
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Sec-Fetch-Mode", mode)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		require.Equal(t, want, w.Code, mode)
		require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
	}
}

func TestOnlyGetAndHeadAreAnswered(t *testing.T) {
	s := server(t, Reading{}, healthy("n"))
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PURGE"} {
		for _, path := range append(paths, "/stream") {
			w := ask(s, method, path, "localhost")
			require.Equal(t, http.StatusMethodNotAllowed, w.Code, "%s %s", method, path)
			require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		}
	}
	for _, path := range append(paths, "/stream") {
		require.Equal(t, 200, ask(s, "HEAD", path, "localhost").Code, path)
	}
}

func TestEveryAnswerHasTheContentPolicy(t *testing.T) {
	s := server(t, Reading{Locks: []Lock{held("k", "x")}}, healthy("n"))
	for _, path := range append(paths, "/none", "/assets/none", "/api/none", "/lock") {
		w := ask(s, "GET", path, "localhost")
		h := w.Header()
		require.Equal(t, policy, h.Get("Content-Security-Policy"), path)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		require.NotEmpty(t, h.Get("Cache-Control"), path)
		require.NotEmpty(t, h.Get("Content-Type"), path)
	}
	require.NotContains(t, policy, "unsafe")
	for _, path := range []string{"/", "/lock?key=k"} {
		page := get(t, s, path)
		requireHarmless(t, page)
		for _, script := range regexp.MustCompile(`<script([^>]*)>([^<]*)`).FindAllStringSubmatch(page, -1) {
			assert.Contains(t, script[1], "src=")
			assert.Empty(t, script[2])
		}
		for _, link := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
			assert.NotRegexp(t, `^([a-z]+:)?/`, link[1], "a link leads elsewhere, or breaks below a proxy's path")
			if path, ok := strings.CutPrefix(link[1], "assets/"); ok {
				assert.Equal(t, 200, ask(s, "GET", "/assets/"+path, "localhost").Code, path)
			}
		}
	}
}

func TestTheAPIHasTheWholeState(t *testing.T) {
	s := server(t, Reading{Locks: []Lock{held("a", "x"), held("b", "y")}, Events: []Event{{Kind: "acquired", Key: "a", JSON: "one"}, {Kind: "acquired", Key: "b", JSON: "two"}}}, healthy("n"))
	var all struct {
		Store     string
		Available bool
		Answered  time.Time
		Health    inspect.HealthJSON
		Locks     []inspect.KeyJSON
		Events    []string
	}
	require.NoError(t, json.Unmarshal([]byte(get(t, s, "/api")), &all))
	require.Equal(t, "test:", all.Store)
	require.True(t, all.Available)
	require.WithinDuration(t, time.Now(), all.Answered, time.Minute)
	require.Equal(t, inspect.Healthy, all.Health.Status)
	require.Len(t, all.Locks, 2)
	require.Equal(t, "x", all.Locks[0].Holder)
	require.Equal(t, []string{"two", "one"}, all.Events)
	require.NoError(t, json.Unmarshal([]byte(get(t, s, "/api?key=b")), &all))
	require.Len(t, all.Locks, 1)
	require.Equal(t, "y", all.Locks[0].Holder)
	require.Equal(t, []string{"two"}, all.Events)
	require.Equal(t, "[]\n", get(t, s, "/api/locks?prefix=none"))
}

// requireMetrics requires Prometheus' text format: each name with its help and type first.
func requireMetrics(t *testing.T, text string) {
	t.Helper()
	sample := regexp.MustCompile(`^([a-z_]+)(\{[a-z]+="(?:[^"\\\n]|\\[\\n"])*"\})? -?[0-9.e+-]+$`)
	typed := map[string]bool{}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ = strings.Cut(name, " ")
			require.False(t, typed[name], "%s twice", name)
			typed[name] = true
		}
		if strings.HasPrefix(line, "# ") {
			continue
		}
		found := sample.FindStringSubmatch(line)
		require.NotNil(t, found, "%q is no sample", line)
		require.True(t, typed[found[1]], "%s has no type", found[1])
	}
}

func TestMetrics(t *testing.T) {
	l := held("k", "x")
	l.Queues, l.Waiting = true, 2
	orphan := viewed(redlock.StateOrphaned, held("o", ""), nil, redlock.NodeView{Node: "n2", Term: 1, Holder: "gone"})
	c := healthy(`n"1`, "n2", "n3")
	c.Health.Nodes[1].Votes, c.Health.Nodes[1].LatencyMS, c.Health.Voting = false, nil, 2
	text := get(t, server(t, Reading{Locks: []Lock{l, orphan}, Events: []Event{{Kind: "acquired"}, {Kind: "acquired"}}}, c), "/metrics")
	requireMetrics(t, text)
	for _, line := range []string{
		"lockkeeper_store_available 1", `lockkeeper_locks{state="held"} 1`, `lockkeeper_locks{state="orphaned"} 1`, "lockkeeper_waiters 2",
		"lockkeeper_nodes 3", "lockkeeper_nodes_voting 2", "lockkeeper_quorum 2", `lockkeeper_node_votes{node="n\"1"} 1`, `lockkeeper_node_votes{node="n2"} 0`,
		`lockkeeper_node_latency_seconds{node="n3"} 0.001`, `lockkeeper_events_total{event="acquired"} 2`, "lockkeeper_serve_streams 0",
	} {
		assert.Contains(t, text, line+"\n")
	}
	assert.NotContains(t, text, `lockkeeper_node_latency_seconds{node="n2"}`)
}

func TestBadRequestsSayWhatIsWanted(t *testing.T) {
	s := server(t, Reading{}, healthy("n"))
	s.opts.Prefix = "mine:"
	for path, says := range map[string]string{
		"/lock": "want /lock?key=KEY", "/lock?key=": "key", "/?page=0": "want a number from 1", "/?page=x": "want a number from 1", "/?sort=size": "want held, left, waiting",
		"/?prefix=" + strings.Repeat("x", 513): "want at most 512", "/lock?key=" + strings.Repeat("x", 513): "512", "/lock?key=%ff": "UTF-8",
		"/lock?key=theirs": `begins with "mine:"`, "/stream?page=-1": "want a number from 1", "/api?page=a": "want a number from 1",
	} {
		w := ask(s, "GET", path, "localhost")
		require.Equal(t, 400, w.Code, path)
		require.Contains(t, w.Body.String(), says, path)
		require.Contains(t, w.Header().Get("Content-Type"), "text/plain")
	}
}

func TestOptionsThatCanNotWorkAreRefused(t *testing.T) {
	for _, c := range []struct {
		source Source
		opts   *Options
	}{
		{nil, nil}, {&store{}, &Options{Interval: time.Millisecond}}, {&store{}, &Options{Interval: -time.Second}},
		{&store{}, &Options{Hosts: []string{"a:80"}}}, {&store{}, &Options{Hosts: []string{""}}}, {&store{}, &Options{Hosts: []string{"*"}}}, {&store{}, &Options{Hosts: []string{"http://a"}}},
	} {
		_, err := New(c.source, c.opts)
		require.ErrorIs(t, err, lock.ErrInvalid)
	}
	s, err := New(&store{}, &Options{Hosts: []string{"a-b.example"}})
	require.NoError(t, err)
	require.Equal(t, DefaultInterval, s.opts.Interval)
}
