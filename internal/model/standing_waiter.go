package model

// nextOfAttempt: what a waiter, an ordinary attempt or a holder does by itself.
func (m Standing) nextOfAttempt(s StandingState, k int, step func(StandingState, Step)) {
	does := func(next StandingState, what string, n int) {
		step(next, Step{what, int8(k), -1, int16(n)})
	}
	a := s.attempt[k]
	switch a.phase {
	case waiting:
		if k > 0 && s.attempt[k-1].phase == waiting && m.asks(k) == m.asks(k-1) && !(m.Breaks && k == 1) {
			return // they are alike: the order of their names is no loss
		}
		next := s
		next.attempt[k].phase = trying
		does(next, "begins", -1)
	case over:
		if m.Off.NewValue && !m.asks(k) && !a.again {
			next := s
			next.attempt[k].phase, next.attempt[k].again = trying, true
			does(next, "stands again with the same value", -1)
		}
	case trying:
		does(m.end(s, k), "gives up, or hands back", -1)
		m.grantedByQuorum(s, k, does)
	case committing:
		does(m.end(s, k), "gives up, or hands back", -1)
		m.committed(s, k, does)
	case holding:
		does(m.end(s, k), "releases", -1)
		m.nextExtend(s, k, does)
	}
	if m.Breaks && k == 0 && !a.broken && a.phase != waiting && a.phase != over {
		next := s
		next.attempt[k].broken = true
		does(next, "is broken by an operator", -1)
	}
}

// grantedByQuorum: attempt k has received the grants of a quorum.
func (m Standing) grantedByQuorum(s StandingState, k int, does func(StandingState, string, int)) {
	received, highest := 0, uint8(0)
	for i := range m.Nodes {
		if r := s.node[i].of[k]; r.age != 0 {
			received++
			highest = max(highest, r.count)
		}
	}
	if received < m.Quorum {
		return
	}
	tried := uint16(0) // bits: counts that were looked at
	for i := range m.Nodes {
		count := s.node[i].of[k].count
		if s.node[i].of[k].age == 0 || tried&(1<<count) != 0 {
			continue
		}
		tried |= 1 << count
		equal := func(n *standingNode) bool { return n.of[k].age != 0 && n.of[k].count == count }
		if m.count(s, equal) < m.Quorum {
			continue
		}
		if valid := m.valid(s, k, equal); valid > 0 {
			does(m.issue(s, k, valid, count), "holds, for so many ticks", valid)
		}
	}
	if m.Counts > 0 || m.Confirms {
		does(s.commits(k, highest), "proposes its highest count", int(highest))
	}
	if m.Confirms && s.attempt[k].round[0] == noRound && !m.asks(k) {
		next := s.commits(k, highest)
		if m.Off.ConfirmCommit {
			next = s
		}
		next.attempt[k].round[0], next.attempt[k].roundAge[0] = underWay, 0
		does(next, "confirms first", int(highest))
	}
	if m.Off.ConfirmCommit && s.attempt[k].round[0] == underWay { // the counts of grants received long ago will do
		for count := range uint8(m.Counts + 2) {
			confirmed := func(n *standingNode) bool {
				return n.of[k].age != 0 && n.of[k].count == count && n.of[k].extend[0]&^repairDue == confirmedHere
			}
			if valid := m.TTL - m.Drift - int(s.attempt[k].roundAge[0]); m.count(s, confirmed) >= m.Quorum && valid > 0 {
				does(m.issue(s, k, valid, count), "holds, confirmed, for so many ticks", valid)
			}
		}
	}
}

// commits begins phase 2. What was received so far is frozen.
func (s StandingState) commits(k int, token uint8) StandingState {
	s.attempt[k].phase, s.attempt[k].token = committing, token
	for i := range s.node {
		s.node[i].of[k].commit = 0
		s.node[i].of[k].extend[0] &= repairDue
		s.node[i].of[k].answered = 0
	}
	return s
}

// committed: attempt k looks at the answers to its commit.
func (m Standing) committed(s StandingState, k int, does func(StandingState, string, int)) {
	a := s.attempt[k]
	highest := uint8(0)
	for i := range m.Nodes {
		highest = max(highest, s.node[i].of[k].commit)
	}
	if highest > a.token {
		does(s.commits(k, highest), "meets a higher count, proposes that", int(highest))
	}
	agreed := func(n *standingNode) bool { return n.of[k].commit == a.token }
	if a.round[0] != underWay {
		if valid := m.valid(s, k, agreed); m.count(s, agreed) >= m.Quorum && valid > 0 {
			does(m.issue(s, k, valid, a.token), "holds, by agreement, for so many ticks", valid)
		}
		return
	}
	confirmed := func(n *standingNode) bool { return agreed(n) && n.of[k].extend[0]&^repairDue == confirmedHere }
	valid := m.TTL - m.Drift - int(a.roundAge[0])
	if m.Off.ConfirmStart {
		valid = m.TTL - m.Drift
	}
	if m.count(s, confirmed) >= m.Quorum && valid > 0 {
		does(m.issue(s, k, valid, a.token), "holds, confirmed, for so many ticks", valid)
	}
}

func (m Standing) count(s StandingState, is func(*standingNode) bool) int {
	n := 0
	for i := range m.Nodes {
		if is(&s.node[i]) {
			n++
		}
	}
	return n
}

// valid is for how long a lease would hold: from the Q-th latest stamp among the nodes
// that count. A node whose grant was not received counts from the first request.
func (m Standing) valid(s StandingState, k int, counts func(*standingNode) bool) int {
	if m.Off.AmongEqual {
		counts = func(n *standingNode) bool { return n.of[k].age != 0 }
	}
	younger, first := 0, s.attempt[k].age+1
	for age := range m.spent(k) {
		for i := range m.Nodes {
			n := &s.node[i]
			if !counts(n) || n.of[k].age != age+1 && !(n.of[k].age == 0 && first == age+1) {
				continue
			}
			if younger++; younger < m.Quorum {
				continue
			}
			if m.Off.FromStamp {
				age = 0
			}
			return m.grantLasts(k) - m.Drift - int(age)
		}
	}
	return 0
}

func (m Standing) issue(s StandingState, k int, valid int, token uint8) StandingState {
	a := s.attempt[k]
	if m.Counts > 0 && !a.broken {
		switch {
		case token == s.top:
			s.token = 1
		case token < s.top:
			s.token = 2
		}
		s.top = max(s.top, token)
	}
	s.attempt[k] = standingAttempt{phase: holding, valid: uint8(valid), token: token, again: a.again, broken: a.broken, round: a.past()}
	return s.forget(k)
}

// nextExtend: the holder extends its lease, the first time to grow it from the claim to the
// ttl, which goes on beside what the user asks for.
func (m Standing) nextExtend(s StandingState, k int, does func(StandingState, string, int)) {
	a := s.attempt[k]
	for e := range a.round {
		switch {
		case !m.Extends || e == 1 && !m.Twice:
		case a.round[e] != underWay:
			next := s
			next.attempt[k].round[e], next.attempt[k].roundAge[e] = underWay, 0
			for i := range m.Nodes {
				next.node[i].of[k].extend[e] &= repairDue
			}
			does(next, "begins to extend", -1)
		default:
			m.extended(s, k, e, does)
		}
	}
}

// extended: a quorum has confirmed extend e.
func (m Standing) extended(s StandingState, k, e int, does func(StandingState, string, int)) {
	confirmed := func(n *standingNode) bool { return n.of[k].extend[e]&^repairDue == confirmedHere }
	valid := m.TTL - m.Drift - int(s.attempt[k].roundAge[e])
	if m.count(s, confirmed) < m.Quorum || valid <= 0 {
		return
	}
	for i := range m.Nodes {
		r := &s.node[i].of[k]
		missing := r.extend[e]&^repairDue == missingHere
		r.extend[e] &= repairDue
		if missing {
			r.extend[0] |= due(0)
		}
	}
	a := &s.attempt[k]
	a.round[e], a.roundAge[e], a.valid = roundPast, 0, uint8(valid)
	does(s, "has extended, to so many ticks", valid)
}
