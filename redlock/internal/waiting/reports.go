package waiting

import "time"

// Pushed takes in a report of a grant by push, which can come early, late, twice, or never.
// It says whether that is a vote for a lease to which this wait came before.
func (m *Machine) Pushed(now time.Duration, i int, g Grant) (leases bool) {
	leases = m.phase == leased && !m.released && m.attemptOf(g.Stamp) == m.lease.Attempt
	m.report(now, now, i, g)
	m.conclude(now)
	return leases
}

// report takes in a grant. If it is the first of an attempt, the answers of other nodes count
// from since on.
func (m *Machine) report(now, since time.Duration, i int, g Grant) {
	n := &m.nodes[i]
	attempt := m.attemptOf(g.Stamp)
	switch {
	case attempt == 0:
		return // so old that it has ended
	case attempt < m.attempt, m.phase == over, m.released:
		m.unwanted(now, n, attempt)
		return
	case m.phase != waits:
		return // the lease has it
	case g.Stamp < n.standing:
		return // rule 1: it was over when the node answered that request
	case n.granted && g.Count <= n.grant.Count:
		return // known
	}
	if m.grants() == 0 {
		m.since = since
	}
	n.granted, n.grant = true, g
}

// Answered takes in the answer to the node's open request.
func (m *Machine) Answered(now time.Duration, i int, a Answer) {
	n := &m.nodes[i]
	if !n.busy {
		return
	}
	n.busy = false
	o := n.open
	switch {
	case o.Kind == Leave:
		m.paid(now, n, o.Attempt, a.Result, m.cfg.NodeTimeout/4)
	case o.Instead != 0:
		m.paid(now, n, o.Instead, a.Result, retry)
	}
	if n.failed = a.Result == Failed; !n.failed {
		n.rtt = max(now-n.sent, time.Microsecond)
	}
	if a.Unsent && o.Kind == Stand && o.Attempt == m.attempt {
		n.asked = n.before
	}
	if m.phase == waits {
		switch {
		case o.Kind == Confirm && o.Attempt == m.attempt && o.Token == m.token:
			m.counted(now, n, a)
		case o.Kind == Stand && o.Attempt == m.attempt:
			m.stands(now, i, o, a)
		}
	}
	m.conclude(now)
}

// stands takes in the answer to a request to stand, of the present attempt.
func (m *Machine) stands(now time.Duration, i int, o Action, a Answer) {
	n := &m.nodes[i]
	switch {
	case a.Result == Granted:
		m.report(now, n.sent, i, a.Grant)
		return
	case a.Result == Failed:
		n.seen = n.sent
		return
	case a.Result != Standing:
		return
	case n.granted && n.grant.Stamp >= o.Stamp:
		return // rule 1: the push of this very request was faster
	}
	n.granted, n.standing = false, o.Stamp
	n.known, n.noVote, n.rank, n.holder, n.seen = true, a.NoVote, a.Rank, a.Holder, n.sent
	n.until, n.expireAt, n.pollAt = never, 0, 0
	if n.rank == 0 && !n.pushes {
		n.pollAt = now + min(poll, m.cfg.Refresh) // nobody else can be granted a free lock meanwhile
	}
	if n.holder.Value != "" && n.holder.Left >= 0 {
		n.until = now + n.holder.Left
		n.expireAt = n.until + afterTTL + time.Duration(n.rank)*rankDelay
	}
	if k := n.holder.Attempt; k != 0 && k != m.attempt {
		m.unwanted(now, n, k)
	}
	if m.leaseSeen() {
		m.handed, m.looked = 0, 0
	}
	// It is free: not to be taken by this request, or left to waiters ahead, which may have died.
	if (!o.Take || n.holder.Value == "") && m.grants() == 0 && m.blocked(now) < m.outOfReach() {
		m.look(now)
	}
}

// conclude decides what follows from the event that was taken in, and what to send for it.
func (m *Machine) conclude(now time.Duration) {
	m.now = now
	if m.phase == waits && m.token == 0 {
		m.decide(now)
	}
	m.reach(now)
	m.pump(now)
}
