package main

// sequence is a canvas with the lifelines of some parties, and messages between them.
type sequence struct {
	*canvas
	x []int
}

// newSequence puts the parties at x, with their lifelines from the top to bottom.
func newSequence(c *canvas, bottom int, parties []string, x ...int) *sequence {
	for i, name := range parties {
		w := 7*len(name) + 24
		c.line(x[i], 98, x[i], bottom, "nl")
		c.box(x[i]-w/2, 70, w, 28, "ns", "nl")
		c.text(x[i], 89, "middle", "h", name)
	}
	return &sequence{c, x}
}

// message is an arrow from one party to another, with its text above.
func (s *sequence) message(from, to, y int, colour, classes, text string) {
	x1, x2 := s.x[from]+7, s.x[to]-7
	if from > to {
		x1, x2 = s.x[from]-7, s.x[to]+7
	}
	s.arrow(x1, y, x2, y, colour, classes)
	s.label((x1+x2)/2, y-7, text)
}

// active is a bar on a lifeline: what the party is meanwhile.
func (s *sequence) active(party, from, to int, colour string) {
	s.raw(`<rect class="%ss %sl" x="%d" y="%d" width="12" height="%d" rx="3"/>`, colour, colour, s.x[party]-6, from, to-from)
}
