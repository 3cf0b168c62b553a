package history

import "time"

// Figures sum a run up.
type Figures struct {
	Acquisitions int
	Handoffs     int // from one process to another
	Writes       int // that the register accepted
	Stale        int // operations that it refused
	// GapAny is the longest time in which a key was wanted and nobody held it; Gap
	// leaves out when no client that wanted it ran and had a quorum in reach.
	Gap, GapAny Gap
	// NoQuorum is for how long no running client had a quorum in reach.
	NoQuorum time.Duration
}

// Gap is a time without a holder.
type Gap struct {
	Key string
	Span
}

// grace is how long after a fault has ended its target may still not work: a client
// finds a broken connection and makes a new one.
const grace = int64(500 * time.Millisecond)

// Figures counts.
func (h *History) Figures() (f Figures) {
	f.Acquisitions = len(h.Leases)
	for _, o := range h.Ops {
		switch {
		case !o.OK:
			f.Stale++
		case o.Write:
			f.Writes++
		}
	}
	able := make([]spans, h.Clients)
	for c := range able {
		able[c] = h.able(c)
	}
	f.NoQuorum = total(spans{h.Span}.minus(deep(1, able...)))

	keys, of := h.LeasesByKey()
	for _, key := range keys {
		var held []Span
		for i, l := range of[key] {
			if i > 0 {
				if p := of[key][i-1]; p.Client != l.Client || p.Run != l.Run {
					f.Handoffs++
				}
			}
			held = append(held, Span{l.Got, l.End()})
		}
		wants, could := make([][]Span, h.Clients), make([]Span, 0)
		var any []Span
		for _, w := range h.Wants {
			if w.Key == key {
				wants[w.Client] = append(wants[w.Client], w.Span)
				any = append(any, w.Span)
			}
		}
		for c := range wants {
			could = append(could, union(wants[c]).and(able[c])...)
		}
		if s := union(any).minus(union(held)).longest(); s.Length() > f.GapAny.Length() {
			f.GapAny = Gap{key, s}
		}
		if s := union(could).minus(union(held)).longest(); s.Length() > f.Gap.Length() {
			f.Gap = Gap{key, s}
		}
	}
	return f
}

// able is when a client ran and had a quorum of voting nodes in reach.
func (h *History) able(client int) spans {
	cut := make([][]Span, h.Nodes)
	var stopped []Span
	for _, f := range h.Faults {
		s := Span{f.From, f.To + grace}
		mine := f.Client == client || f.Client == -1
		switch {
		case f.Impair == Nothing:
		case f.Impair == Process && mine:
			stopped = append(stopped, s)
		case f.Impair == OneNode, f.Impair == OnePath && mine, f.Impair == AllPaths && mine:
			for n := range cut {
				if f.Node == n || f.Node == -1 {
					cut[n] = append(cut[n], s)
				}
			}
		}
	}
	missing := make([]spans, h.Nodes)
	for n := range cut {
		missing[n] = union(cut[n])
	}
	few := deep(h.Nodes-h.Quorum+1, missing...)
	return spans{h.Span}.minus(union(append(stopped, few...)))
}

func total(a spans) (d time.Duration) {
	for _, s := range a {
		d += s.Length()
	}
	return d
}
