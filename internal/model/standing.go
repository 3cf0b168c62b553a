package model

import "fmt"

// Standing is the model of requests that stand in the nodes: of who holds, with time as in
// [Exclusion], and of tokens, with counts as in [Tokens]. A waiter's request is in the queue
// of a node with a stamp, the moment when it was last sent, and may be granted by the process that
// frees the lock or looks at a free one: here, at any moment in which the lock is free.
// That includes a hand-back in favor of another, and every release of an older version.
// Reports of a grant, by push or by answer, are late, lost or doubled.
//
// Some attempts may be ordinary ones, of this version or an older one. They take what is
// free at any moment: whether they respect the queue decides nothing here.
type Standing struct {
	Nodes, Attempts, Quorum int

	Claim int // ticks for which a grant of a standing request holds a node
	TTL   int // ticks of an ordinary attempt, and of an extend
	Drift int
	Guard int
	Asks  uint8 // bits: attempts that are ordinary ones

	Counts   int // grants that would count above this do not happen; 0: no counts
	Restarts int
	Fast     int

	Extends  bool
	Twice    bool // a second extend may begin while the first is under way
	Confirms bool // leases may be confirmed before they begin: commit and extend in one script
	Breaks   bool // an operator may break the hold of A, once
	Whole    bool // FLUSHALL on one node, once, under a lease that stands on all

	// The stamp of a request is the latest time of sending that a node has seen. If not
	// Stamps, each grant has the latest stamp that it can have, its own moment: a later
	// stamp only makes a longer validity. So the queues need not be part of the state.
	Stamps bool

	Off StandingRules
}

// StandingRules are the rules of waiting on which exclusion and the order of tokens depend.
type StandingRules struct {
	PushStamp     bool // a push has no stamp: validity counts from the latest request that was answered "standing"
	AnswerStamp   bool // an answer has no stamp: validity counts from the request that it answers
	FromStamp     bool // validity counts from the report of the grant
	AmongEqual    bool // the Q-th latest stamp is that of all nodes that granted, whatever they counted
	Frozen        bool // grants that are received during phase 2 count
	OnlyFree      bool // a node passes the lock on though another holds it
	PassOnVote    bool // a node that may not vote passes the lock on
	InsteadMine   bool // a hand-back does not ask whose the lock is
	NewValue      bool // a waiter that has handed back goes on with the same value
	ConfirmCommit bool // a lease is confirmed by an extend alone
	ConfirmStart  bool // a confirmed lease counts from the answers
	BreakValue    bool // an operator's release deletes whatever lock is there
}

const (
	standingNodes    = 3
	standingAttempts = 3
)

// standingNode is one column of a state. Ages are in ticks, plus 1; 0 is none.
type standingNode struct {
	lock, left, up, fast  uint8 // as in exclusionNode
	count, present, clock uint8 // as in tokenNode
	grant                 uint8 // age of the stamp that was granted to the holder

	savedLock, savedLeft, savedCount, savedGrant uint8

	of [standingAttempts]standingRequest
}

// standingRequest is what a node has of an attempt, and what the attempt knows of the node.
type standingRequest struct {
	queued          uint8    // age of the stamp of the request that stands here
	push, pushCount uint8    // the report of a grant that is under way, for ever: age of its stamp, count
	age, count      uint8    // the grant that was received last
	answered        uint8    // age of the latest request that was answered "standing", where that matters
	commit          uint8    // count that was answered to a commit
	extend          [2]uint8 // answers to the extends under way, as in exclusionNode; repairs are in the first
}

type standingAttempt struct {
	phase    uint8
	age      uint8 // ticks since before its first request
	valid    uint8
	token    uint8
	round    [2]uint8 // of extending; the first is that of confirming, too
	roundAge [2]uint8
	again    bool // it has handed back, and has the same value
	broken   bool // by an operator
}

// committing is the phase between trying and holding in which an attempt is in phase 2.
const committing = over + 1

// StandingState is a state of Standing.
type StandingState struct {
	node     [standingNodes]standingNode
	attempt  [standingAttempts]standingAttempt
	restarts uint8
	crossed  bool
	high     uint8 // the highest count that there ever was
	top      uint8 // the highest token that was issued
	token    uint8 // 1: the last token was issued before; 2: it is below another one
	shape    [2]uint8
}

// Init implements [System]: nodes that have been up for long and have counted together.
func (m Standing) Init() StandingState {
	s := StandingState{shape: [2]uint8{uint8(m.Nodes), uint8(m.Attempts)}}
	for i := range m.Nodes {
		s.node[i].up = uint8(m.Guard)
		if m.Counts > 0 {
			s.high = 1
			s.node[i].count, s.node[i].present = 1, 1
		}
	}
	return s
}

func (m Standing) asks(k int) bool { return m.Asks>>k&1 == 1 }

func (m Standing) mayVote(n standingNode) bool { return int(n.up) >= m.Guard }

// grantLasts is for how long a node keeps what it grants to attempt k.
func (m Standing) grantLasts(k int) int {
	if m.asks(k) {
		return m.TTL
	}
	return m.Claim
}

// Next implements [System].
func (m Standing) Next(s StandingState, step func(StandingState, Step)) {
	if next := m.tick(s); next != s {
		step(next, Step{"a tick passes", -1, -1, -1})
	}
	for k := range m.Attempts {
		m.nextOfAttempt(s, k, step)
	}
	for i := range m.Nodes {
		m.nextOfNode(s, i, step)
		for k := range m.Attempts {
			if s.attempt[k].phase != waiting {
				m.nextMessage(s, k, i, step)
			}
		}
	}
}

func (m Standing) tick(s StandingState) StandingState {
	for i := range m.Nodes {
		n := &s.node[i]
		n.pass(m.Guard)
		for k := range m.Attempts {
			r := &n.of[k]
			if r.queued > 0 {
				r.queued = min(r.queued+1, m.spent(k))
			}
			r.push, r.age, r.answered = m.older(r.push, k), m.older(r.age, k), m.older(r.answered, k)
			if r.push == 0 {
				r.pushCount = 0
			}
			if r.age == 0 {
				r.count = 0
			}
		}
		n.grant = m.older(n.grant, int(n.lock)-1)
		n.savedGrant = m.older(n.savedGrant, int(n.savedLock)-1)
	}
	for k := range m.Attempts {
		a := &s.attempt[k]
		if a.phase == trying || a.phase == committing {
			a.age = min(a.age+1, m.spent(k)-1)
			if m.asks(k) && a.age == m.spent(k)-1 { // it can't become a lease any more
				s = m.end(s, k)
			}
		}
		for e := range a.round {
			if a.round[e] == underWay {
				a.roundAge[e] = min(a.roundAge[e]+1, uint8(m.TTL-m.Drift))
			}
		}
		if a.valid > 0 {
			if a.valid--; a.valid == 0 {
				s = m.end(s, k)
			}
		}
	}
	return s
}

// spent is the age of a stamp with which a grant to attempt k is worth nothing any more.
// What is older is no different.
func (m Standing) spent(k int) uint8 { return uint8(m.grantLasts(k)-m.Drift) + 1 }

// keepsSpent says whether such a grant is remembered: it counts where leases are confirmed
// first, or where a rule is off. Else it might as well not have been received.
func (m Standing) keepsSpent() bool { return m.Confirms || m.Off.AmongEqual || m.Off.PushStamp }

// older is the age of a stamp of attempt k after a tick; k is -1 for nobody's.
func (m Standing) older(age uint8, k int) uint8 {
	if age == 0 || k < 0 || age+1 >= m.spent(k) && !m.keepsSpent() {
		return 0
	}
	return min(age+1, m.spent(k))
}

// pass lets one tick of the node's own clock pass.
func (n *standingNode) pass(guard int) {
	n.up = uint8(min(int(n.up)+1, guard))
	if n.left > 0 {
		if n.left--; n.left == 0 {
			n.lock, n.grant = 0, 0
		}
	}
	if n.savedLeft > 0 {
		if n.savedLeft--; n.savedLeft == 0 {
			n.savedLock, n.savedGrant = 0, 0
		}
	}
}

func (m Standing) end(s StandingState, k int) StandingState {
	a := s.attempt[k]
	s.attempt[k] = standingAttempt{phase: over, again: a.again, broken: a.broken, round: a.past()}
	return s.forget(k)
}

// past is the attempt's rounds when none is waited for any more.
func (a standingAttempt) past() (round [2]uint8) {
	for _, r := range a.round {
		round[0] = max(round[0], min(r, 1)*roundPast)
	}
	return round
}

// forget drops what attempt k knows and where it stands. Its repairs go on, and what it has
// sent can still arrive.
func (s StandingState) forget(k int) StandingState {
	for i := range s.node {
		n := &s.node[i]
		n.of[k] = standingRequest{extend: [2]uint8{n.of[k].extend[0] & repairDue}}
		if int(n.lock) == k+1 {
			n.grant = 0
		}
		if int(n.savedLock) == k+1 {
			n.savedGrant = 0
		}
	}
	return s
}

// Wrong implements [System]. A hold that an operator has broken is not exclusive: its holder
// goes on until its next extend.
func (m Standing) Wrong(s StandingState) string {
	switch s.token {
	case 1:
		return fmt.Sprintf("token %d was issued twice", s.top)
	case 2:
		return fmt.Sprintf("a valid lease has a token below %d, which was issued before", s.top)
	}
	holder := -1
	for k, a := range s.attempt[:m.Attempts] {
		if a.phase != holding || a.broken {
			continue
		}
		if holder >= 0 {
			return fmt.Sprintf("%c and %c both hold", 'A'+holder, 'A'+k)
		}
		holder = k
	}
	return ""
}

// Canon implements [System]: nodes are alike, so any order of them will do.
func (m Standing) Canon(s StandingState) StandingState {
	for i := 1; i < m.Nodes; i++ {
		for j := i; j > 0 && s.node[j].less(&s.node[j-1]); j-- {
			s.node[j], s.node[j-1] = s.node[j-1], s.node[j]
		}
	}
	return s
}

func (n *standingNode) less(o *standingNode) bool {
	if a, b := n.number(), o.number(); a != b {
		return a < b
	}
	for k := range n.of {
		if a, b := n.of[k].number(), o.of[k].number(); a != b {
			return a < b
		}
	}
	return n.up != o.up && n.up < o.up || n.up == o.up && n.rest() < o.rest()
}

func (n *standingNode) number() uint64 {
	return number(n.lock, n.left, n.count, n.grant, n.savedLock, n.savedLeft, n.savedCount, n.savedGrant)
}

func (n *standingNode) rest() uint64 { return number(n.fast, n.present, n.clock, 0, 0, 0, 0, 0) }

func (r *standingRequest) number() uint64 {
	return number(r.queued, r.push, r.pushCount, r.age, r.count, r.answered, r.extend[0]<<2|r.extend[1], r.commit)
}

func number(a, b, c, d, e, f, g, h uint8) uint64 {
	return uint64(a)<<56 | uint64(b)<<48 | uint64(c)<<40 | uint64(d)<<32 | uint64(e)<<24 | uint64(f)<<16 | uint64(g)<<8 | uint64(h)
}

// String shows each node as holder:ticks left#count, and who holds, for how long.
func (s StandingState) String() string {
	text := ""
	for _, n := range s.node[:s.shape[0]] {
		holder := byte('-')
		if n.lock > 0 {
			holder = 'A' + n.lock - 1
		}
		text += fmt.Sprintf("%c:%d", holder, n.left)
		if n.count > 0 {
			text += fmt.Sprintf("#%d", n.count)
		}
		text += "  "
	}
	for k, a := range s.attempt[:s.shape[1]] {
		if a.phase == holding {
			text += fmt.Sprintf("%c holds for %d  ", 'A'+k, a.valid)
		}
	}
	return text
}
