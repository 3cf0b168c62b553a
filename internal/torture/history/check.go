package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Rules to check. Each looks at the whole history.
type Rules struct {
	// Exclusive: at most one lease of a key is valid at a time. Off where the faults
	// were such that no quorum can promise it, and only tokens protect.
	Exclusive bool
	// Fenced: leases have tokens, and the register compares them.
	Fenced bool
}

// Check gives every violation of the rules.
func (h *History) Check(r Rules) (found []Violation) {
	found = append(found, h.malformed(r)...)
	if r.Exclusive {
		found = append(found, h.Overlaps()...)
	}
	if r.Fenced {
		tokens := h.tokens()
		found = append(found, tokens...)
		if r.Exclusive && len(tokens) == 0 { // they name the leases
			found = append(found, h.unsure()...)
		}
		found = append(found, h.register()...)
		if len(found) == 0 { // or it would only report the same again, at length
			found = append(found, h.linearizable(r)...)
		}
	}
	return found
}

// malformed leases name their own mistake.
func (h *History) malformed(r Rules) (found []Violation) {
	for _, l := range h.Leases {
		switch {
		case r.Fenced && l.Token == 0:
			found = append(found, Violation{"a lease has a token", l.String(), l.Got, l.Key})
		case l.Got < l.Asked:
			found = append(found, Violation{"a lease is asked for before it is got", l.String(), l.Got, l.Key})
		}
	}
	return found
}

// Overlaps are pairs of leases of one key whose validity, as their holders received it,
// overlaps. (Each lease is compared with the one before it that lasted longest.)
func (h *History) Overlaps() (found []Violation) {
	keys, of := h.LeasesByKey()
	for _, key := range keys {
		var longest Lease
		for i, l := range of[key] {
			if l.End() <= l.Got {
				continue // was over when it came: it claims nothing
			}
			if i > 0 && l.Got < longest.End() {
				both := time.Duration(min(l.End(), longest.End()) - l.Got)
				found = append(found, Violation{"at most one lease of a key is valid at a time",
					fmt.Sprintf("for %v both\n    %s\n    %s", both, longest, l), l.Got, key})
			}
			if l.End() > longest.End() {
				longest = l
			}
		}
	}
	return found
}

// tokens are unique, and rise in real time: a lease that was asked for after another
// had been got has the larger one, whatever became of either.
func (h *History) tokens() (found []Violation) {
	keys, of := h.LeasesByKey()
	for _, key := range keys {
		seen := map[uint64]Lease{}
		for _, l := range of[key] {
			if first, ok := seen[l.Token]; ok {
				found = append(found, Violation{"tokens are unique", fmt.Sprintf("both\n    %s\n    %s", first, l), l.Got, key})
			}
			seen[l.Token] = l
		}
		byAsked := slices.Clone(of[key])
		slices.SortStableFunc(byAsked, func(a, b Lease) int { return cmp.Compare(a.Asked, b.Asked) })
		var highest Lease // of those got before the next was asked for
		next := 0
		for _, l := range byAsked {
			for ; next < len(of[key]) && of[key][next].Got < l.Asked; next++ {
				if of[key][next].Token > highest.Token {
					highest = of[key][next]
				}
			}
			if l.Token < highest.Token {
				found = append(found, Violation{"tokens rise in real time", fmt.Sprintf("first\n    %s\n  then\n    %s", highest, l), l.Got, key})
			}
		}
	}
	return found
}

// unsure finds operations whose holder had just seen its lease, or its context, alive
// when that was over by what the lease had reported.
func (h *History) unsure() (found []Violation) {
	type term struct {
		key   string
		token uint64
	}
	leases := map[term]Lease{}
	for _, l := range h.Leases {
		leases[term{l.Key, l.Token}] = l
	}
	for _, o := range h.Ops {
		l, ok := leases[term{o.Key, o.Token}]
		if o.Sure == 0 || !ok || o.Token == 0 {
			continue
		}
		end := l.End()
		if l.Lost { // reported to one goroutine while another was looking
			end = l.Until
		}
		if o.Sure < l.Got || o.Sure >= end {
			found = append(found, Violation{"a lease that looks alive is valid",
				fmt.Sprintf("at %s its holder saw it alive, then\n    %s\n  the lease\n    %s", clock(o.Sure), o, l), o.Sure, o.Key})
		}
	}
	return found
}

// register checks the fenced register by itself: no token below one that it has seen
// is taken, and a counter that every holder reads and writes under its token has lost
// no update.
func (h *History) register() (found []Violation) {
	keys, of := h.OpsByKey()
	for _, key := range keys {
		var highest uint64
		var value int64
		for _, o := range of[key] {
			switch {
			case o.OK && o.Token < highest:
				found = append(found, Violation{"a stale write is refused", o.String(), o.Applied, key})
			case !o.OK && o.Token >= highest:
				found = append(found, Violation{"a write of the newest holder is accepted", o.String(), o.Applied, key})
			case o.OK && !o.Write && o.Value != value:
				found = append(found, Violation{"a read gives what was written last", fmt.Sprintf("%s, want %d", o, value), o.Applied, key})
			case o.OK && o.Write && o.Value != value+1:
				found = append(found, Violation{"no update is lost under fencing", fmt.Sprintf("%s, want %d", o, value+1), o.Applied, key})
			}
			if o.OK {
				highest = max(highest, o.Token)
				if o.Write {
					value = o.Value
				}
			}
		}
	}
	return found
}
