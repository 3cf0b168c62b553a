package model

// nextOfNode: what happens to a node.
func (m Exclusion) nextOfNode(s ExclusionState, i int, step func(ExclusionState, Step)) {
	n := s.node[i]
	happens := func(n exclusionNode, what string, restarts uint8) {
		next := s
		next.node[i] = n
		next.restarts += restarts
		if int(next.restarts) == m.Restarts { // nobody will read it
			for j := range m.Nodes {
				next.node[j].savedLock, next.node[j].savedLeft = 0, 0
			}
		}
		step(next, Step{what, -1, int8(i), -1})
	}
	if int(n.fast) < m.Fast && n.left > 0 {
		next := n
		next.fast++
		next.pass(m.guard())
		happens(next, "the clock gains a tick", 0)
	}
	if !s.crossed {
		m.cross(s, i, step)
	}
	if n.sync != 0 {
		m.restartDurable(s, n, happens)
		return
	}
	if int(s.switches) < m.Switches {
		next := s
		next.switches++
		next.node[i].sync, next.node[i].savedLock, next.node[i].savedLeft = switchedOn, 0, 0
		step(next, Step{"durability is switched on", -1, int8(i), -1})
	}
	saved := n.savedLock == n.lock && n.savedLeft == n.left
	if !saved && (int(s.restarts) < m.Restarts || m.Cross.Older && !s.crossed) {
		next := n
		next.savedLock, next.savedLeft = n.lock, n.left
		happens(next, "the data is saved", 0)
	}
	if int(s.restarts) == m.Restarts || n.lock == 0 && n.savedLock == 0 {
		return // nothing to forget
	}
	restart := s.anew(n)
	happens(restart, "restart with all data", 1)
	if !saved {
		stale := restart
		stale.lock, stale.left = n.savedLock, n.savedLeft
		happens(stale, "restart with stale data", 1)
	}
	if n.savedLock != 0 {
		empty := restart
		empty.lock, empty.left, empty.savedLock, empty.savedLeft = 0, 0, 0, 0
		happens(empty, "restart without data", 1)
	}
}

// restartDurable lets a durable node restart, with all that it had. The run that
// follows was durable since its start, and can't show more than that: whether the one
// before it had forgotten something is for the operator to know.
func (m Exclusion) restartDurable(s ExclusionState, n exclusionNode, happens func(exclusionNode, string, uint8)) {
	within := n.sync == switchedOn && int(n.up) < m.guard()
	if int(s.restarts) == m.Restarts || within && !m.Cross.SwitchedOn {
		return
	}
	restart := s.anew(n)
	restart.sync = sinceStart
	happens(restart, "restart of a durable node", 1)
}

// anew is the node in its next run, with all its data.
func (s ExclusionState) anew(n exclusionNode) exclusionNode {
	n.up = 0
	for k, a := range s.attempt {
		// A repair asks for the run that missed the lock: these will do nothing.
		n.answer[k] &^= repairDue
		if a.phase == holding && n.answer[k] == missingHere {
			n.answer[k] = missingBefore
		}
	}
	return n
}

// cross lets node i do what is beyond the limits, once.
func (m Exclusion) cross(s ExclusionState, i int, step func(ExclusionState, Step)) {
	next := s
	next.crossed = true
	n := &next.node[i]
	happens := func(what string) { step(next, Step{what, -1, int8(i), -1}) }
	if m.Cross.Older && (n.savedLock != n.lock || n.savedLeft != n.left) {
		n.lock, n.left = n.savedLock, n.savedLeft
		for j := range m.Nodes {
			next.node[j].savedLock, next.node[j].savedLeft = 0, 0
		}
		happens("it goes back to older data, and votes")
	}
	if m.Cross.Uptime && int(n.up) < m.guard() {
		n.up = uint8(m.guard())
		happens("the clock, and with it the uptime, steps forward")
	}
	if n.lock == 0 {
		return
	}
	n.lock, n.left = 0, 0
	switch {
	case m.Cross.Flush, m.Cross.FlushWhole && m.stands(s, int(s.node[i].lock-1)):
		happens("FLUSHALL")
	case m.Cross.Jump:
		happens("the clock jumps forward")
	case m.Cross.Unguarded:
		for k := range next.node[i].answer {
			next.node[i].answer[k] &^= repairDue
		}
		happens("restart without data, and no uptime reported")
	}
}

// stands says whether the last request of lease k has been applied by all nodes.
func (m Exclusion) stands(s ExclusionState, k int) bool {
	a := s.attempt[k]
	for _, n := range s.node[:m.Nodes] {
		applied := int(n.left+n.fast) >= int(a.valid)+m.Drift
		if int(n.lock) != k+1 || !applied || !m.mayVote(n) {
			return false
		}
	}
	return a.phase == holding && a.round != underWay
}

// nextMessage: what attempt k has sent to node i arrives.
func (m Exclusion) nextMessage(s ExclusionState, k, i int, step func(ExclusionState, Step)) {
	n, me := s.node[i], uint8(k+1)
	a := s.attempt[k]
	arrives := func(n exclusionNode, what string) {
		if n != s.node[i] {
			next := s
			next.node[i] = n
			step(next, Step{what, int8(k), int8(i), -1})
		}
	}
	mayVote := m.mayVote(n)

	if n.lock == 0 && mayVote || n.lock == me { // acquire.lua
		grant := n
		if n.lock == 0 {
			grant.lock, grant.left = me, uint8(m.TTL)
		}
		if a.phase == trying {
			grant.answer[k] |= grantedHere
		}
		arrives(grant, "granted")
	}
	if m.frees(a) && (n.lock == me || m.Off.ReleaseMine && n.lock != 0) { // release.lua
		freed := n
		freed.lock, freed.left = 0, 0
		arrives(freed, "released")
	}
	m.extend(s, k, i, mayVote, arrives)
	m.keep(s, k, i, mayVote, arrives)
	for _, less := range m.lesses(k) {
		if n.answer[k]&due(less) != 0 && (n.lock == 0 || m.Off.RepairAbsent && n.lock != me) { // repair.lua
			next := n
			next.lock, next.left = me, m.ttl(less)
			arrives(next, "repaired")
		}
	}
}

// extend is extend.lua.
func (m Exclusion) extend(s ExclusionState, k, i int, mayVote bool, arrives func(exclusionNode, string)) {
	n, me := s.node[i], uint8(k+1)
	a := s.attempt[k]
	lengthen := func(n *exclusionNode, ttl uint8) {
		if n.left < ttl || m.Off.Lengthens {
			n.left = ttl
		}
	}
	for _, less := range m.lesses(k) {
		if n.lock == me && a.sent&(1<<min(less, 1)) != 0 {
			late := n // of this round or another: its sender may not learn of it
			lengthen(&late, m.ttl(less))
			arrives(late, "prolonged")
		}
	}
	if a.round == roundPast && n.lock == 0 {
		late := n // its answer comes when the outcome is certain: the repair follows at once
		late.answer[k] |= due(a.less)
		arrives(late, "extend: missing, after the others have confirmed")
	}
	answer := n.answer[k] &^ repairDue
	if a.round != underWay || a.phase == keeping || answer != 0 && !(m.Off.RepairCounts && answer == missingHere) {
		return
	}
	next := n
	switch {
	case n.lock == me:
		if mayVote || m.Off.GuardExtend {
			lengthen(&next, m.ttl(a.less))
			next.answer[k] |= confirmedHere
			arrives(next, "extended")
		}
	case n.lock != 0:
	case answer == missingHere: // a repair, without waiting for a quorum
		next.lock, next.left, next.answer[k] = me, m.ttl(a.less), n.answer[k]&repairDue|confirmedHere
		arrives(next, "repaired, and that counts")
	case m.Off.ExtendBlind:
		next.lock, next.left = me, m.ttl(a.less)
		next.answer[k] |= confirmedHere
		arrives(next, "made anew by an extend")
	default:
		next.answer[k] |= missingHere
		arrives(next, "extend: missing")
	}
}
