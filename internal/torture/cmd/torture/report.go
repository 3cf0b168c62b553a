package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/torture/history"
)

// report is what came of a run.
type report struct {
	history.History
	history.Figures
	violations               []history.Violation
	overlaps                 int // where they are no violation
	renewals                 int
	rolls, survived, spoiled int
	flushes                  int
	lost, plain              int64 // updates of the plain store
	stalls                   []history.Span
	checked                  time.Duration
	head                     string
	leftOut                  string
	rules                    history.Rules
}

func (t *torture) report() report {
	h := t.ledger.history()
	h.Seed, h.Nodes, h.Quorum, h.Clients, h.Span = t.seed, len(t.nodes), t.quorum, len(t.clients), history.Span{From: t.began, To: mono()}
	start := time.Now()
	r := report{History: h, Figures: h.Figures(), violations: append(t.ledger.odd, h.Check(t.profile.rules)...), renewals: t.ledger.renewals,
		rolls: t.rolls, survived: t.survived, spoiled: t.spoiled, flushes: t.flushes, stalls: t.ledger.stalls, rules: t.profile.rules}
	if !t.profile.rules.Exclusive {
		r.overlaps = len(h.Overlaps())
	}
	r.lost, r.plain = t.ledger.lostUpdates()
	r.checked = time.Since(start)

	var nodes []string
	for _, n := range t.nodes {
		nodes = append(nodes, n.program+" ("+n.keeping.String()+")")
	}
	servers := "no server"
	switch {
	case len(nodes) == 1:
		servers = t.nodes[0].program
	case t.store.name == "redlock":
		servers = fmt.Sprintf("%d nodes, quorum %d: %s", len(nodes), t.quorum, strings.Join(nodes, ", "))
	case len(nodes) > 1:
		servers = fmt.Sprintf("%d members of %s", len(nodes), t.nodes[0].program)
	}
	r.leftOut = t.store.leftOut
	r.head = fmt.Sprintf("store %s, seed %d, profile %s, %v: %s; %d clients of %d workers, %d keys, ttl %v to %v, locker %s",
		t.store.name, t.seed, t.profile.name, h.Length().Round(time.Second), servers,
		len(t.clients), workerCount, keyCount, maxTTL/5, maxTTL, t.locker)
	return r
}

// faultCount is how many faults there were, without what follows from them.
func (r report) faultCount() (n int, of map[string]int) {
	of = map[string]int{}
	for _, f := range r.Faults {
		if f.Kind != recovering {
			n++
			of[f.Kind]++
		}
	}
	return n, of
}

func (r report) print(out io.Writer) {
	p := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	n, of := r.faultCount()
	p("%s", r.head)
	p("")
	if r.leftOut != "" {
		p("Left out: %s.\n", r.leftOut)
	}
	p("| fault | times |\n|---|---|")
	for _, name := range slices.Sorted(maps.Keys(of)) {
		p("| %s | %d |", name, of[name])
	}
	p("| **all** | **%d** |", n)
	p("")
	p("| | |\n|---|---|")
	p("| acquisitions | %d |", r.Acquisitions)
	p("| hand-offs from one process to another | %d |", r.Handoffs)
	p("| renewals | %d |", r.renewals)
	if r.rolls > 0 {
		spoiled := ""
		if r.spoiled > 0 {
			spoiled = fmt.Sprintf(" (%d spoiled: the machine stood still)", r.spoiled)
		}
		p("| rolling restarts of all nodes that a held lease survived | %d of %d%s, with %d FLUSHALLs |", r.survived, r.rolls, spoiled, r.flushes)
	}
	p("| writes that the fenced register accepted | %d |", r.Writes)
	p("| late reads and writes that it refused | %d |", r.Stale)
	p("| updates that the same store without fencing lost | %d of %d |", r.lost, r.plain)
	if r.overlaps > 0 {
		p("| two holders at once, as the limits say | %d times |", r.overlaps)
	}
	p("| no running client had %s in reach for | %v |", r.reach(), r.NoQuorum.Round(time.Millisecond))
	p("| longest time that a wanted key had no holder | %s |", r.gap(r.GapAny))
	p("| the same while a client that wanted it had %s | %s |", r.reach(), r.gap(r.Gap))
	p("| operations checked | %d in %v |", 2*len(r.Leases)+len(r.Ops), r.checked.Round(time.Millisecond))
	p("| **violations** | **%d** |", len(r.violations))
	for i, v := range r.violations {
		if i == 20 {
			p("\nand %d more", len(r.violations)-i)
			break
		}
		p("\nVIOLATION %d: %s", i+1, v)
	}
}

// reach is what a client needs.
func (r report) reach() string {
	if r.Nodes > 1 {
		return "a quorum"
	}
	return "the store"
}

func (r report) gap(g history.Gap) string {
	if g.Length() == 0 {
		return "-"
	}
	return fmt.Sprintf("%v (%s, %v into the run)", g.Length().Round(time.Millisecond), g.Key, time.Duration(g.From-r.From).Round(time.Second))
}
