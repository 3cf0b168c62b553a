package serve

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

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
