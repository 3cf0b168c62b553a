package model

import (
	"fmt"
)

// Exclusion is the model of who holds. Time passes in ticks, for all at once; a lock
// vanishes when its ttl is over, and not earlier. Messages and replies are as in
// [Tokens]: late, lost or doubled. It leaves out the counters, which decide nothing
// here.
type Exclusion struct {
	Nodes, Attempts, Quorum int

	TTL   int // ticks
	Short int // if not 0, each extend of A asks for TTL, or for so many ticks less
	Drift int // ticks by which validity is shorter than the ttl
	Guard int // ticks for which a node that has restarted does not vote

	// How much may happen, for the number of states to stay finite.
	Restarts int // of all nodes together
	Fast     int // ticks that a node's clock gains on the others, on each node
	Switches int // of durability, on, of all nodes together: none has it at first
	Extends  bool
	Keeps    bool // leases are given up by lock.ReleaseAfter

	Off   ExclusionRules // rules that are broken
	Cross ExclusionLimits
}

// ExclusionRules are the rules of the algorithm on which exclusion depends.
type ExclusionRules struct {
	Guard        bool // a node votes as soon as it has restarted
	Proof        bool // a node that is durable votes at once, also if that was switched on in this run
	GuardLength  bool // the guard time is shorter than the ttl
	GuardExtend  bool // a confirmation by a node that may not vote counts
	FromStart    bool // validity counts from the last reply, not from before the requests
	DriftMargin  bool // validity is the whole ttl
	ReleaseMine  bool // a release does not ask whose the lock is
	Majority     bool // half of the nodes are enough
	ExtendBlind  bool // an extend makes the lock anew where it is missing, and that counts
	RepairCounts bool // a repair counts in the round that brought it
	RepairAbsent bool // a repair does not ask whether another has the lock by now
	Lengthens    bool // an extend for a shorter ttl shortens the lock
	Deadline     bool // an extend that is confirmed after the local deadline counts
	FreesAtLoss  bool // an extend that finds the lease lost frees what is left of it
	KeepUnsure   bool // a key is said to be kept when one node has confirmed it
	KeepShort    bool // a request to keep a key does not ask for all of the time that is left
}

// ExclusionLimits are what the library does not promise to survive, but for FlushWhole.
type ExclusionLimits struct {
	Flush      bool // one FLUSHALL, DEL or eviction, on one node
	FlushWhole bool // the same, but the lease stands on all nodes: that it does survive
	Jump       bool // one node's clock jumps forward
	Unguarded  bool // one node restarts without its data, and does not report its uptime
	Older      bool // one node goes back to what it had saved, and votes
	Uptime     bool // the clock of a node that has restarted steps forward by the guard time
	SwitchedOn bool // a node restarts that was made durable within the guard time
}

type exclusionNode struct {
	lock uint8 // attempt + 1; 0: free
	left uint8 // ticks until it expires
	up   uint8 // ticks since the start, up to the guard time
	fast uint8 // ticks gained
	sync uint8 // whether it is durable, and since when

	savedLock, savedLeft uint8 // on disk; the time of keys goes on while the server is down

	// answer to each attempt: granted while it tries, the outcome of its extend once
	// it holds; with repairDue (of one or both ttls) once a repair was sent, which can
	// arrive at any moment.
	answer [maxAttempts]uint8
}

// A node is durable since it was switched on in this run, or since the run's start.
const (
	switchedOn = 1
	sinceStart = 2
)

// Answers: to an acquire, or of an extend.
const (
	grantedHere   = 1
	confirmedHere = 1
	missingHere   = 2
	missingBefore = 3 // by a server that has restarted since
	repairDue     = 8 | repairShort
	repairShort   = 16
)

// due is the repair of a lease whose extend asked for so much less than the whole ttl.
func due(less uint8) uint8 {
	if less > 0 {
		return repairShort
	}
	return repairDue &^ repairShort
}

type exclusionAttempt struct {
	phase    uint8
	age      uint8 // ticks since before its first request
	valid    uint8 // ticks that it may hold
	round    uint8 // of extending
	roundAge uint8 // ticks since before the round's first request
	lapsed   bool  // its deadline has passed, and it has not learned of it

	less uint8 // how many ticks less than TTL its latest extend asked for
	sent uint8 // extends: 1 of the whole TTL, 2 of less
	kept bool  // the lease was given up for less ticks than TTL: these requests can still arrive
}

const (
	waiting = iota
	trying
	holding
	lost    // an extend has found that; valid is what is left of the expiry that the holder was given
	keeping // the lease is given up; valid is for how long the key is known to stay
	over    // released, given up or expired: what it has sent can still arrive
)

const (
	noRound = iota
	underWay
	roundPast // its extends can still arrive
)

// ExclusionState is a state of Exclusion.
type ExclusionState struct {
	node     [maxNodes]exclusionNode
	attempt  [maxAttempts]exclusionAttempt
	restarts uint8
	switches uint8
	crossed  bool
	shape    [2]uint8
}

// Init implements [System]: nodes that have been up for long.
func (m Exclusion) Init() ExclusionState {
	s := ExclusionState{shape: [2]uint8{uint8(m.Nodes), uint8(m.Attempts)}}
	for i := range m.Nodes {
		s.node[i].up = uint8(m.guard())
	}
	return s
}

func (m Exclusion) guard() int {
	switch {
	case m.Off.Guard:
		return 0
	case m.Off.GuardLength:
		return max(m.TTL-m.Drift-1, 0)
	}
	return m.Guard
}

// mayVote says whether the node's vote counts: it can have forgotten nothing that
// still stands, because it has been up for the guard time, or because it was durable
// ever since it started.
func (m Exclusion) mayVote(n exclusionNode) bool {
	return int(n.up) >= m.guard() || n.sync == sinceStart || m.Off.Proof && n.sync == switchedOn
}

// lesses are the choices of a ttl in attempt k's extends.
func (m Exclusion) lesses(k int) []uint8 {
	if m.Short == 0 || k > 0 {
		return []uint8{0}
	}
	return []uint8{0, uint8(m.Short)}
}

func (m Exclusion) ttl(less uint8) uint8 { return uint8(m.TTL) - less }

// valid is for how long a lease holds whose requests began so many ticks ago.
func (m Exclusion) valid(less, age uint8) int {
	valid := int(m.ttl(less))
	if !m.Off.DriftMargin {
		valid -= m.Drift
	}
	if !m.Off.FromStart {
		valid -= int(age)
	}
	return valid
}

func (m Exclusion) quorum() int {
	if m.Off.Majority {
		return m.Nodes / 2
	}
	return m.Quorum
}

// has says whether a quorum gave that answer to attempt k.
func (m Exclusion) has(s ExclusionState, k int, answer uint8) bool {
	n := 0
	for i := range m.Nodes {
		if s.node[i].answer[k]&^repairDue == answer {
			n++
		}
	}
	return n >= m.quorum()
}

// Next implements [System].
func (m Exclusion) Next(s ExclusionState, step func(ExclusionState, Step)) {
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

func (m Exclusion) tick(s ExclusionState) ExclusionState {
	for i := range m.Nodes {
		s.node[i].pass(m.guard())
	}
	for k := range m.Attempts {
		a := &s.attempt[k]
		if a.phase == trying {
			a.age = uint8(min(int(a.age)+1, m.TTL))
			if m.valid(0, a.age) <= 0 { // it can't become a lease any more
				s = s.end(k)
			}
		}
		if a.round == underWay || a.phase == keeping {
			a.roundAge = uint8(min(int(a.roundAge)+1, m.TTL))
		}
		if a.valid > 0 {
			a.valid--
		}
		if a.phase == keeping && a.valid == 0 && m.valid(a.less, a.roundAge) <= 0 {
			s = s.end(k)
		}
		if a.phase == lost && a.valid == 0 {
			s = s.end(k)
		}
		if a.phase == holding && a.valid == 0 {
			a.lapsed = true
			if !m.Off.Deadline {
				s = s.end(k)
			}
		}
	}
	return s
}

// pass lets one tick of the node's own clock pass.
func (n *exclusionNode) pass(guard int) {
	n.up = uint8(min(int(n.up)+1, guard))
	if n.left > 0 {
		if n.left--; n.left == 0 {
			n.lock = 0
		}
	}
	if n.savedLeft > 0 {
		if n.savedLeft--; n.savedLeft == 0 {
			n.savedLock = 0
		}
	}
}

func (s ExclusionState) end(k int) ExclusionState {
	a := &s.attempt[k]
	extends := uint8(noRound)
	if a.round != noRound {
		extends = roundPast
	}
	*a = exclusionAttempt{phase: over, round: extends, less: a.less, sent: a.sent, kept: a.kept}
	return s.forget(k)
}

// forget drops the answers to attempt k; its repairs go on.
func (s ExclusionState) forget(k int) ExclusionState {
	for i := range s.node {
		s.node[i].answer[k] &= repairDue
	}
	return s
}

// nextOfAttempt: what the program does by itself. Replies that were lost are those
// that it does not wait for.
func (m Exclusion) nextOfAttempt(s ExclusionState, k int, step func(ExclusionState, Step)) {
	does := func(next ExclusionState, what string, ticks int) {
		step(next, Step{what, int8(k), -1, int16(ticks)})
	}
	a := s.attempt[k]
	m.nextKeep(s, k, does)
	m.nextLoss(s, k, does)
	switch a.phase {
	case waiting:
		if k > 0 && s.attempt[k-1].phase == waiting {
			return // they are alike: the order of their names is no loss
		}
		next := s
		next.attempt[k].phase = trying
		does(next, "begins", -1)
	case trying:
		does(s.end(k), "gives up", -1)
		if valid := m.valid(0, a.age); m.has(s, k, grantedHere) && valid > 0 {
			next := s.forget(k)
			next.attempt[k] = exclusionAttempt{phase: holding, valid: uint8(valid)}
			does(next, "holds, for so many ticks", valid)
		}
	case holding:
		does(s.end(k), "releases", -1)
		if !m.Extends {
			return
		}
		if a.round != underWay && a.valid > 0 {
			for _, less := range m.lesses(k) {
				next := s.forget(k)
				to := &next.attempt[k]
				to.round, to.roundAge, to.less = underWay, 0, less
				to.sent |= 1 << min(less, 1)
				does(next, "begins to extend, for so many ticks", int(m.ttl(less)))
			}
		}
		if valid := m.valid(a.less, a.roundAge); a.round == underWay && m.has(s, k, confirmedHere) && valid > 0 {
			next := s
			for i := range m.Nodes {
				if next.node[i].answer[k]&^repairDue == missingHere {
					next.node[i].answer[k] |= due(a.less)
				}
			}
			next = next.forget(k)
			next.attempt[k].round, next.attempt[k].roundAge = roundPast, 0
			next.attempt[k].valid = uint8(valid)
			does(next, "has extended, to so many ticks", valid)
		}
	}
}

// Wrong implements [System]. A lease holds until the expiry that its holder was given, also
// when an extend has found it lost: the work under it may be stopping still, or may go by
// that expiry and not know of the loss yet.
func (m Exclusion) Wrong(s ExclusionState) string {
	holder := -1
	for k := range m.Attempts {
		if p := s.attempt[k].phase; p != holding && p != lost && p != keeping || s.attempt[k].valid == 0 {
			continue
		}
		if s.attempt[k].lapsed {
			return fmt.Sprintf("%c holds again, after the loss was reported", 'A'+k)
		}
		if holder >= 0 {
			return fmt.Sprintf("%c and %c both hold", 'A'+holder, 'A'+k)
		}
		holder = k
	}
	return ""
}
