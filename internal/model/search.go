package model

import (
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"slices"
)

// System is something that can be in states, from an initial one by steps.
type System[S comparable] interface {
	Init() S
	// Next calls step for each state that may follow s, with what happened.
	Next(s S, step func(next S, what Step))
	// Wrong says what is wrong with s; "" for nothing.
	Wrong(s S) string
	// Canon gives one state for all that differ by the numbers of nodes only.
	Canon(s S) S
}

// Step is what happened to attempt K and node I; -1 for none in particular.
type Step struct {
	What string
	K, I int8
	N    int16 // a number that belongs to it: a count, a token, ticks; -1: none
}

func (s Step) String() string {
	text := s.What
	if s.K >= 0 {
		text = fmt.Sprintf("%c: %s", 'A'+s.K, text)
	}
	if s.I >= 0 {
		text += fmt.Sprintf(" at node %d", s.I+1)
	}
	if s.N >= 0 {
		text += fmt.Sprintf(" [%d]", s.N)
	}
	return text
}

// Result of a search or of walks.
type Result struct {
	States int    // that were seen: different ones by a search, steps of walks
	Whole  bool   // there are no others
	Wrong  string // what is wrong with the last state of Trace; "" if nothing was found
	Trace  []string
}

// Search visits states breadth first, at most limit of them (0: no limit), until one
// is wrong: no trace to a wrong state is shorter than the one that it gives.
//
// States that were seen are known by 128 bits of hash: with 100 million states, the
// odds that one was taken for another are below 1 in 10^22.
func Search[S comparable](sys System[S], limit int) Result {
	type print [2]uint64
	seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	printOf := func(s S) print {
		return print{maphash.Comparable(seeds[0], s), maphash.Comparable(seeds[1], s)}
	}
	first := sys.Canon(sys.Init())
	prints := []print{printOf(first)} // of states in the order in which they were found
	parents := []uint32{0}
	seen := map[print]struct{}{prints[0]: {}}
	level := []S{first}
	for at := uint32(0); len(level) > 0; {
		var nextLevel []S
		for _, s := range level {
			wrong := ""
			sys.Next(s, func(next S, _ Step) {
				if wrong != "" {
					return
				}
				next = sys.Canon(next)
				p := printOf(next)
				if _, ok := seen[p]; ok {
					return
				}
				seen[p] = struct{}{}
				prints = append(prints, p)
				parents = append(parents, at)
				nextLevel = append(nextLevel, next)
				wrong = sys.Wrong(next)
			})
			if wrong != "" {
				var way []print
				for i := uint32(len(prints) - 1); i != 0; i = parents[i] {
					way = append(way, prints[i])
				}
				slices.Reverse(way)
				return Result{
					States: len(prints),
					Wrong:  wrong,
					Trace:  retrace(sys, len(way), func(i int, s S) bool { return printOf(s) == way[i] }),
				}
			}
			if limit > 0 && len(prints) >= limit {
				return Result{States: len(prints)}
			}
			at++
		}
		level = nextLevel
	}
	return Result{States: len(prints), Whole: true}
}

// retrace goes a way again, with nodes that keep their numbers.
func retrace[S comparable](sys System[S], steps int, is func(step int, canon S) bool) []string {
	s := sys.Init()
	var trace []string
	for i := range steps {
		var to S
		var how Step
		found := false
		sys.Next(s, func(next S, what Step) {
			if !found && is(i, sys.Canon(next)) {
				to, how, found = next, what, true
			}
		})
		s = to
		trace = append(trace, line(how, s))
	}
	return trace
}

// weight is how likely a walk takes a step among others. What ends an attempt early is
// rare, and what it waits for is not: else few walks would come to a lease.
func (s Step) weight() int {
	switch s.What {
	case "gives up", "releases":
		return 1
	case "a tick passes", "holds, for so many ticks", "has extended, to so many ticks":
		return 40
	}
	return 8
}

// Walk takes so many random walks of at most so many steps, until a state is wrong.
func Walk[S comparable](sys System[S], rng *rand.Rand, walks, steps int) Result {
	seen := 0
	for range walks {
		s := sys.Init()
		var way []S
		var how []Step
		for range steps {
			var to S
			var what Step
			n := 0
			sys.Next(s, func(next S, w Step) {
				weight := w.weight()
				if n += weight; rng.IntN(n) < weight {
					to, what = next, w
				}
			})
			if n == 0 {
				break
			}
			seen++
			s = to
			way, how = append(way, s), append(how, what)
			if wrong := sys.Wrong(s); wrong != "" {
				r := Result{States: seen, Wrong: wrong}
				for i := range way {
					r.Trace = append(r.Trace, line(how[i], way[i]))
				}
				return r
			}
		}
	}
	return Result{States: seen}
}

func line[S comparable](how Step, s S) string {
	return fmt.Sprintf("%-60s %v", how, s)
}

// Print writes the trace for people.
func (r Result) Print(w io.Writer) {
	for i, line := range r.Trace {
		fmt.Fprintf(w, "%3d. %s\n", i+1, line)
	}
	fmt.Fprintf(w, "     so %s\n", r.Wrong)
}
