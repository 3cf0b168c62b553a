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
	r.head = fmt.Sprintf("seed %d, profile %s, %v: %d nodes, quorum %d: %s; %d clients of %d workers, %d keys, ttl %v to %v, locker %s",
		t.seed, t.profile.name, h.Length().Round(time.Second), len(t.nodes), t.quorum, strings.Join(nodes, ", "),
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
	p("| no running client had a quorum in reach for | %v |", r.NoQuorum.Round(time.Millisecond))
	p("| longest time that a wanted key had no holder | %s |", r.gap(r.GapAny))
	p("| the same while a client that wanted it had a quorum | %s |", r.gap(r.Gap))
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

func (r report) gap(g history.Gap) string {
	if g.Length() == 0 {
		return "-"
	}
	return fmt.Sprintf("%v (%s, %v into the run)", g.Length().Round(time.Millisecond), g.Key, time.Duration(g.From-r.From).Round(time.Second))
}
