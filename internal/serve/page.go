package serve

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/lock"
)

//go:embed pages/*.html
var pageFiles embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"name": name, "shown": plain.Printable, "ago": ago, "left": left, "clock": clock, "plural": plural, "page": func(v view) template.URL { return template.URL(v.link()) },
	"lockLink": func(key string) template.URL { return template.URL(view{key: key}.link()) },
	"token":    tokenText, "facts": facts, "why": plain.Error, "label": label, "latency": latencyText, "hold": holdName, "add": func(a, b int) int { return a + b },
}).ParseFS(pageFiles, "pages/*.html"))

// perPage is how many keys a page of locks shows.
const perPage = 50

// view is what a page shows: of all locks, or of the key if there is one.
type view struct {
	prefix string
	sort   string // by which column; "": by key
	page   int    // from 0
	key    string
}

// of is the part of v that a part of the page depends on.
func (v view) of(part string) view {
	switch part {
	case "locks":
		return view{prefix: v.prefix, sort: v.sort, page: v.page}
	case "lock":
		return view{key: v.key}
	case "events":
		return view{prefix: v.prefix, key: v.key}
	}
	return view{}
}

// parts are those that a page is made of, in the order in which they change.
func (v view) parts() []string {
	if v.key != "" {
		return []string{"summary", "lock", "events"}
	}
	return []string{"summary", "nodes", "locks", "events"}
}

func (v view) query() string {
	q := url.Values{}
	if v.key != "" {
		q.Set("key", v.key)
	}
	if v.prefix != "" {
		q.Set("prefix", v.prefix)
	}
	if v.sort != "" {
		q.Set("sort", v.sort)
	}
	if v.page > 0 {
		q.Set("page", strconv.Itoa(v.page+1))
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// link is relative: a proxy may serve the page below a path of its own.
func (v view) link() string {
	if v.key != "" {
		return "lock" + v.query()
	}
	return "./" + v.query()
}

func (v view) stream() string { return "stream" + v.query() }

// model is what the template of a part shows.
func (f *frame) model(part string, v view) any {
	switch part {
	case "summary":
		return f.summary()
	case "nodes":
		return f
	case "locks":
		return f.locksModel(v)
	case "lock":
		return f.lockModel(v.key)
	}
	return f.eventsModel(v)
}

// summary is the top of each page.
type summary struct {
	*frame
	Trouble []trouble
	Title   string
}

// trouble is something that an operator must see first.
type trouble struct {
	Grave Gravity
	Text  string
}

func (f *frame) summary() summary {
	s := summary{frame: f}
	if f.err != nil {
		text := "The store does not say who holds what, since " + clock(f.since) + ": " + plain.Printable(f.err.Error()) + "."
		switch {
		case errors.Is(f.err, errors.ErrUnsupported):
			text = "This store can't say who holds what: " + plain.Printable(f.err.Error()) + "."
		case f.read:
			text += " The locks are shown as they were at " + clock(f.answered) + "."
		}
		s.Trouble = append(s.Trouble, trouble{Bad, text})
	} else if f.partial != nil {
		s.Trouble = append(s.Trouble, trouble{Warn, "Some locks can't be read: " + plain.Printable(f.partial.Error()) + ". They are shown as they were."})
	}
	if f.checked && f.health.Err != nil && !errors.Is(f.health.Err, errors.ErrUnsupported) {
		s.Trouble = append(s.Trouble, trouble{Bad, "How the nodes are is not known: " + plain.Printable(f.health.Err.Error()) + "."})
	}
	switch {
	case f.checked && f.health.Err == nil && f.health.Health.Voting < len(f.health.Health.Nodes):
		s.Title = fmt.Sprintf("%d/%d nodes · ", f.health.Health.Voting, len(f.health.Health.Nodes))
	case f.err != nil:
		s.Title = "no answer · "
	}
	return s
}

// Grave is how grave the state of the nodes is.
func (s summary) Grave() Gravity {
	switch s.health.Health.Status {
	case inspect.Healthy:
		return Good
	case inspect.Degraded:
		return Warn
	}
	return Bad
}

// Status is the state of the nodes in a few words.
func (s summary) Status() string {
	h := s.health.Health
	switch left := h.Voting - h.Quorum + 1; {
	case h.Status == inspect.Healthy && len(h.Nodes) == 1:
		return "healthy"
	case h.Status == inspect.Healthy:
		return "all healthy"
	case h.Status == inspect.Degraded:
		return fmt.Sprintf("degraded: losing %d more would stop locks", left)
	}
	return "no lock can be taken or renewed"
}

// The templates see a frame by these.

func (f *frame) Read() bool                 { return f.read }
func (f *frame) Checked() bool              { return f.checked }
func (f *frame) Health() inspect.HealthJSON { return f.health.Health }
func (f *frame) HealthErr() error           { return f.health.Err }
func (f *frame) Holds() int                 { return f.held }
func (f *frame) Waiting() int               { return f.waiting }
func (f *frame) Queued() bool               { return f.queued }
func (f *frame) Failed() bool               { return f.err != nil }
func (f *frame) Answered() time.Time        { return f.answered }
func (f *frame) Now() time.Time             { return f.at }

// eventsModel is what has happened to what a page shows.
type eventsModel struct {
	*frame
	Key    string
	Events []Event
}

// mostShown is how many events a page shows.
const mostShown = 100

func (f *frame) eventsModel(v view) eventsModel {
	m := eventsModel{frame: f, Key: v.key}
	for _, e := range f.events {
		if len(m.Events) == mostShown {
			break
		}
		if v.shows(e) {
			m.Events = append(m.Events, e)
		}
	}
	return m
}

// shows reports whether e is about what v shows. What is about no lock is about all.
func (v view) shows(e Event) bool {
	if e.Key == "" {
		return v.key == ""
	}
	if v.key != "" {
		return groupKey(e.Key) == v.key
	}
	return strings.HasPrefix(groupKey(e.Key), v.prefix)
}

// facts are what a node says of itself, but for what its state says.
func facts(n inspect.NodeJSON) []lock.Fact {
	return slices.DeleteFunc(slices.Clone(n.Texts), func(f lock.Fact) bool { return f.Name == inspect.Reachable })
}
