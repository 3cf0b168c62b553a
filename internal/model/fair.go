package model

import (
	"hash/maphash"
	"slices"
)

// graph is all states of a Liveness model, and what leads from one to another.
type graph struct {
	states []LivenessState
	from   []uint32 // by which each was found first
	first  []uint32 // of each state's steps; one more at the end
	to     []uint32
	places []uint8
}

// Fair looks for a way to go on for ever without a lease, or to end without one. A message
// that is under way is delivered at some time, and a waiter does at some time what it may do
// for ever: ways that leave something out for ever are not fair, and are none.
//
// A set of states that can all be reached from each other has a fair way to stay in it if
// each place (see [Liveness.Next]) is left out by one of its states or is where one of
// its steps happens.
func Fair(m Liveness, limit int) Result {
	g := m.explore(limit)
	r := Result{States: len(g.states), Whole: limit == 0 || len(g.states) < limit}
	for v := range uint32(len(g.states)) {
		switch s := g.states[v]; {
		case s.overflow:
			r.Whole = false
		case s.lease == 0 && r.Whole && g.first[v] == g.first[v+1]:
			r.Wrong, r.Trace = "all is delivered, and nobody holds", m.trace(g, g.way(v))
			return r
		}
	}
	for _, set := range g.components(m.counts) {
		if around := g.around(set, m.counts); around != nil {
			way := g.way(around[0])
			r.Trace = m.trace(g, append(way, around[1:]...))
			for i := range r.Trace[len(way)-1:] {
				r.Trace[len(way)-1+i] += "  again and again"
			}
			r.Wrong = "that goes on for ever, and nobody holds"
			return r
		}
	}
	return r
}

// counts says whether a step at that place counts in what goes on for ever. While another
// holds for ever, waiters may refresh for ever.
func (m Liveness) counts(place uint8) bool { return place != timer || !m.Stays }

func (m Liveness) explore(limit int) *graph {
	seed := maphash.MakeSeed()
	second := maphash.MakeSeed()
	numbers := map[[2]uint64]uint32{}
	g := &graph{}
	number := func(s LivenessState, from uint32) uint32 {
		print := [2]uint64{maphash.Comparable(seed, s), maphash.Comparable(second, s)}
		n, ok := numbers[print]
		if !ok {
			n = uint32(len(g.states))
			numbers[print] = n
			g.states, g.from = append(g.states, s), append(g.from, from)
		}
		return n
	}
	number(m.Init(), 0)
	for v := uint32(0); int(v) < len(g.states); v++ {
		g.first = append(g.first, uint32(len(g.to)))
		if limit > 0 && len(g.states) >= limit {
			continue
		}
		m.Next(g.states[v], func(next LivenessState, _ string, place int) {
			g.to, g.places = append(g.to, number(next, v)), append(g.places, uint8(place))
		})
	}
	g.first = append(g.first, uint32(len(g.to)))
	return g
}

// components are the sets of more than one state that can all be reached from each other
// (Tarjan's algorithm, without recursion), by steps that count.
func (g *graph) components(counts func(uint8) bool) [][]uint32 {
	n := len(g.states)
	index, low := make([]uint32, n), make([]uint32, n) // 0: not seen
	next := slices.Clone(g.first[:n])
	on := make([]bool, n)
	var stack, path []uint32
	var sets [][]uint32
	seen := uint32(0)
	open := func(v uint32) {
		seen++
		index[v], low[v], on[v] = seen, seen, true
		stack, path = append(stack, v), append(path, v)
	}
	for root := range uint32(n) {
		if index[root] == 0 {
			open(root)
		}
		for len(path) > 0 {
			v := path[len(path)-1]
			if next[v] < g.first[v+1] {
				e := next[v]
				next[v]++
				switch w := g.to[e]; {
				case !counts(g.places[e]):
				case index[w] == 0:
					open(w)
				case on[w]:
					low[v] = min(low[v], index[w])
				}
				continue
			}
			path = path[:len(path)-1]
			if len(path) > 0 {
				low[path[len(path)-1]] = min(low[path[len(path)-1]], low[v])
			}
			if low[v] != index[v] {
				continue
			}
			at := slices.Index(stack, v)
			set := slices.Clone(stack[at:])
			stack = stack[:at]
			for _, w := range set {
				on[w] = false
			}
			if len(set) > 1 {
				sets = append(sets, set)
			}
		}
	}
	return sets
}

// around is a fair way around the set, from one of its states to that again; nil: there is none.
func (g *graph) around(set []uint32, counts func(uint8) bool) []uint32 {
	in := map[uint32]bool{}
	for _, v := range set {
		in[v] = true
	}
	var lacking, taken [timer + 1][]uint32 // a state without that place, a step at it
	for _, v := range set {
		var has [timer + 1]bool
		for e := g.first[v]; e < g.first[v+1]; e++ {
			place := g.places[e]
			has[place] = true
			if in[g.to[e]] && counts(place) && taken[place] == nil {
				taken[place] = []uint32{v, g.to[e]}
			}
		}
		for place := range has {
			if !has[place] && lacking[place] == nil {
				lacking[place] = []uint32{v}
			}
		}
	}
	way := []uint32{set[0]}
	for place := range timer {
		visit := lacking[place]
		if taken[place] != nil {
			visit = taken[place]
		}
		if visit == nil {
			return nil
		}
		if place != 0 && lacking[place] != nil && slices.Contains(way, lacking[place][0]) {
			continue
		}
		for _, v := range visit {
			way = append(way, g.within(in, counts, way[len(way)-1], v)...)
		}
	}
	return append(way, g.within(in, counts, way[len(way)-1], set[0])...)
}

// within is a shortest way within the set, without its beginning.
func (g *graph) within(in map[uint32]bool, counts func(uint8) bool, from, to uint32) []uint32 {
	if from == to {
		return nil
	}
	parent := map[uint32]uint32{from: from}
	for queue := []uint32{from}; ; queue = queue[1:] {
		v := queue[0]
		for e := g.first[v]; e < g.first[v+1]; e++ {
			w := g.to[e]
			if _, ok := parent[w]; ok || !in[w] || !counts(g.places[e]) {
				continue
			}
			parent[w] = v
			if w != to {
				queue = append(queue, w)
				continue
			}
			var way []uint32
			for ; w != from; w = parent[w] {
				way = append(way, w)
			}
			slices.Reverse(way)
			return way
		}
	}
}

// way is a shortest way from the first state to v.
func (g *graph) way(v uint32) []uint32 {
	way := []uint32{v}
	for ; v != 0; v = g.from[v] {
		way = append(way, g.from[v])
	}
	slices.Reverse(way)
	return way
}

func (m Liveness) trace(g *graph, way []uint32) []string {
	var trace []string
	for i := range len(way) - 1 {
		to, what := g.states[way[i+1]], ""
		m.Next(g.states[way[i]], func(next LivenessState, w string, _ int) {
			if what == "" && next == to {
				what = w
			}
		})
		trace = append(trace, line(Step{what, -1, -1, -1}, to))
	}
	return trace
}
