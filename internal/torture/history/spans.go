package history

import (
	"cmp"
	"slices"
	"time"
)

// Span is a time from From up to To.
type Span struct{ From, To int64 }

// Length of the span.
func (s Span) Length() time.Duration { return time.Duration(s.To - s.From) }

// spans are apart from each other, in order.
type spans []Span

// union makes spans of any.
func union(all []Span) spans {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	var out spans
	for _, s := range all {
		switch {
		case s.To <= s.From:
		case len(out) > 0 && s.From <= out[len(out)-1].To:
			out[len(out)-1].To = max(out[len(out)-1].To, s.To)
		default:
			out = append(out, s)
		}
	}
	return out
}

// minus is what of a is not in b.
func (a spans) minus(b spans) (out spans) {
	i := 0
	for _, s := range a {
		for i < len(b) && b[i].To <= s.From {
			i++
		}
		from := s.From
		for j := i; j < len(b) && b[j].From < s.To; j++ {
			if b[j].From > from {
				out = append(out, Span{from, b[j].From})
			}
			from = max(from, b[j].To)
		}
		if from < s.To {
			out = append(out, Span{from, s.To})
		}
	}
	return out
}

// and is what is in both.
func (a spans) and(b spans) spans { return a.minus(a.minus(b)) }

// longest of them; the zero Span if there is none.
func (a spans) longest() (most Span) {
	for _, s := range a {
		if s.Length() > most.Length() {
			most = s
		}
	}
	return most
}

// deep is when at least n of the sets cover a moment.
func deep(n int, sets ...spans) (out spans) {
	type edge struct {
		at   int64
		step int
	}
	var edges []edge
	for _, set := range sets {
		for _, s := range set {
			edges = append(edges, edge{s.From, 1}, edge{s.To, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.step, b.step)) })
	depth := 0
	for _, e := range edges {
		before := depth
		depth += e.step
		if before < n && depth >= n {
			out = append(out, Span{e.at, 0})
		}
		if before >= n && depth < n {
			out[len(out)-1].To = e.at
		}
	}
	return union(out)
}
