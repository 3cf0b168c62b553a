// Package waiting is a waiter's side of direct hand-off: its request stands in the queue of
// every node, and whatever frees a node's lock grants it there to the first of that queue.
//
// [Machine] is one wait, from the first request to the lease or the end of the cleanup. It
// is a pure state machine: events and the time go in, requests to send and the next deadline
// come out. It has no clock, no goroutine, no I/O and no randomness of its own, and is not
// safe for concurrent use. The numbers of rules in comments are those of the page on the
// algorithm (internal/docs/redlock-algorithm.md, "Hand-off").
package waiting

import (
	"math"
	"slices"
	"time"
)

type phase uint8

const (
	waits phase = iota
	leased
	over
)

const (
	minAsk    = 2 * time.Millisecond  // after the first grant, before the other nodes are asked
	minLate   = 20 * time.Millisecond // after that, before nodes without an answer count as not granting
	poll      = 50 * time.Millisecond // between requests of the first at a node that can't notify it
	rankDelay = 10 * time.Millisecond // between waiters that ask for a lock whose time is over
	afterTTL  = 2 * time.Millisecond  // from that time to the first of them, since keys expire a little late
	retry     = 10 * time.Millisecond // before a hand-back that failed is tried again, times 4 each time
	maxTries  = 4
	maxOwed   = 8 // values to hand back at one node: older ones have ended by themselves
	never     = time.Duration(math.MaxInt64)
	few       = 8 // nodes: up to as many, nothing is allocated to sort them
)

// Remembered is how many attempts, the latest ones, the machine can tell apart in reports of
// grants.
const Remembered = 64

// Machine is one wait. Make it with New, and call Begin once.
type Machine struct {
	cfg   Config
	now   time.Duration // of the latest event
	phase phase
	out   []Action
	nodes []node
	lease Lease

	attempt  int
	starts   []time.Duration // the first stamps of the latest attempts
	last     time.Duration   // the latest stamp
	ahead    time.Duration   // how far a stamp was ahead of the clock, at most
	handed   int             // hand-backs since anybody was last seen with a lease
	looked   int             // attempts to take what is free, likewise
	stood    bool            // a quorum has answered at some time
	reached  time.Duration   // when a quorum could last be reached
	released bool            // the lease is over
	hasty    bool            // nothing is tried again

	refreshAt time.Duration
	lookAt    time.Duration // when to take what is free; 0: not planned

	// From the first grant of an attempt on.
	since time.Duration // answers to requests sent before this are about the last holder
	askAt time.Duration // when the others are asked; 0: not planned
	asked int           // how often they were
	late  bool          // nodes without an answer count as not granting

	agreeAt time.Duration // when a second round begins, since counts differ; 0: not planned

	// The confirmation under way: token is 0 if there is none.
	token     uint64
	confirmed time.Duration // when its round began
	confirmAt time.Duration // when it has failed
	lateAt    time.Duration // when late is set; 0: not planned
	rounds    int
}

type node struct {
	busy bool
	open Action
	sent time.Duration // when that was
	rtt  time.Duration // of the last answer; 0: none yet

	pushes    bool // it can notify this waiter
	due, take bool // it is to be sent a Stand, with this Take
	asked     bool // it was, for the present attempt
	before    bool // what asked was before the request that is open
	owed      []owed
	retryAt   time.Duration // when owed is tried again; 0: at once
	confirm   verdict

	granted  bool
	grant    Grant
	standing time.Duration // the latest stamp answered "standing" for this attempt; -1: none

	known    bool // what follows is of an answer to this attempt that was no failure
	failed   bool // the last answer was a failure
	noVote   bool
	rank     int
	holder   Holder
	seen     time.Duration // when the request was sent that was last answered so, or failed
	until    time.Duration // when the holder's time is over; never: it does not end
	expireAt time.Duration // when to look for that; 0: not planned
	pollAt   time.Duration // when to ask this node for lack of notifications; 0: not planned
}

// owed is the value of an attempt that nobody wants any more, and that the node may have.
type owed struct {
	attempt int
	to      string
	tries   int
}

type verdict uint8

const (
	undecided verdict = iota
	unasked
	yes
	no
)

// New makes the machine of one wait.
func New(cfg Config) *Machine {
	m := &Machine{cfg: cfg, nodes: make([]node, cfg.Nodes)}
	m.last = -time.Microsecond
	return m
}

// Begin asks all nodes. now is 0 or a little more: the clock runs since the wait began.
func (m *Machine) Begin(now time.Duration) {
	m.reached = now
	m.out = make([]Action, 0, len(m.nodes))
	m.begin(now)
	m.standAll(true)
	m.scheduleRefresh(now)
	m.pump(now)
}

// begin starts an attempt: with a value of its own, and stamps above all earlier ones, so
// that the stamp in a report tells which attempt it is about.
func (m *Machine) begin(now time.Duration) {
	m.attempt++
	m.last = max(floor(now), m.last+time.Microsecond)
	m.ahead = max(m.ahead, m.last-now)
	m.starts = append(m.starts, m.last)
	if len(m.starts) > Remembered {
		m.starts = slices.Delete(m.starts, 0, 1)
	}
	m.since, m.askAt, m.lateAt, m.asked, m.late = 0, 0, 0, 0, false
	m.token, m.rounds, m.agreeAt = 0, 0, 0
	for i := range m.nodes {
		n := &m.nodes[i]
		n.granted, n.standing, n.known, n.asked, n.confirm = false, -1, false, false, undecided
		n.expireAt, n.pollAt = 0, 0
	}
}

func floor(d time.Duration) time.Duration { return d.Truncate(time.Microsecond) }

// attemptOf is the attempt that a stamp belongs to; 0 if that is not known any more.
func (m *Machine) attemptOf(stamp time.Duration) int {
	for k := len(m.starts) - 1; k >= 0; k-- {
		if stamp >= m.starts[k] {
			return m.attempt - (len(m.starts) - 1 - k)
		}
	}
	return 0
}

// pump sends each node that has nothing open what it is to be asked next.
func (m *Machine) pump(now time.Duration) {
	for i := range m.nodes {
		if n := &m.nodes[i]; !n.busy {
			m.next(now, i, n)
		}
	}
}

func (m *Machine) next(now time.Duration, i int, n *node) {
	a := Action{Kind: Stand, Node: i, Attempt: m.attempt}
	first := len(n.owed) > 0 && now >= n.retryAt
	switch {
	case m.phase != waits && first:
		a.Kind, a.Attempt = Leave, n.owed[0].attempt
	case m.phase != waits:
		return
	case n.confirm == unasked && m.token != 0:
		n.confirm = undecided
		a.Kind, a.Token = Confirm, m.token
	case first, n.due:
		if len(n.owed) > 0 {
			a.Instead, a.To = n.owed[0].attempt, n.owed[0].to
		}
		a.Take, a.Stamp = n.take, m.stamp(now)
		n.due, n.before, n.asked = false, n.asked, true
		a.Again = n.before
	default:
		return
	}
	n.busy, n.open, n.sent = true, a, now
	m.out = append(m.out, a)
}

// stamp is for how long the wait has lasted, rounded down: it is from before the request.
func (m *Machine) stamp(now time.Duration) time.Duration {
	m.last = max(floor(now), m.last)
	m.ahead = max(m.ahead, m.last-now)
	return m.last
}

// Subscribed is called when pushes of a node arrive from now on: what was granted before is
// not known (rule 9).
func (m *Machine) Subscribed(now time.Duration, i int) {
	n := &m.nodes[i]
	n.pushes, n.pollAt = true, 0
	if m.phase == waits && m.attempt > 0 {
		if !n.due {
			n.due, n.take = true, m.blocked(now) < m.outOfReach()
		}
		m.pump(now)
	}
}

// Unsubscribed is called when pushes of a node may be lost from now on.
func (m *Machine) Unsubscribed(i int) { m.nodes[i].pushes = false }

// Tick does what is due: see Deadline.
func (m *Machine) Tick(now time.Duration) {
	if m.phase == waits {
		m.tick(now)
	}
	m.conclude(now)
}

func (m *Machine) tick(now time.Duration) {
	if m.token != 0 && now >= m.confirmAt {
		m.handBack(now, "")
	}
	expired := false
	for i := range m.nodes {
		n := &m.nodes[i]
		expired = expired || n.expireAt != 0 && now >= n.expireAt
		if n.pollAt != 0 && now >= n.pollAt {
			n.pollAt = 0
			n.due, n.take = true, m.blocked(now) < m.outOfReach()
		}
	}
	if expired {
		for i := range m.nodes { // one round asks about all of them
			m.nodes[i].expireAt = 0
		}
	}
	if now >= m.refreshAt || expired {
		m.refresh(now)
	}
	if now >= m.refreshAt {
		m.scheduleRefresh(now)
	}
	if m.lookAt != 0 && now >= m.lookAt {
		if m.lookAt = 0; m.grants() == 0 && m.blocked(now) < m.outOfReach() {
			m.looked++
			m.standAll(true)
		}
	}
	if m.lateAt != 0 && now >= m.lateAt {
		m.lateAt, m.late = 0, true
	}
	if m.askAt != 0 && now >= m.askAt {
		m.askAt, m.late, m.asked = 0, false, m.asked+1
		m.lateAt = now + m.lateAfter()
		m.standAll(true)
	}
}

// End gives up: nothing of this wait is wanted any more, nor of its lease, which its holder
// releases. What may stand or be held is left at every node, behind what is open there.
func (m *Machine) End(now time.Duration) {
	switch m.phase {
	case leased:
		m.released = true
	case waits:
		m.phase, m.token = over, 0
		for i := range m.nodes {
			if n := &m.nodes[i]; n.asked {
				m.owe(n, m.attempt, "")
			}
		}
	}
	m.pump(now)
}

// Hurry has nothing tried again: what could not be freed so far ends by its claim.
func (m *Machine) Hurry() {
	m.hasty = true
	for i := range m.nodes {
		n := &m.nodes[i]
		if n.retryAt != 0 && !n.busy && m.phase != waits {
			n.owed, n.retryAt = nil, 0
		}
	}
}

// Actions are the requests to send since the last call.
func (m *Machine) Actions() []Action {
	out := m.out
	m.out = nil
	return out
}
