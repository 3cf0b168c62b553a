package waiting

import (
	"fmt"
	"time"
)

type client struct {
	w        *network
	name     string
	waits    int
	id       string
	m        *Machine
	began    time.Duration
	attempts int
	old      map[string]*Machine
	starts   map[string]time.Duration
}

func (c *client) clock() time.Duration { return c.w.now - c.began }

func (c *client) value(id string, attempt int) string { return fmt.Sprint(id, "/", attempt) }

func (c *client) begin() {
	if c.w.stop {
		return
	}
	c.waits++
	c.id = fmt.Sprint(c.name, c.waits)
	c.began = c.w.now
	c.starts[c.id] = c.began
	cfg := config()
	cfg.Nodes, cfg.Quorum, cfg.ID, cfg.Spread = c.w.w.nodes, c.w.w.nodes/2+1, c.id, c.w.r.Float64
	c.m = New(cfg)
	c.old[c.id] = c.m
	for i := range c.w.w.nodes {
		c.m.Subscribed(0, i)
	}
	c.m.Begin(0)
	id := c.id
	if c.w.r.Float64() < c.w.w.quits {
		c.w.after(time.Duration(c.w.r.Int64N(int64(2*time.Second))), func() {
			if _, has := c.m.Lease(); id == c.id && !has {
				c.end()
				c.w.after(c.w.latency(), c.begin)
			}
		})
	}
	c.pump(id)
}

func (c *client) end() {
	id := c.id
	c.wake(id, func(m *Machine) { m.End(c.w.now - c.starts[id]) })
	c.id = ""
}

// wake lets the machine of a wait take an event in.
func (c *client) wake(id string, do func(m *Machine)) {
	m := c.old[id]
	began := c.began
	c.began = c.starts[id]
	do(m)
	c.began = began
	c.pump(id)
}

func (c *client) pump(id string) {
	w, m := c.w, c.old[id]
	for _, a := range m.Actions() {
		c.attempts = max(c.attempts, a.Attempt)
		c.send(id, a)
	}
	if l, ok := m.Lease(); ok && id == c.id {
		c.id = ""
		c.holds(id, l)
	} else if id == c.id && m.Unavailable(w.now-c.starts[id]) {
		c.end()
		w.after(50*ms, c.begin)
	}
	if d, ok := m.Deadline(); ok {
		w.after(max(0, c.starts[id]+d-w.now), func() {
			if d, ok := m.Deadline(); ok && d <= w.now-c.starts[id] {
				c.wake(id, func(m *Machine) { m.Tick(w.now - c.starts[id]) })
			}
		})
	}
}

func (c *client) send(id string, a Action) {
	w, s := c.w, c.w.n[a.Node]
	w.sent++
	if w.w.silent && a.Node == w.w.nodes-1 {
		return
	}
	value, instead := c.value(id, a.Attempt), ""
	if a.Instead != 0 {
		instead = c.value(id, a.Instead)
	}
	answer := func(ans Answer) {
		w.after(w.latency(), func() {
			c.wake(id, func(m *Machine) { m.Answered(w.now-c.starts[id], a.Node, ans) })
		})
	}
	if w.r.Float64() < w.w.replies { // the connection dies
		if w.r.IntN(2) == 0 {
			w.after(w.latency()+time.Duration(w.r.Int64N(int64(100*ms))), func() { w.run(s, c, id, value, instead, a) })
		}
		answer(Answer{})
		return
	}
	w.after(w.latency(), func() { answer(w.run(s, c, id, value, instead, a)) })
}

func (c *client) holds(id string, l Lease) {
	w, value := c.w, c.value(id, l.Attempt)
	end := c.starts[id] + l.Expiry
	q := w.w.nodes/2 + 1
	if w.held != nil && w.now < w.held.starts[""] {
		w.t.Fatalf("%v: %s and %s both hold", w.now, w.held.name, c.name)
	}
	if l.Token <= w.tok {
		w.t.Fatalf("%v: token %d of %s after %d", w.now, l.Token, c.name, w.tok)
	}
	same, lasting := 0, 0
	for _, s := range w.n {
		if s.endorse[value] == l.Token {
			same++
		}
		if s.look(w.now); s.lock == value && s.until >= end {
			lasting++
		}
	}
	if same < q || lasting < q {
		w.t.Fatalf("%v: %s holds, with %d equal counts and %d nodes that keep it until its expiry, want %d", w.now, c.name, same, lasting, q)
	}
	w.tok, w.held, w.last = l.Token, c, w.now
	w.got++
	c.starts[""] = end
	w.after(time.Duration(w.r.Int64N(int64(2*ms))), func() {
		c.starts[""] = 0
		c.wake(id, func(m *Machine) { m.End(w.now - c.starts[id]) })
		for i := range w.n {
			c.free(id, i, value, 4)
		}
		w.after(time.Duration(w.r.Int64N(int64(2*ms))), c.begin)
	})
}

// free is a release, again where its answer was lost.
func (c *client) free(id string, i int, value string, tries int) {
	w := c.w
	if tries == 0 || w.w.silent && i == w.w.nodes-1 {
		return
	}
	if w.r.Float64() < w.w.replies {
		w.after(10*ms, func() { c.free(id, i, value, tries-1) })
		return
	}
	// Behind what is open there.
	if n := &c.old[id].nodes[i]; n.busy {
		w.after(w.latency(), func() { c.free(id, i, value, tries) })
		return
	}
	w.after(w.latency(), func() { w.run(w.n[i], c, id, value, "", Action{Kind: Leave}) })
}

// attempts that do not queue: they take what is free, and let go of too little.
func (w *network) try(k int) {
	if w.stop {
		return
	}
	value := fmt.Sprint("try/", k)
	var mine []*server
	for _, s := range w.n {
		if s.look(w.now); s.lock == "" && len(s.queue) == 0 && !(w.w.refuses && s.i == 0) {
			s.count++
			s.lock, s.until = value, w.now+ttl
			mine = append(mine, s)
		}
	}
	w.after(time.Duration(w.r.Int64N(int64(ms))), func() {
		for _, s := range mine {
			if s.lock == value {
				s.lock = ""
				w.passOn(s, "")
			}
		}
	})
	w.after(time.Duration(w.r.Int64N(int64(5*ms))), func() { w.try(k + 1) })
}
