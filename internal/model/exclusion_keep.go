package model

// What lock.ReleaseAfter adds: a holder gives its lease up, and the nodes keep the key
// until a moment that it names. Each request asks for what is left until then, plus the
// drift, and sets that exactly: it may shorten what the node promised before.

// nextKeep: attempt k gives its lease up, or has heard that its hold stays.
func (m Exclusion) nextKeep(s ExclusionState, k int, does func(next ExclusionState, what string, ticks int)) {
	a := s.attempt[k]
	switch {
	case !m.Keeps:
	case a.phase == holding && a.valid > 0:
		for _, less := range []uint8{0, 1} {
			next := s.forget(k)
			next.attempt[k] = exclusionAttempt{phase: keeping, round: underWay, less: less, sent: a.sent, kept: true}
			does(next, "gives its lease up, to keep the key for so many ticks", int(m.ttl(less)))
		}
	case a.phase == keeping && a.round == underWay:
		does(s.end(k), "gives up", -1)
		valid := m.valid(a.less, a.roundAge)
		if valid <= 0 || !m.has(s, k, confirmedHere) && !(m.Off.KeepUnsure && s.any(k, confirmedHere)) {
			return
		}
		next := s
		for i := range m.Nodes {
			if next.node[i].answer[k]&^repairDue == missingHere {
				next.node[i].answer[k] |= due(a.less)
			}
		}
		next = next.forget(k)
		next.attempt[k].round, next.attempt[k].valid = roundPast, uint8(valid)
		does(next, "knows that the key stays, for so many ticks", valid)
	}
}

// any says whether some node gave that answer to attempt k.
func (s ExclusionState) any(k int, answer uint8) bool {
	for _, n := range s.node {
		if n.answer[k]&^repairDue == answer {
			return true
		}
	}
	return false
}

// keep is extend.lua with its last argument: asked at first, late, or again for what is
// left by then.
func (m Exclusion) keep(s ExclusionState, k, i int, mayVote bool, arrives func(exclusionNode, string)) {
	n, me := s.node[i], uint8(k+1)
	a := s.attempt[k]
	if !a.kept {
		return
	}
	open := a.phase == keeping && a.round == underWay && n.answer[k]&^repairDue == 0
	switch {
	case n.lock == me:
		lefts := []uint8{m.ttl(a.less)}
		if a.phase == keeping && a.roundAge > 0 && a.roundAge < m.ttl(a.less) {
			lefts = append(lefts, m.ttl(a.less)-a.roundAge)
		}
		if m.Off.KeepShort && m.ttl(a.less) > 1 {
			lefts = append(lefts, 1)
		}
		for _, left := range lefts {
			next := n
			next.left = left
			if open && mayVote {
				next.answer[k] |= confirmedHere
			}
			arrives(next, "kept, to so many ticks")
		}
	case n.lock == 0 && open:
		next := n
		next.answer[k] |= missingHere
		arrives(next, "to keep: missing")
	}
}
