package model

import "fmt"

// Next calls step for each state that may follow s, with what happened and where: 0 to 63.
// What happens at one place is delivered, or done, at some time: see [Fair]. Refreshes have
// place [timer].
func (m Liveness) Next(s LivenessState, step func(next LivenessState, what string, place int)) {
	if s.lease != 0 || s.overflow {
		return
	}
	quiet := true
	does := func(next LivenessState, what string, place int) {
		quiet = false
		m.tidy(&next)
		step(next, what, place)
	}
	for i := range liveNodes {
		if s.releases>>i&1 == 1 {
			next := s
			next.releases &^= 1 << i
			next.node[i].lock = nobody
			m.passOn(&next.node[i], -1)
			does(next, fmt.Sprintf("W's release arrives at node %d", i+1), i)
		}
	}
	for c := range m.Waiters {
		for i := range liveNodes {
			m.nextMessage(s, c, i, does)
		}
		if !m.hung(c) {
			m.nextOfWaiter(s, c, does)
		}
	}
	if quiet {
		m.nextTimer(s, step)
	}
}

// Places of steps: W's releases have 0 to 2.
const timer = 63

func placeOf(kind, c, i int) int { return 3 + (kind*liveWaiters+c)*liveNodes + i }

func (m Liveness) nextMessage(s LivenessState, c, i int, does func(LivenessState, string, int)) {
	n := &s.node[i]
	says := func(what string) string { return fmt.Sprintf("%c: %s node %d", 'A'+c, what, i+1) }
	if r := n.requests[c][0]; r.value != 0 {
		next := s
		m.arrive(&next, c, i)
		what := "its request arrives at"
		if r.to != nobody {
			what = "its hand-back arrives at"
		}
		does(next, says(what), placeOf(0, c, i))
	}
	if a := n.answers[c][0]; a.what != unknown {
		next := s
		take(&next.node[i].answers[c])
		if !m.hung(c) {
			m.receive(&next, c, i, a)
		}
		does(next, says("the answer arrives of"), placeOf(1, c, i))
	}
	if value := n.push[c]; value != 0 {
		next := s
		next.node[i].push[c] = 0
		lost := next
		w := &next.waiter[c]
		if w.knows[i] != granted && !m.hung(c) {
			m.receiveGrant(&next, c, i)
		}
		does(next, says("the push arrives of"), placeOf(2, c, i))
		if lost.lost < m.Lost {
			lost.lost++
			does(lost, says("the push is lost of"), placeOf(2, c, i))
		}
	}
}

func (m Liveness) receive(s *LivenessState, c, i int, a answer) {
	w := &s.waiter[c]
	switch {
	case w.knows[i] == granted: // the push was faster
	case a.what == granted:
		m.receiveGrant(s, c, i)
	default:
		w.knows[i], w.latest[i] = a.what, a.latest
		m.decide(s, c)
	}
}

// receiveGrant: the first one makes older answers say nothing, which name the last holder.
func (m Liveness) receiveGrant(s *LivenessState, c, i int) {
	w := &s.waiter[c]
	if w.grants() == 0 {
		w.latest = [liveNodes]bool{}
	}
	w.knows[i], w.latest[i] = granted, false
	m.decide(s, c)
}

func (w *liveWaiter) grants() int {
	n := 0
	for _, what := range w.knows {
		if what == granted {
			n++
		}
	}
	return n
}

// nextOfWaiter: what waiter c does after some time.
func (m Liveness) nextOfWaiter(s LivenessState, c int, does func(LivenessState, string, int)) {
	w := &s.waiter[c]
	if w.grants() > 0 && !w.asked && !s.underWay(c) { // two round trips later, as a rule
		next := s
		next.waiter[c].asked = true
		m.standAll(&next, c, true)
		does(next, fmt.Sprintf("%c: asks the others", 'A'+c), placeOf(3, c, 0))
	}
	if m.Silent && !m.Off.NotAnswered && !w.gaveUp && (w.asked || w.paused) {
		next := s
		next.waiter[c].gaveUp = true
		m.decide(&next, c)
		does(next, fmt.Sprintf("%c: does not wait for node 3", 'A'+c), placeOf(3, c, 1))
	}
	if w.paused && w.grants() == 0 && !s.underWay(c) && (m.Off.OutOfReach || w.mayTake()) {
		next := s
		m.standAll(&next, c, true)
		does(next, fmt.Sprintf("%c: takes again", 'A'+c), placeOf(3, c, 2))
	}
}

// mayTake says whether a quorum is in reach of a waiter that has no grant.
func (w *liveWaiter) mayTake() bool {
	held := 0
	for _, what := range w.knows {
		switch {
		case what > heldBy:
			held++
		case what == unknown && !w.gaveUp:
			return false
		}
	}
	return held < liveNodes-liveQuorum+1
}

func (s *LivenessState) underWay(c int) bool {
	for i := range s.node {
		if s.node[i].requests[c][0].value != 0 || s.node[i].answers[c][0].what != unknown {
			return true
		}
	}
	return false
}

func (m Liveness) standAll(s *LivenessState, c int, take bool) {
	w := &s.waiter[c]
	latest := w.grants() > 0
	for i := range liveNodes {
		if w.knows[i] != granted && !m.silent(i) {
			s.node[i].send(c, request{value: w.value + 1, take: take, latest: latest}, s)
		}
	}
	w.paused = !take
}

// decide: waiter c has received something.
func (m Liveness) decide(s *LivenessState, c int) {
	w := &s.waiter[c]
	if w.grants() >= liveQuorum {
		s.lease = uint8(c + 1)
		return
	}
	if w.grants() == 0 {
		return
	}
	against := 0
	var votes [theOther + 1]int
	votes[c+1] = w.grants()
	for i, what := range w.knows {
		switch {
		case what > heldBy && w.latest[i]:
			votes[what-heldBy]++
			against++
		case what == unknown && w.gaveUp:
			against++
		}
	}
	if against < liveNodes-liveQuorum+1 {
		return
	}
	best := c + 1
	for to := 1; to <= theOther; to++ {
		first := to == theOther && !m.Off.OtherFirst || to < best
		if m.Off.FixedOrder {
			first = to == (c+1)%m.Waiters+1
		}
		if votes[to] > votes[best] || votes[to] == votes[best] && first {
			best = to
		}
	}
	if best != c+1 {
		m.handBack(s, c, uint8(best))
	}
}

func (m Liveness) handBack(s *LivenessState, c int, to uint8) {
	w := &s.waiter[c]
	takes := m.Off.HandBackTo || m.Off.TakeOff
	*w = liveWaiter{value: (w.value + 1) % 3, paused: !takes}
	for i := range liveNodes {
		if !m.silent(i) {
			s.node[i].send(c, request{value: w.value + 1, to: to, take: takes}, s)
		}
	}
}

// nextTimer: nothing is under way. The waiters refresh, one after the other; what was
// granted to one that hangs expires, after a few rounds of that.
func (m Liveness) nextTimer(s LivenessState, step func(LivenessState, string, int)) {
	expired := s
	for i := range expired.node {
		if n := &expired.node[i]; n.lock != nobody && m.hung(int(n.lock)-1) {
			n.lock, n.value, expired.rounds = nobody, 0, 0
		}
	}
	if expired != s {
		step(expired, "the grant of the one that hangs expires", timer)
		if s.rounds > 1 {
			return
		}
	}
	if m.Off.Refresh {
		return
	}
	all := uint8(1)<<m.Waiters - 1
	if m.Hung {
		all &^= 1
	}
	for c := range m.Waiters {
		if s.refreshed>>c&1 == 1 || m.hung(c) {
			continue
		}
		next := s
		next.refreshed |= 1 << c
		if next.refreshed == all {
			next.refreshed = 0
			if expired != s {
				next.rounds++
			}
		}
		w := &next.waiter[c]
		held := 0
		for _, what := range w.knows {
			if what > heldBy {
				held++
			}
		}
		w.asked = w.grants() > 0
		m.standAll(&next, c, m.Off.HandBackTo || m.Off.OutOfReach || held < liveNodes-liveQuorum+1)
		step(next, fmt.Sprintf("%c: refreshes", 'A'+c), timer)
	}
}
