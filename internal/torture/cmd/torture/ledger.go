package main

import (
	"fmt"
	"slices"
	"sync"

	"github.com/tonsurance/lockkeeper/internal/torture/history"
)

// ledger is what the parent writes down, and the register that all clients write to.
// It is safe for concurrent use.
type ledger struct {
	mu       sync.Mutex // guards all below
	leases   map[id]*history.Lease
	byKey    map[string][]*history.Lease // the same, in the order in which they came
	wants    map[id]*history.Want
	ops      []history.Op
	faults   []history.Fault
	renewals int
	odd      []history.Violation
	stalls   []history.Span
	register map[string]*cell
	open     bool // the register takes operations without tokens, which it can't compare
}

// id names a lease or a wait.
type id struct {
	client, run int
	id          int64
}

// cell is one key's place in the register and in a store that checks nothing.
type cell struct {
	seen   uint64
	value  int64
	plain  int64
	writes int64 // to the plain one
}

func newLedger() *ledger {
	return &ledger{leases: map[id]*history.Lease{}, byKey: map[string][]*history.Lease{}, wants: map[id]*history.Want{}, register: map[string]*cell{}}
}

// take notes what a client said, and gives the answer to a question.
func (g *ledger) take(client, run int, m said) (answer *directive) {
	g.mu.Lock()
	defer g.mu.Unlock()
	name := id{client, run, m.ID}
	switch m.What {
	case saidLease:
		l := &history.Lease{Key: m.Key, Client: client, Run: run, Token: m.Token, Asked: m.Asked, Got: m.At, Until: m.Until}
		g.leases[name] = l
		g.byKey[m.Key] = append(g.byKey[m.Key], l)
	case saidUntil:
		if l := g.leases[name]; l != nil {
			l.Until = m.Until
			g.renewals++
		}
	case saidEnded, saidLost:
		if l := g.leases[name]; l != nil && l.Ended == 0 {
			l.Ended, l.Lost = m.At, m.What == saidLost
		}
	case saidWant:
		g.wants[name] = &history.Want{Key: m.Key, Client: client, Span: history.Span{From: m.At}}
	case saidHas:
		if w := g.wants[name]; w != nil {
			w.To = m.At
		}
	case saidRead, saidWrite:
		return g.operate(client, run, m)
	case saidOdd:
		g.odd = append(g.odd, history.Violation{Rule: "errors are those that the interface names",
			Text: fmt.Sprintf("client %d.%d: %s", client, run, m.Text), At: mono()})
	case saidStall:
		g.stalls = append(g.stalls, history.Span{From: m.Asked, To: m.At})
	}
	return nil
}

// operate carries out a read or a write: accepted with the largest token seen, or a
// larger one. A read counts as seeing it, so that a late write can't slip in between
// the next holder's read and write. The plain store takes everything.
func (g *ledger) operate(client, run int, m said) *directive {
	c := g.register[m.Key]
	if c == nil {
		c = &cell{}
		g.register[m.Key] = c
	}
	op := history.Op{Key: m.Key, Client: client, Run: run, Token: m.Token, Write: m.What == saidWrite,
		OK: m.Token >= c.seen && (m.Token > 0 || g.open), Sure: m.Sure, Called: m.At, Applied: mono()}
	if op.Write {
		c.plain = m.Plain
		c.writes++
	}
	if op.OK {
		c.seen = m.Token
		if op.Write {
			c.value = m.Value
		}
	}
	if op.Value = c.value; op.Write {
		op.Value = m.Value
	}
	g.ops = append(g.ops, op)
	return &directive{ID: m.ID, OK: op.OK, Value: c.value, Plain: c.plain}
}

// died ends the leases of a process that was killed, at a moment before that.
func (g *ledger) died(client, run int, at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, l := range g.leases {
		if name.client == client && name.run == run && l.Ended == 0 && at < l.Until {
			l.Ended, l.Lost = at, true
		}
	}
}

// gone ends what a process that has ended wanted.
func (g *ledger) gone(client, run int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, w := range g.wants {
		if name.client == client && name.run == run && w.To == 0 {
			w.To = mono()
		}
	}
}

func (g *ledger) fault(f history.Fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = append(g.faults, f)
}

func (g *ledger) violation(rule, format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.odd = append(g.odd, history.Violation{Rule: rule, Text: fmt.Sprintf(format, args...), At: mono()})
}

// stalled is the longest time after from in which some process that should have run
// did not.
func (g *ledger) stalled(from int64) (worst history.Span) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.stalls {
		if s.To > from && s.Length() > worst.Length() {
			worst = s
		}
	}
	return worst
}

// holding gives the lease of key that is valid now.
func (g *ledger) holding(key string) (l history.Lease, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := mono()
	for _, l := range slices.Backward(g.byKey[key]) {
		if now < l.End() && l.Ended == 0 {
			return *l, true
		}
	}
	return history.Lease{}, false
}

// acquiredSince reports whether key was.
func (g *ledger) acquiredSince(key string, from int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.byKey[key], func(l *history.Lease) bool { return l.Got > from })
}

// waiting is how many want key.
func (g *ledger) waiting(key string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.wants {
		if w.Key == key && w.To == 0 {
			n++
		}
	}
	return n
}

// lostUpdates is how many writes to the plain store were undone by others.
func (g *ledger) lostUpdates() (lost, writes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.register {
		lost += c.writes - c.plain
		writes += c.writes
	}
	return lost, writes
}

// history is all of it.
func (g *ledger) history() history.History {
	g.mu.Lock()
	defer g.mu.Unlock()
	var h history.History
	now := mono()
	for _, l := range g.leases {
		h.Leases = append(h.Leases, *l)
	}
	for _, w := range g.wants {
		if w.To == 0 {
			w.To = now
		}
		h.Wants = append(h.Wants, *w)
	}
	h.Ops = append(h.Ops, g.ops...)
	h.Faults = append(h.Faults, g.faults...)
	return h
}
