package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// The model that porcupine checks histories against: one key's lock with fencing
// tokens, and the register that compares them. Some order of all that happened must
// exist in which each step is allowed, and which keeps the order in real time.
//
//	acquire(T)  nobody holds the key (if exclusion is promised), and T is above every
//	            token issued before
//	end(T)      T holds it; from the moment on that its holder claims it no more
//	read(T)     T was issued; accepted unless a larger one was seen; gives the value
//	write(T,v)  likewise; sets the value

type step uint8

const (
	acquired step = iota
	ended
	read
	wrote
)

type input struct {
	step  step
	token uint64
	value int64
	ok    bool
}

// state is of one key.
type state struct {
	holder uint64 // 0: free
	issued uint64 // the largest token
	seen   uint64 // by the register
	value  int64
}

func (s state) next(in input, exclusive bool) (bool, state) {
	switch in.step {
	case acquired:
		legal := in.token > s.issued && !(exclusive && s.holder != 0)
		s.holder, s.issued = in.token, max(s.issued, in.token)
		return legal, s
	case ended:
		legal := s.holder == in.token || !exclusive
		if s.holder == in.token {
			s.holder = 0
		}
		return legal, s
	}
	if in.token > s.issued || in.ok != (in.token >= s.seen) {
		return false, s
	}
	if !in.ok {
		return true, s
	}
	s.seen = in.token
	if in.step == read {
		return in.value == s.value, s
	}
	s.value = in.value
	return true, s
}

func (in input) String() string {
	return fmt.Sprintf("%s(%d) value %d ok %t", [...]string{"acquire", "end", "read", "write"}[in.step], in.token, in.value, in.ok)
}

func model(from state, exclusive bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return from },
		Step: func(s, in, _ any) (bool, any) {
			ok, next := s.(state).next(in.(input), exclusive)
			return ok, next
		},
		DescribeOperation: func(in, _ any) string { return in.(input).String() },
	}
}

const (
	// segment is about how many operations are checked at once: the checker's memory
	// grows with their square.
	segment = 500
	// the most time for one segment. It takes milliseconds where the history is right.
	segmentTimeout = time.Minute
)

// linearizable checks each key's history, cut where nothing was under way. What
// follows a cut starts from the state there.
func (h *History) linearizable(r Rules) (found []Violation) {
	keys, _ := h.LeasesByKey()
	for _, key := range keys {
		ops := h.operations(key)
		from := state{}
		for len(ops) > 0 {
			n := cut(ops)
			switch result, _ := porcupine.CheckOperationsVerbose(model(from, r.Exclusive), ops[:n], segmentTimeout); result {
			case porcupine.Ok:
			case porcupine.Illegal:
				found = append(found, Violation{"the history is linearizable as a fenced lock",
					fmt.Sprintf("key %s: no order of these %d operations is: %v to %v", key, n, ops[0].Input, ops[n-1].Input), ops[0].Call, key})
			default:
				found = append(found, Violation{"the history is linearizable as a fenced lock",
					fmt.Sprintf("key %s: not decided within %v for %d operations", key, segmentTimeout, n), ops[0].Call, key})
			}
			from = from.after(ops[:n])
			ops = ops[n:]
		}
	}
	return found
}

// operations of one key by the time of their call.
func (h *History) operations(key string) []porcupine.Operation {
	var ops []porcupine.Operation
	for _, l := range h.Leases {
		if l.Key != key {
			continue
		}
		ops = append(ops, porcupine.Operation{ClientId: l.Client, Input: input{step: acquired, token: l.Token}, Call: l.Asked, Return: l.Got})
		// A lease that was over when it came was held for no time.
		end := max(l.End(), l.Got)
		ops = append(ops, porcupine.Operation{ClientId: l.Client, Input: input{step: ended, token: l.Token}, Call: end, Return: end})
	}
	for _, o := range h.Ops {
		if o.Key != key {
			continue
		}
		in := input{step: read, token: o.Token, value: o.Value, ok: o.OK}
		if o.Write {
			in.step = wrote
		}
		ops = append(ops, porcupine.Operation{ClientId: o.Client, Input: in, Call: o.Called, Return: o.Applied})
	}
	slices.SortStableFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	return ops
}

// cut is after how many operations, sorted by their call, none is under way; at least
// segment, or all.
func cut(ops []porcupine.Operation) int {
	var last int64
	for i, o := range ops {
		if i >= segment && o.Call > last {
			return i
		}
		last = max(last, o.Return)
	}
	return len(ops)
}

// after is the state when ops are done, all of them: the order of those that were
// concurrent does not matter, because tokens order them.
func (s state) after(ops []porcupine.Operation) state {
	over := map[uint64]bool{}
	for _, o := range ops {
		if in := o.Input.(input); in.step == ended {
			over[in.token] = true
		}
	}
	if over[s.holder] {
		s.holder = 0
	}
	slices.SortStableFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	for _, o := range ops {
		in := o.Input.(input)
		switch {
		case in.step == acquired:
			s.issued = max(s.issued, in.token)
			if !over[in.token] {
				s.holder = in.token
			}
		case in.step != ended && in.ok && in.token >= s.seen:
			s.seen = in.token
			if in.step == wrote {
				s.value = in.value
			}
		}
	}
	return s
}
