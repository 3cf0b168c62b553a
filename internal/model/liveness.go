package model

import "fmt"

// Liveness is the model of how waiters come to hold: three nodes, and waiters whose requests
// stand there. It has no time. A message is delivered at some moment, in order on each
// connection; pushes have connections of their own. Timers: a refresh comes when nothing is
// under way; what else waits for a moment may do so for as long as it likes.
//
// A lease ends a run well. What must not be: to go on for ever without one, although all
// that is under way is delivered ([Fair]); or to end without one.
type Liveness struct {
	Waiters int // A has waited longest, then B, then C
	// Stand says that the waiters stand on all nodes at first, in one order for each node
	// (numbers of permutations); else their first requests are under way.
	Stand  bool
	Orders [liveNodes]int
	Holder uint8 // bits: nodes that another, W, holds at first
	Stays  bool  // W goes on to hold; else its release is under way
	Split  bool  // each waiter holds the node with its number
	Silent bool  // node 3 does not answer
	Hung   bool  // the first waiter in the queues has hung
	Lost   uint8 // pushes that may be lost

	Off LivenessRules
}

// LivenessRules are the rules of waiting without which waiters might never hold.
type LivenessRules struct {
	HandBackTo  bool // what is handed back goes to the head of the node's queue, and is asked for again
	TakeOff     bool // who hands back takes what is free in the same step
	OutOfReach  bool // who has handed back takes again though others hold too many nodes
	OtherFirst  bool // a waiter is preferred to a holder with as many votes that is no waiter
	FixedOrder  bool // of waiters with as many votes, each prefers the next one
	NotAnswered bool // a node that does not answer is waited for
	Refresh     bool // waiters do not refresh
}

const (
	liveNodes   = 3
	liveQuorum  = 2
	liveWaiters = 3
	liveQueue   = 3 // messages under way on one connection
)

const (
	nobody   = 0
	theOther = liveWaiters + 1 // W; 1 to 3 are waiters
)

// What a waiter knows of a node, and what an answer says: nothing, granted, free, or who
// holds it.
const (
	unknown = iota
	granted
	freeHere
	heldBy // + 1 to 4
)

type liveNode struct {
	lock, value uint8
	queue       [liveWaiters]uint8 // value + 1 of the request that stands here
	order       [liveWaiters]uint8 // of waiters' positions, which they keep; 0: none yet
	requests    [liveWaiters][liveQueue]request
	answers     [liveWaiters][liveQueue]answer
	push        [liveWaiters]uint8 // value + 1
}

// request: stand, of a value; if to is set, what is held by other values is handed back to that waiter.
type request struct {
	value, to    uint8 // value + 1
	take, latest bool  // latest: sent after the first grant was received
}

type answer struct {
	what, value uint8
	latest      bool
}

type liveWaiter struct {
	value  uint8
	knows  [liveNodes]uint8
	latest [liveNodes]bool // that answer counts against a grant
	asked  bool            // the others, after the first grant
	paused bool            // it has handed back
	gaveUp bool            // it waits for nodes that do not answer no more
}

// LivenessState is a state of Liveness.
type LivenessState struct {
	node      [liveNodes]liveNode
	waiter    [liveWaiters]liveWaiter
	releases  uint8 // bits: nodes to which W's release is under way
	refreshed uint8 // bits: waiters that have refreshed in this round
	rounds    uint8 // of refreshes, until the grant of a waiter that hangs expires
	lost      uint8
	lease     uint8
	overflow  bool
}

var orders = [6][liveWaiters]uint8{{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}}

// Init implements [System].
func (m Liveness) Init() LivenessState {
	var s LivenessState
	for i := range liveNodes {
		n := &s.node[i]
		if m.Holder>>i&1 == 1 {
			n.lock = theOther
			if !m.Stays {
				s.releases |= 1 << i
			}
		}
		for c := range m.Waiters {
			switch {
			case m.silent(i):
			case m.Stand:
				n.order[c], n.queue[c] = orders[m.Orders[i]][c], 1
				if n.lock != nobody {
					s.waiter[c].knows[i] = heldBy + n.lock
				}
			default:
				n.send(c, request{value: 1, take: true}, &s)
			}
		}
		if m.Split && !m.silent(i) {
			c := i % m.Waiters
			n.order[c], n.queue[c] = orders[m.Orders[i]][c], 0
			n.lock, n.value, s.waiter[c].knows[i] = uint8(c+1), 0, granted
		}
	}
	return s
}

func (m Liveness) silent(i int) bool { return m.Silent && i == liveNodes-1 }

// hung says whether waiter c hangs: the one that has waited longest.
func (m Liveness) hung(c int) bool { return m.Hung && c == 0 }

func (n *liveNode) send(c int, r request, s *LivenessState) {
	s.overflow = s.overflow || !put(&n.requests[c], r)
}

func put[T comparable](queue *[liveQueue]T, message T) bool {
	var none T
	for i := range queue {
		if queue[i] == none {
			queue[i] = message
			return true
		}
	}
	return false
}

func take[T any](queue *[liveQueue]T) T {
	first := queue[0]
	copy(queue[:], queue[1:])
	var none T
	queue[liveQueue-1] = none
	return first
}

// head is the waiter whose request is first in the queue; -1: nobody.
func (m Liveness) head(n *liveNode) int {
	head := -1
	for c := range m.Waiters {
		if n.queue[c] != 0 && (head < 0 || n.order[c] < n.order[head]) {
			head = c
		}
	}
	return head
}

// passOn grants the free node n to the first in its queue. Who asks itself gets an answer
// and no push.
func (m Liveness) passOn(n *liveNode, asks int) {
	if c := m.head(n); c >= 0 {
		n.grant(c, c != asks)
	}
}

func (n *liveNode) grant(c int, push bool) {
	n.lock, n.value = uint8(c+1), n.queue[c]-1
	n.queue[c] = 0
	if push {
		n.push[c] = n.value + 1
	}
}

// arrive is stand, at node i.
func (m Liveness) arrive(s *LivenessState, c, i int) {
	n := &s.node[i]
	r := take(&n.requests[c])
	replies := func(what uint8) {
		s.overflow = s.overflow || !put(&n.answers[c], answer{what, r.value - 1, r.latest})
	}
	if r.to != nobody {
		mine := int(n.lock) == c+1 && n.value+1 != r.value
		n.queue[c] = 0
		if mine {
			n.lock, n.value = nobody, 0
			to := int(r.to) - 1
			switch {
			case m.Off.HandBackTo:
				m.passOn(n, -1)
			case r.to != theOther && n.queue[to] != 0:
				n.grant(to, true)
			}
		}
	}
	if int(n.lock) == c+1 && n.value+1 == r.value {
		replies(granted)
		return
	}
	if n.order[c] == 0 {
		for d := range liveWaiters {
			n.order[c] = max(n.order[c], n.order[d]+1)
		}
	}
	n.queue[c] = r.value
	if n.lock == nobody && r.take {
		m.passOn(n, c)
	}
	switch {
	case int(n.lock) == c+1 && n.value+1 == r.value:
		replies(granted)
	case n.lock == nobody:
		replies(freeHere)
	default:
		replies(heldBy + n.lock)
	}
}

// tidy removes differences that make no difference: what was sent to a value that is
// given up, and the names of values. The present one is always 0.
func (m Liveness) tidy(s *LivenessState) {
	for c := range m.Waiters {
		now := s.waiter[c].value
		s.waiter[c].value = 0
		since := func(value *uint8) { *value = (*value + 3 - now) % 3 }
		plus1 := func(value *uint8) {
			if *value != 0 {
				*value = (*value+2-now)%3 + 1
			}
		}
		for i := range s.node {
			n := &s.node[i]
			if int(n.lock) == c+1 {
				since(&n.value)
			}
			plus1(&n.queue[c])
			plus1(&n.push[c])
			if n.push[c] > 1 {
				n.push[c] = 0
			}
			var live [liveQueue]answer
			for _, a := range n.answers[c] {
				if since(&a.value); a.what != unknown && a.value == 0 {
					put(&live, a)
				}
			}
			n.answers[c] = live
			for j := range n.requests[c] {
				plus1(&n.requests[c][j].value)
			}
		}
	}
}

// String shows each node as its holder and its value [and who stands there, in order].
func (s LivenessState) String() string {
	name := func(c int, value uint8) string { return fmt.Sprintf("%c%d", 'A'+c, value) }
	text := ""
	for i := range s.node {
		n := s.node[i]
		switch {
		case n.lock == nobody:
			text += "-"
		case n.lock == theOther:
			text += "W"
		default:
			text += name(int(n.lock)-1, n.value)
		}
		text += "["
		for order := range uint8(liveWaiters) {
			for c := range liveWaiters {
				if n.queue[c] != 0 && n.order[c] == order+1 {
					text += name(c, n.queue[c]-1)
				}
			}
		}
		text += "] "
	}
	return text
}
