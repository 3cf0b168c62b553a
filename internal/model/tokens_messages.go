package model

// nextMessage: what attempt k has sent to node i arrives.
func (m Tokens) nextMessage(s TokenState, k, i int, step func(TokenState, Step)) {
	arrives := func(next TokenState, what string, count uint8) {
		if next != s {
			step(next, Step{what, int8(k), int8(i), int16(count)})
		}
	}
	a := s.attempt[k]
	if a.phase == notBegun {
		return
	}
	if n := s.node[i]; n.lock == m.value(k) {
		// Seen again. The reply to the first request may be the one that comes.
		if a.phase == asking && (n.answer[k] != n.count || n.sent[k] != n.stamp) {
			next := s
			next.node[i].answer[k], next.node[i].sent[k] = n.count, n.stamp
			arrives(next, "granted again", n.count)
		}
		m.commit(s, k, i, arrives)
	} else if m.Off.CommitMine {
		m.commit(s, k, i, arrives)
	}
	m.grant(s, k, i, arrives)
	// A token is raised only where nothing was repaired before: a repair makes the lock this
	// attempt's again where another was granted that count meanwhile, and a commit after it
	// would endorse the count for both.
	if (a.phase == issued || a.phase == unraised && m.Off.RaiseRepaired) && m.Repairs {
		m.extend(s, k, i, arrives)
		m.repair(s, k, i, a.token, arrives)
	}
	if m.Off.RaiseRepaired && a.base != 0 && m.Repairs { // one that was sent before arrives late
		late, answer := s, s.node[i].answer[k]
		late.node[i].answer[k] = missingHere
		m.repair(late, k, i, a.base, func(next TokenState, what string, count uint8) {
			next.node[i].answer[k] = answer
			arrives(next, what+", late", count)
		})
	}
}

func (m Tokens) value(k int) uint8 {
	if m.Off.NewValue {
		return 1
	}
	return uint8(k + 1)
}

// vanish frees the lock, if there is one: it expired, or was released.
func (m Tokens) vanish(n *tokenNode, high uint8) {
	if n.lock != 0 && m.Off.Outlives {
		n.count, n.present, n.clock = 0, 0, high
	}
	n.lock, n.stamp = 0, 0
}

// grant is redlock's acquire.lua, where the lock is free or has just vanished.
func (m Tokens) grant(s TokenState, k, i int, arrives func(TokenState, string, uint8)) {
	what := "granted"
	if s.node[i].lock != 0 {
		what = "granted, after the lock vanished"
	}
	m.vanish(&s.node[i], s.high)
	n := s.node[i]
	// Counted on within a run; else above what the clock has passed, and a clock may
	// have passed all that there ever was.
	lowest, highest := n.count+1, n.count+1
	switch {
	case n.count != 0 && (n.present == 1 || m.Off.Run):
	case m.Off.Outlives: // a counter like that begins anew
	case m.Cross.Clocks:
	default:
		lowest, highest = max(lowest, n.clock+1), max(lowest, s.high+1)
	}
	for count := lowest; count <= highest && int(count) <= m.Counts; count++ {
		next := s
		next.high = max(s.high, count)
		to := &next.node[i]
		to.count, to.present, to.lock, to.clock, to.stamp = count, 1, m.value(k), 0, 0
		if a := s.attempt[k]; a.phase == asking {
			to.stamp = a.stamp
			if n.answer[k] != 0 { // its first reply may be the one that comes
				arrives(next, what+", first reply kept", count)
			}
			to.answer[k], to.sent[k] = count, a.stamp
		}
		arrives(next, what, count)
	}
}

// commit is commit.lua, of the present proposal and of earlier ones.
func (m Tokens) commit(s TokenState, k, i int, arrives func(TokenState, string, uint8)) {
	n, a := s.node[i], s.attempt[k]
	if n.present == 0 && !m.Off.CommitRun || n.count == 0 {
		return
	}
	for token := uint8(1); token <= a.token; token++ {
		if a.proposed&(1<<token) == 0 {
			continue
		}
		next := s
		next.node[i].count = max(n.count, token)
		if a.phase == agreeing && token == a.token {
			if n.answer[k] != 0 { // its first reply may be the one that comes
				arrives(next, "committed again", next.node[i].count)
			}
			next.node[i].answer[k] = next.node[i].count
		}
		arrives(next, "committed", next.node[i].count)
	}
}

// extend is extend.lua: here it only reports which nodes miss the lock, in which round
// ever.
func (m Tokens) extend(s TokenState, k, i int, arrives func(TokenState, string, uint8)) {
	m.vanish(&s.node[i], s.high)
	s.node[i].answer[k] = missingHere
	arrives(s, "extend: missing", s.node[i].count)
}

// repair is repair.lua, sent to a node that missed the lock. (That a quorum has
// confirmed the extend decides when it is sent; tokens do not depend on it.)
func (m Tokens) repair(s TokenState, k, i int, token uint8, arrives func(TokenState, string, uint8)) {
	if s.node[i].answer[k] != missingHere {
		return
	}
	m.vanish(&s.node[i], s.high)
	n := &s.node[i]
	n.lock = m.value(k)
	if n.count < token || m.Off.RepairLowers {
		n.count = token
	}
	if m.Off.RepairRun {
		n.present = 1
	}
	arrives(s, "repaired", n.count)
}
