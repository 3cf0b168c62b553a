package serve

import (
	"cmp"
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
	"github.com/tonsurance/lockkeeper/redlock"
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

// locksModel is one page of the keys that begin with a prefix.
type locksModel struct {
	*frame
	View        view
	Rows        []row
	From, Total int // which of how many match
	All         int // how many there are
	Pages       int
	Columns     []column
}

// column is a heading.
type column struct {
	Label  string
	Class  string
	Link   view
	Sorted string // aria-sort; "": not by this
	Sorts  bool
}

// row is a group in a list.
type row struct {
	Key     string
	Kind    string
	State   string // "" if it is held
	Asked   bool   // its holder is asked to resign
	Holders []string
	More    int // further holders
	Held    heldFor
	Left    bar
	Token   uint64
	Tokens  int // of how many holds; more than 1: none is shown
	Waiting int
	Queued  bool
}

// token is that of the hold; 0: not known. That of a reader's place is not the reader's.
func (l Lock) token() uint64 {
	if l.ReaderOf != "" || l.Holder == "" {
		return 0
	}
	return l.Token
}

// heldFor is how long a hold lasts already.
type heldFor struct {
	For   time.Duration
	Known bool // else it is that or longer
}

// bar is the time left.
type bar struct {
	Left  time.Duration
	Full  int // percent of the longest that was seen
	Grave Gravity
}

// mostHolders is how many a row names.
const mostHolders = 2

func (f *frame) rowOf(g group) row {
	r := row{Key: g.Key, Kind: g.kind(), State: g.state(), Asked: g.asked() != "", Tokens: len(g.holds())}
	var holders []string
	for _, l := range g.holds() {
		r.Token = l.token()
		if holder := l.Holders(); !slices.Contains(holders, holder) {
			holders = append(holders, holder)
		}
	}
	r.Holders, r.More = holders[:min(len(holders), mostHolders)], max(0, len(holders)-mostHolders)
	r.Waiting, r.Queued = g.waiting()
	last := g.last(f.at)
	r.Held, r.Left = f.heldFor(last), f.bar(last)
	return r
}

func (f *frame) heldFor(l Lock) heldFor {
	if l.Held > 0 {
		return heldFor{l.Held + f.at.Sub(l.Read), true}
	}
	return heldFor{f.at.Sub(l.Seen), !l.Before}
}

func (f *frame) bar(l Lock) bar {
	b := bar{Left: l.left(f.at), Full: 100}
	if b.Left >= 0 {
		b.Full = int(100 * b.Left / max(l.Full, 1))
	}
	// Holders renew when half of the time has passed: less than a quarter left means that
	// renewals fail, or that nobody renews.
	if b.Full < 25 {
		b.Grave = Warn
	}
	return b
}

// The columns that locks can be sorted by.
const (
	byHeld    = "held"
	byLeft    = "left"
	byWaiting = "waiting"
)

var sorts = []string{"", byHeld, byLeft, byWaiting}

func (f *frame) locksModel(v view) locksModel {
	all := f.groups
	m := locksModel{frame: f, View: v, All: len(all)}
	// They are in order: those with the prefix stand together.
	from, _ := slices.BinarySearchFunc(all, v.prefix, func(g group, prefix string) int { return cmp.Compare(g.Key, prefix) })
	to := from
	for to < len(all) && strings.HasPrefix(all[to].Key, v.prefix) {
		to++
	}
	found := f.sorted(all[from:to], v.sort)
	m.Total = len(found)
	m.Pages = max(1, (m.Total+perPage-1)/perPage)
	m.View.page = min(v.page, m.Pages-1)
	m.From = m.View.page * perPage
	for _, g := range found[m.From:min(m.Total, m.From+perPage)] {
		m.Rows = append(m.Rows, f.rowOf(g))
	}
	for _, c := range []struct{ label, class, sort string }{{"Key", "key", ""}, {"Holder", "holder", "-"}, {"Held for", "num", byHeld}, {"Time left", "left", byLeft}, {"Token", "num token", "-"}, {"Waiting", "num", byWaiting}} {
		h := column{Label: c.label, Class: c.class, Sorts: c.sort != "-", Link: view{prefix: v.prefix, sort: c.sort}}
		if h.Sorts && c.sort == v.sort {
			h.Sorted = "descending"
			if c.sort == "" || c.sort == byLeft {
				h.Sorted = "ascending"
			}
		}
		m.Columns = append(m.Columns, h)
	}
	return m
}

// sorted are groups by a column, and by key where it says the same.
func (f *frame) sorted(groups []group, by string) []group {
	var value func(row) int64
	switch by {
	case byHeld:
		value = func(r row) int64 { return -int64(r.Held.For) }
	case byLeft:
		value = func(r row) int64 {
			if r.Left.Left < 0 {
				return 1<<63 - 1
			}
			return int64(r.Left.Left)
		}
	case byWaiting:
		value = func(r row) int64 { return -int64(r.Waiting) }
	default:
		return groups
	}
	type valued struct {
		group
		value int64
	}
	all := make([]valued, len(groups))
	for i, g := range groups {
		all[i] = valued{g, value(f.rowOf(g))}
	}
	slices.SortStableFunc(all, func(a, b valued) int { return cmp.Compare(a.value, b.value) })
	sorted := make([]group, len(all))
	for i, g := range all {
		sorted[i] = g.group
	}
	return sorted
}

// To is the number of the last row.
func (m locksModel) To() int { return m.From + len(m.Rows) }

// At is the view of page n, from 0.
func (m locksModel) At(n int) view {
	v := m.View
	v.page = n
	return v
}

// Page is the number of the page that is shown, from 1.
func (m locksModel) Page() int      { return m.View.page + 1 }
func (m locksModel) Prefix() string { return m.View.prefix }

// lockModel is all about one key.
type lockModel struct {
	*frame
	Key   string
	group *group // nil: nothing of it is held
	// Doubt is why it is not known whether the key is held, where it is not shown as such.
	Doubt string
}

func (f *frame) lockModel(key string) lockModel {
	m := lockModel{frame: f, Key: key}
	all := f.groups
	i, ok := slices.BinarySearchFunc(all, key, func(g group, key string) int { return cmp.Compare(g.Key, key) })
	switch {
	case ok:
		m.group = &all[i]
	case f.err != nil && !f.read:
		m.Doubt = "the store has not answered yet"
	case !f.read:
		m.Doubt = "the store is being asked"
	case f.err != nil:
		m.Doubt = "it was free at the last answer, " + clock(f.answered)
	case f.partial != nil:
		m.Doubt = "some locks can't be read"
	}
	return m
}

// Holds are who has it: one, or several in slots or as readers.
func (m lockModel) Holds() (all []holdModel) {
	if m.group == nil {
		return nil
	}
	for _, l := range m.group.holds() {
		all = append(all, holdModel{Lock: l, Role: m.group.role(l), HeldFor: m.heldFor(l), Bar: m.bar(l)})
	}
	return all
}

func (m lockModel) Kind() string {
	if m.group == nil {
		return ""
	}
	return m.group.kind()
}

// holdModel is one of the holds of a key.
type holdModel struct {
	Lock
	Role    string
	HeldFor heldFor
	Bar     bar
}

// Since is when the hold began, on this machine's clock, for people.
func (h holdModel) Since() time.Time { return h.Read.Add(-h.Info.Held) }

// Waiters are the names of who waits, first come first, as far as the store reports them.
func (h holdModel) Waiters() []string {
	if h.View == nil {
		return nil
	}
	return h.View.Waiters
}

func (h holdModel) Token() uint64 { return h.token() }

// Several reports whether nodes have different values.
func (h holdModel) Several() bool {
	return slices.ContainsFunc(h.View.Nodes, func(n redlock.NodeView) bool { return n.Term > 1 })
}

// Resigns reports whether one holder has the key, whom others can ask to resign.
func (m lockModel) Resigns() bool {
	return m.group != nil && m.group.Own != nil && m.group.Own.Holder != ""
}

// Shell is the key as a shell takes it, "" if it can't be shown as such.
func (m lockModel) Shell() string {
	if plain.Printable(m.Key) != m.Key {
		return ""
	}
	return "'" + strings.ReplaceAll(m.Key, "'", `'\''`) + "'"
}

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
