package model

// nextOfNode: what happens to a node.
func (m Standing) nextOfNode(s StandingState, i int, step func(StandingState, Step)) {
	n := s.node[i]
	happens := func(n standingNode, what string, restarts uint8) {
		next := s
		next.node[i] = n
		next.restarts += restarts
		if int(next.restarts) == m.Restarts { // nobody will read it
			for j := range m.Nodes {
				o := &next.node[j]
				o.savedLock, o.savedLeft, o.savedCount, o.savedGrant = 0, 0, 0, 0
			}
		}
		step(next, Step{what, -1, int8(i), -1})
	}
	if int(n.fast) < m.Fast && n.left > 0 {
		next := n
		next.fast++
		next.pass(m.Guard)
		happens(next, "the clock gains a tick", 0)
	}
	if m.Whole && !s.crossed && n.lock != 0 && m.stands(s, int(n.lock-1)) {
		next := s
		next.crossed = true
		flushed := &next.node[i]
		flushed.lock, flushed.left, flushed.grant = 0, 0, 0
		for k := range flushed.of {
			flushed.of[k].queued = 0
		}
		step(next, Step{"FLUSHALL", -1, int8(i), -1})
	}
	if int(s.restarts) == m.Restarts {
		return
	}
	saved := n.savedLock == n.lock && n.savedLeft == n.left && n.savedCount == n.count
	if !saved {
		next := n
		next.savedLock, next.savedLeft, next.savedCount, next.savedGrant = n.lock, n.left, n.count, n.grant
		happens(next, "the data is saved", 0)
	}
	if n.lock == 0 && n.savedLock == 0 && m.Counts == 0 {
		return // nothing to forget
	}
	// Stale queues need no step of their own: a late request brings back whatever was in one.
	restart := s.again(n)
	happens(restart, "restart with all data", 1)
	if !saved {
		stale := restart
		stale.lock, stale.left, stale.count, stale.grant = n.savedLock, n.savedLeft, n.savedCount, n.savedGrant
		happens(stale, "restart with stale data", 1)
	}
	if n.savedLock != 0 || n.savedCount != 0 {
		empty := restart
		empty.lock, empty.left, empty.count, empty.grant = 0, 0, 0, 0
		empty.savedLock, empty.savedLeft, empty.savedCount, empty.savedGrant = 0, 0, 0, 0
		for k := range empty.of {
			empty.of[k].queued = 0
		}
		happens(empty, "restart without data", 1)
	}
}

// again is the node in its next run, with all its data.
func (s StandingState) again(n standingNode) standingNode {
	n.up, n.present, n.clock = 0, 0, s.high
	for k, a := range s.attempt {
		// A repair asks for the run that missed the lock: these will do nothing.
		r := &n.of[k]
		r.extend[0] &^= repairDue
		for e := range r.extend {
			if a.phase == holding && r.extend[e] == missingHere {
				r.extend[e] = missingBefore
			}
		}
	}
	return n
}

// stands says whether the last request of lease k has been applied by all nodes.
func (m Standing) stands(s StandingState, k int) bool {
	a := s.attempt[k]
	for _, n := range s.node[:m.Nodes] {
		if int(n.lock) != k+1 || int(n.left+n.fast) < int(a.valid)+m.Drift || !m.mayVote(n) {
			return false
		}
	}
	return a.phase == holding && a.round[0] != underWay && a.round[1] != underWay
}

// nextMessage: what attempt k has sent to node i arrives, or what node i has sent to it.
func (m Standing) nextMessage(s StandingState, k, i int, step func(StandingState, Step)) {
	n, me := s.node[i], uint8(k+1)
	a := s.attempt[k]
	arrives := func(next StandingState, what string, count int) {
		if next != s {
			step(next, Step{what, int8(k), int8(i), int16(count)})
		}
	}
	at := func(n standingNode, what string) {
		next := s
		next.node[i] = n
		arrives(next, what, -1)
	}
	m.stand(s, k, i, arrives)
	if a.phase == over || a.again || a.broken {
		anybody := n.lock != 0 && (m.Off.InsteadMine && a.phase == over || m.Off.BreakValue && a.broken)
		if n.lock == me || anybody {
			free := n
			free.lock, free.left, free.grant = 0, 0, 0
			at(free, "released, handed back or left")
		}
	}
	if a.phase == committing {
		m.commit(s, k, i, at)
	}
	m.extend(s, k, i, at)
}

// stand: a request of attempt k arrives, is granted by a process that looks at the free lock, or
// the report of a grant arrives.
func (m Standing) stand(s StandingState, k, i int, arrives func(StandingState, string, int)) {
	n, me := s.node[i], uint8(k+1)
	r := n.of[k]
	a := s.attempt[k]
	live := a.phase == trying || a.phase == committing
	receives := func(age, count uint8, what string) {
		if a.phase != trying && !(m.Off.Frozen && live) {
			return
		}
		next := s
		to := &next.node[i].of[k]
		to.age, to.count = age, count
		if m.Off.FromStamp {
			to.age = 1
		}
		arrives(next, what, int(count))
	}
	grantable := n.lock == 0 || m.Off.OnlyFree && n.lock != me && !m.asks(k)
	grantable = grantable && (m.mayVote(n) || m.Off.PassOnVote && !m.asks(k))
	stands := m.Stamps && live && !m.asks(k)
	switch {
	case !grantable:
	case m.asks(k):
		m.grant(s, k, i, a.age+1, arrives)
	case !stands:
		m.grant(s, k, i, 1, arrives)
	case r.queued != 0:
		m.grant(s, k, i, r.queued, arrives)
	}
	if !stands {
		return // a report that is received late gives no more than one that comes at once, or never
	}
	m.standStamped(s, k, i, receives, arrives)
	switch {
	case r.push == 0:
	case m.Off.PushStamp && r.answered != 0:
		receives(r.answered, r.pushCount, "a push arrives")
	case m.Off.PushStamp:
		receives(a.age+1, r.pushCount, "a push arrives")
	default:
		receives(r.push, r.pushCount, "a push arrives")
	}
}

// standStamped: a request that was sent so many ticks ago arrives, and is answered.
func (m Standing) standStamped(s StandingState, k, i int, receives func(age, count uint8, what string), arrives func(StandingState, string, int)) {
	n := s.node[i]
	for age := uint8(1); age <= s.attempt[k].age+1; age++ {
		if int(n.lock) == k+1 {
			stamp := n.grant
			if m.Off.AnswerStamp {
				stamp = age
			}
			if stamp != 0 {
				receives(stamp, n.count, "is answered: granted")
			}
			continue
		}
		next := s
		r := &next.node[i].of[k]
		if r.queued == 0 || r.queued > age {
			r.queued = age
		}
		arrives(next, "stands, sent so many ticks ago", int(age-1))
		if m.Off.PushStamp && s.attempt[k].phase == trying {
			if r.answered == 0 || r.answered > age {
				r.answered = age
			}
			r.age, r.count = 0, 0
			arrives(next, "is answered: standing, sent so many ticks ago", int(age-1))
		}
	}
}

// grant gives node i to attempt k, in acquire.lua or by pass_on.
func (m Standing) grant(s StandingState, k, i int, stamp uint8, arrives func(StandingState, string, int)) {
	n, a := s.node[i], s.attempt[k]
	live := a.phase == trying || a.phase == committing
	lowest, highest := n.count+1, n.count+1
	switch {
	case m.Counts == 0:
		lowest, highest = 1, 1
	case n.present == 0: // above what the clock has passed, as in Tokens.grant
		lowest, highest = max(lowest, n.clock+1), max(lowest, s.high+1)
	}
	for count := lowest; count <= highest && (m.Counts == 0 || int(count) <= m.Counts); count++ {
		next := s
		to := &next.node[i]
		to.lock, to.left, to.grant = uint8(k+1), uint8(m.grantLasts(k)), 0
		if m.Counts > 0 {
			to.count, to.present, to.clock = count, 1, 0
			next.high = max(s.high, count)
		}
		if !live {
			arrives(next, "granted, and not wanted", int(count))
			continue
		}
		r := &to.of[k]
		r.queued = 0
		if m.Stamps && !m.asks(k) {
			to.grant, r.push, r.pushCount = stamp, stamp, count
			arrives(next, "granted, a push is under way", int(count))
			continue
		}
		if m.Counts > 0 {
			arrives(next, "granted, and that is not received", int(count))
		}
		if a.phase == trying || m.Off.Frozen {
			r.age, r.count = stamp, count
			arrives(next, "granted", int(count))
		}
	}
}

// commit is commit.lua, and confirm: commit and extend in one script.
func (m Standing) commit(s StandingState, k, i int, at func(standingNode, string)) {
	n, a := s.node[i], s.attempt[k]
	if int(n.lock) != k+1 || m.Counts > 0 && n.present == 0 || n.of[k].commit != 0 {
		return
	}
	if m.Counts > 0 {
		n.count = max(n.count, a.token)
	}
	r := &n.of[k]
	r.commit = max(n.count, a.token)
	if a.round[0] == underWay {
		n.left = max(n.left, uint8(m.TTL))
		if m.mayVote(n) {
			r.extend[0] |= confirmedHere
		}
	}
	at(n, "committed")
}

// extend is extend.lua and repair.lua.
func (m Standing) extend(s StandingState, k, i int, at func(standingNode, string)) {
	n, me := s.node[i], uint8(k+1)
	a := s.attempt[k]
	sent := a.round[0] != noRound || a.round[1] != noRound
	if n.lock == me && sent {
		late := n
		late.left = max(n.left, uint8(m.TTL))
		at(late, "prolonged")
	}
	if n.lock == 0 && m.Extends && (a.round[0] == roundPast || a.round[1] == roundPast) {
		late := n
		late.of[k].extend[0] |= due(0)
		at(late, "extend: missing, after the others have confirmed")
	}
	if n.of[k].extend[0]&due(0) != 0 && n.lock == 0 {
		next := n
		next.lock, next.left, next.grant = me, uint8(m.TTL), 0
		if m.Counts > 0 {
			next.count = max(n.count, a.token)
		}
		at(next, "repaired")
	}
	alone := m.Off.ConfirmCommit && a.phase == trying
	for e := range a.round {
		if a.round[e] != underWay || n.of[k].extend[e]&^repairDue != 0 || a.phase != holding && !alone {
			continue
		}
		next := n
		switch {
		case n.lock == me && m.mayVote(n):
			next.left = max(n.left, uint8(m.TTL))
			next.of[k].extend[e] |= confirmedHere
			at(next, "extended")
		case n.lock == 0 && a.phase == holding:
			next.of[k].extend[e] |= missingHere
			at(next, "extend: missing")
		}
	}
}
