package redlock

import (
	"sync"

	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// ask is a hold's request to a node.
type ask struct {
	node.Call
	hold   *hold
	node   int // its index in Locker.nodes
	round  *round
	probed bool // sent again after the node was found durable
}

var asks = sync.Pool{New: func() any { return new(ask) }}

// ask sends node i the request of r. mu is held.
func (h *hold) ask(i int, r *round, prev reply) {
	n := h.l.nodes[i]
	c := asks.Get().(*ask)
	c.Call = node.Call{Request: r.op.request(h, n, r, prev), Who: c, Class: r.op.class, Until: r.until}
	c.hold, c.node, c.round = h, i, r
	h.slots[i].call = c
	n.Ask(&c.Call)
}

func (c *ask) recycle() {
	*c = ask{}
	asks.Put(c)
}

// Done implements [node.Caller].
func (c *ask) Done(_ *node.Call, a node.Answer) {
	h, rep := c.hold, replyOf(a, c.round.op.parse)
	if c.round.op.votes && !c.probed && (rep.Kind == script.Recovering || rep.Kind == script.Prolonged) {
		h.l.wg.Add(1)
		go h.probe(c, rep) // it asks the node, and others wait behind this call
		return
	}
	h.answered(c, rep)
}

// probe asks again if the node turns out to be durable.
func (h *hold) probe(c *ask, rep reply) {
	defer h.l.wg.Done()
	if n := h.l.nodes[c.node]; n.Probe(rep.Run) {
		h.mu.Lock()
		wanted := !h.over()
		if wanted {
			c.probed, c.Request = true, c.round.op.request(h, n, c.round, reply{}) // with that run
		}
		h.mu.Unlock()
		if wanted {
			n.Ask(&c.Call)
			return
		}
	}
	h.answered(c, rep)
}

// over reports whether nothing of this hold is wanted any more on any node: a vote would only
// have to be freed. A hold that ends by itself later is wanted where it is. mu is held.
func (h *hold) over() bool { return h.freed || h.releasing && !h.released }

// noted notes what the answer to a request about a lock says of the node. stands: it was a
// request to stand in the queue. A node that refuses only that may vote all the same.
func noted(n *node.Node, lock string, stands bool, rep reply) {
	if stands && nodeerr.ForbiddenWithin(rep.err) {
		n.KeepsNoQueue(rep.err)
		return
	}
	n.Noted(lock, rep.Reply, rep.fate, rep.err)
}

func (h *hold) answered(c *ask, rep reply) {
	i, r := c.node, c.round
	noted(h.l.nodes[i], h.keys.Lock, r.op == opStand, rep)
	if r.op.votes {
		h.l.nodes[i].Voted(rep.Reply)
		if rep.Run != "" {
			h.l.agreement.restarted(i, rep.Run)
		}
	}
	h.mu.Lock()
	defer h.unlock()
	next, prev := h.record(i, r, rep)
	c.recycle() // not before record: recall looks at it until then
	h.start(i, next, prev)
}

// late takes in node i's answer to a request that the wait sent before this hold came of
// it. r is the round in which such answers are recorded.
func (h *hold) late(i int, r *round, rep reply) {
	h.mu.Lock()
	defer h.unlock()
	next, prev := h.record(i, r, rep)
	h.start(i, next, prev)
}

// pushed takes in a notification that node i has granted the lock. If this hold pauses
// before it asks that node again, the pause ends: it need not ask, or can ask at once.
func (h *hold) pushed(i int, count uint64) {
	h.mu.Lock()
	defer h.unlock()
	s := &h.slots[i]
	if s.cut == nil {
		return
	}
	switch r := s.round; r.op {
	case opStand:
		close(s.cut)
		next, prev := h.record(i, r, reply{Reply: script.Reply{Kind: script.Granted, Count: count}})
		h.start(i, next, prev)
	case opExtend: // the grant is for the claim, and the lease is for longer by now
		close(s.cut)
		s.cut = nil
		h.ask(i, r, reply{})
	}
}
