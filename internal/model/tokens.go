package model

import (
	"fmt"
)

const (
	maxNodes    = 5
	maxAttempts = 4

	maxRefreshes = 1
)

// Tokens is the model of fencing tokens. It has no time: a lock can vanish from a node
// at any moment, which stands for expiry, DEL, eviction and any release, and an attempt
// can go on at any moment. Whatever was sent can arrive at any moment from then on,
// any number of times, or never; likewise replies.
type Tokens struct {
	Nodes, Attempts, Quorum int

	// How much may happen, for the number of states to stay finite.
	Counts   int // grants that would count above this do not happen; nodes begin at 1
	Restarts int // of all nodes together
	Forgets  int // times that a counter goes and the server does not: FLUSHALL, or the end of the retention
	Repairs  bool
	// A lease may be raised so often before its token is handed out, each time by one: the
	// token that a quorum agrees on is then above all that its nodes count.
	Raises int
	// Attempts stand in the queues, and refresh so often. A grant has the latest stamp that
	// it can have; the lease begins with the Q-th latest of those that count.
	Refreshes int

	Off   TokenRules // rules that are broken
	Cross TokenLimits
}

// TokenRules are the rules of the algorithm on which tokens depend.
type TokenRules struct {
	Phase2       bool // who is granted by a quorum takes the highest count for his token
	CommitMine   bool // a commit does not ask whose the lock is
	CommitRun    bool // a commit does not ask whether the count is of the present run
	EqualOnly    bool // any answer to a commit counts as agreement
	RepairLowers bool // a repair sets the count to the lease's token, even if it was higher
	RepairRun    bool // a repair vouches for the count: it writes the present run
	Run          bool // a counter from an earlier run is counted on
	Outlives     bool // the counter goes when the lock goes
	NewValue     bool // all attempts have one value
	Majority     bool // half of the nodes are enough
	Stamp        bool // a grant has no stamp: it counts from the latest request
	RaiseAlone   bool // a token is raised without the agreement of a quorum
	// RaiseRepaired: a token is raised although a repair may have been sent.
	RaiseRepaired bool
	AmongEqual    bool // the Q-th latest stamp is that of all nodes that granted, whatever they counted
}

// TokenLimits are what the library does not promise to survive.
type TokenLimits struct {
	Clocks bool // clocks lag by more than the time that a counter was away
	NoRun  bool // nodes do not report their run
	Ahead  bool // a token is raised above the nodes' clocks, and one of them loses its count
}

// tokenNode is one column of a state: a node, and what attempts know of it.
type tokenNode struct {
	lock    uint8 // attempt + 1; 0: free
	count   uint8 // 0: no counter
	present uint8 // 1: the counter was counted in the present run
	clock   uint8 // above all counts up to this, whenever the counter was last lost

	stamp                 uint8 // that was granted to the holder
	savedLock, savedCount uint8 // on disk
	savedStamp            uint8

	// answer to each attempt: the count granted while it asks, the count committed
	// while it agrees, missingHere once an extend of the lease has missed it; 0: none.
	answer [maxAttempts]uint8
	sent   [maxAttempts]uint8 // the stamp of the grant that each attempt has received
}

// tokenAttempt is one attempt, which becomes a lease.
type tokenAttempt struct {
	phase    uint8
	token    uint8                   // proposed, or issued
	stamp    uint8                   // of its latest request
	after    [maxRefreshes + 1]uint8 // bits: whose tokens had been issued when the request with that stamp was sent
	began    uint8                   // the stamp from which the lease counts
	base     uint8                   // the token that it had before it was raised; 0: it was not
	proposed uint16                  // bits: tokens that it has proposed
}

const (
	notBegun = iota
	asking   // phase 1
	agreeing // phase 2
	issued
	unraised // it has a token, which nobody has been given: that is to be raised
)

// TokenState is a state of Tokens.
type TokenState struct {
	node     [maxNodes]tokenNode
	attempt  [maxAttempts]tokenAttempt
	high     uint8 // the highest count that there ever was
	restarts uint8
	forgets  uint8
	nodes    uint8
}

// Init implements [System]: nodes that have counted together.
func (m Tokens) Init() TokenState {
	s := TokenState{nodes: uint8(m.Nodes), high: 1}
	for i := range m.Nodes {
		s.node[i].count, s.node[i].present = 1, 1
		if m.Restarts > 0 {
			s.node[i].savedCount = 1
		}
	}
	return s
}

func (m Tokens) quorum() int {
	if m.Off.Majority {
		return m.Nodes / 2
	}
	return m.Quorum
}

// Next implements [System].
func (m Tokens) Next(s TokenState, step func(TokenState, Step)) {
	for k := range m.Attempts {
		m.nextOfAttempt(s, k, step)
	}
	for i := range m.Nodes {
		m.nextOfNode(s, i, step)
		for k := range m.Attempts {
			m.nextMessage(s, k, i, step)
		}
	}
}

// nextOfAttempt: what the program does by itself. Replies that were lost are those
// that it does not wait for.
func (m Tokens) nextOfAttempt(s TokenState, k int, step func(TokenState, Step)) {
	does := func(next TokenState, what string, token uint8) {
		step(next, Step{what, int8(k), -1, int16(token)})
	}
	a := s.attempt[k]
	switch a.phase {
	case notBegun:
		if k > 0 && s.attempt[k-1].phase == notBegun {
			return // they are alike: the order of their names is no loss
		}
		next := s
		next.attempt[k].phase = asking
		next.attempt[k].after[0] = s.issued()
		step(next, Step{"begins", int8(k), -1, -1})
	case asking:
		if int(a.stamp) < m.Refreshes {
			next := s
			to := &next.attempt[k]
			to.stamp++
			to.after[to.stamp] = s.issued()
			step(next, Step{"refreshes", int8(k), -1, -1})
		}
		for i := range m.Nodes { // T is one of the votes
			token := s.node[i].answer[k]
			if token == 0 || m.votedBefore(s, k, i, token) {
				continue
			}
			same, upTo := 0, 0
			for j := range m.Nodes {
				if v := s.node[j].answer[k]; v == token {
					same++
					upTo++
				} else if v != 0 && v < token {
					upTo++
				}
			}
			switch {
			case same >= m.quorum(), m.Off.Phase2 && upTo >= m.quorum():
				m.held(s, k, token, does, "from the votes")
			case upTo >= m.quorum():
				does(s.become(k, agreeing, token), "has a quorum, proposes the highest count", token)
			}
		}
	case agreeing:
		same, higher := 0, uint8(0)
		for i := range m.Nodes {
			switch c := s.node[i].answer[k]; {
			case c == a.token, c != 0 && m.Off.EqualOnly:
				same++
			case c > a.token:
				higher = max(higher, c)
			}
		}
		if same >= m.quorum() {
			m.held(s, k, a.token, does, "by agreement")
		}
		if higher > 0 {
			does(s.become(k, agreeing, higher), "meets a higher count, proposes that", higher)
		}
	case unraised:
		if int(a.token) == m.Counts {
			return
		}
		next := s
		next.attempt[k].base = a.token
		if m.Off.RaiseAlone {
			does(m.issue(next, k, a.token+1), "has its token raised, alone", a.token+1)
			return
		}
		if !m.Cross.Ahead { // clocks have passed it by the time that a counter is lost
			next.high = max(s.high, a.token+1)
		}
		does(next.become(k, agreeing, a.token+1), "raises its token, proposes that", a.token+1)
	}
}

// held is what becomes of an attempt whose token is certain: it is handed out, or raised
// before that.
func (m Tokens) held(s TokenState, k int, token uint8, does func(TokenState, string, uint8), how string) {
	does(m.issue(s, k, token), "has its token, "+how, token)
	if m.Raises > 0 && s.attempt[k].base == 0 {
		next := m.issue(s, k, token)
		next.attempt[k].phase = unraised
		does(next, "has a token, "+how+", to be raised", token)
	}
}

func (m Tokens) votedBefore(s TokenState, k, i int, count uint8) bool {
	for j := range i {
		if s.node[j].answer[k] == count {
			return true
		}
	}
	return false
}

// issued says whose tokens have been issued.
func (s TokenState) issued() (bits uint8) {
	for k, a := range s.attempt {
		if a.phase == issued {
			bits |= 1 << k
		}
	}
	return bits
}

// issue makes a lease of attempt k, which counts from the Q-th latest stamp among the nodes
// that count: that a token was issued before that request was sent is what the order of
// tokens is about.
func (m Tokens) issue(s TokenState, k int, token uint8) TokenState {
	began, count := uint8(0), 0
	for stamp := maxRefreshes; stamp >= 0 && count < m.quorum(); stamp-- {
		began = uint8(stamp)
		for i := range m.Nodes {
			n := &s.node[i]
			counts := n.answer[k] == token || m.Off.AmongEqual && n.sent[k] != 0
			if m.Off.Stamp {
				n.sent[k] = s.attempt[k].stamp
			}
			if counts && n.sent[k] == began {
				count++
			}
		}
	}
	s = s.become(k, issued, token)
	s.attempt[k].began = began
	s.attempt[k].stamp = 0
	for i := range s.node {
		s.node[i].sent[k] = 0
		if n := &s.node[i]; n.lock == m.value(k) {
			n.stamp = 0 // nobody will read it
		}
	}
	return s
}

// become begins a phase, in which only answers to that phase's requests count.
func (s TokenState) become(k int, phase, token uint8) TokenState {
	a := &s.attempt[k]
	a.phase, a.token = phase, token
	a.proposed |= 1 << token
	for i := range s.node {
		s.node[i].answer[k] = 0
	}
	return s
}

// nextOfNode: what happens to a node. That a lock vanishes is seen only by a message
// that misses it, so that it happens at the latest moment, in [Tokens.nextMessage].
func (m Tokens) nextOfNode(s TokenState, i int, step func(TokenState, Step)) {
	n := s.node[i]
	happens := func(n tokenNode, what string, restarts, forgets uint8) {
		next := s
		next.node[i] = n
		next.restarts += restarts
		next.forgets += forgets
		if next.restarts == uint8(m.Restarts) { // nobody will read it
			for j := range m.Nodes {
				next.node[j].savedLock, next.node[j].savedCount, next.node[j].savedStamp = 0, 0, 0
			}
		}
		step(next, Step{what, -1, int8(i), -1})
	}
	if n.count != 0 && int(s.forgets) < m.Forgets {
		gone := n
		gone.lock, gone.stamp, gone.count, gone.present, gone.clock = 0, 0, 0, 0, s.high
		happens(gone, "everything is flushed", 0, 1)
	}
	if int(s.restarts) == m.Restarts {
		return
	}
	saved := n.savedLock == n.lock && n.savedCount == n.count
	if !saved {
		next := n
		next.savedLock, next.savedCount, next.savedStamp = n.lock, n.count, n.stamp
		happens(next, "the data is saved", 0, 0)
	}
	restart := n
	restart.clock = s.high
	if !m.Cross.NoRun {
		restart.present = 0
		for k, a := range s.attempt {
			if a.phase == issued { // a repair asks for the run that missed the lock
				restart.answer[k] = 0
			}
		}
	}
	happens(restart, "restart with all data", 1, 0)
	if !saved {
		stale := restart
		stale.lock, stale.count, stale.stamp = n.savedLock, n.savedCount, n.savedStamp
		happens(stale, "restart with stale data", 1, 0)
	}
	if n.savedCount != 0 {
		empty := restart
		empty.lock, empty.count, empty.present = 0, 0, 0
		empty.stamp, empty.savedLock, empty.savedCount, empty.savedStamp = 0, 0, 0, 0
		happens(empty, "restart without data", 1, 0)
	}
}

// Wrong implements [System].
func (m Tokens) Wrong(s TokenState) string {
	for k := range m.Attempts {
		for j := range m.Attempts {
			a, b := s.attempt[k], s.attempt[j]
			if k == j || a.phase != issued || b.phase != issued {
				continue
			}
			if a.token == b.token {
				return fmt.Sprintf("%c and %c both have token %d", 'A'+k, 'A'+j, a.token)
			}
			if b.after[b.began]&(1<<k) != 0 && b.token < a.token {
				return fmt.Sprintf("%c began when %c had token %d, and has %d", 'A'+j, 'A'+k, a.token, b.token)
			}
		}
	}
	return ""
}
