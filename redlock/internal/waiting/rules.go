package waiting

import (
	"math"
	"slices"
	"time"
)

// standAll has all nodes asked that have not granted.
func (m *Machine) standAll(take bool) {
	for i := range m.nodes {
		if n := &m.nodes[i]; !n.granted {
			n.due, n.take = true, take
		}
	}
}

// refresh is rule 8, and asks a node about an old grant, too: its time may be over.
func (m *Machine) refresh(now time.Duration) {
	take := m.blocked(now) < m.outOfReach()
	m.standAll(take)
	for i := range m.nodes {
		if n := &m.nodes[i]; n.granted && now-n.grant.Stamp >= m.cfg.Refresh {
			n.due, n.take = true, take
		}
	}
}

func (m *Machine) scheduleRefresh(now time.Duration) {
	x := 0.5
	if m.cfg.Spread != nil {
		x = m.cfg.Spread()
	}
	m.refreshAt = now + time.Duration(float64(m.cfg.Refresh)*(0.9+0.2*x))
}

// outOfReach is how many nodes that do not grant leave no quorum.
func (m *Machine) outOfReach() int { return m.cfg.Nodes - m.cfg.Quorum + 1 }

// blocked counts the nodes that, as far as is known, grant nothing now. A holder whose time
// is over is none: if it has renewed meanwhile, asking does no harm.
func (m *Machine) blocked(now time.Duration) int {
	b := 0
	for i := range m.nodes {
		n := &m.nodes[i]
		if !n.granted && (n.failed || n.known && (n.noVote || n.heldByAnother() && now < n.until)) {
			b++
		}
	}
	return b
}

func (n *node) heldByAnother() bool { return n.holder.Value != "" && n.holder.Attempt == 0 }

// unwanted is rule 7: a grant that nobody wants any more is released at once.
func (m *Machine) unwanted(now time.Duration, n *node, attempt int) {
	m.owe(n, attempt, "")
	if !n.due {
		n.take = m.blocked(now) < m.outOfReach() // what is handed back goes to the head of the queue
	}
}

// owe notes that the value of an attempt is to be freed at a node.
func (m *Machine) owe(n *node, attempt int, to string) {
	for _, o := range n.owed {
		if o.attempt == attempt {
			return
		}
	}
	if n.owed = append(n.owed, owed{attempt: attempt, to: to}); len(n.owed) == 1 {
		n.retryAt = 0
	}
	if len(n.owed) > maxOwed {
		n.owed = slices.Delete(n.owed, 0, 1)
	}
}

// paid notes the answer to a request that was to free an attempt's value.
func (m *Machine) paid(now time.Duration, n *node, attempt int, r Result, pause time.Duration) {
	if len(n.owed) == 0 || n.owed[0].attempt != attempt {
		return
	}
	o := &n.owed[0]
	if o.tries++; r == Failed && o.tries < maxTries && !m.hasty {
		n.retryAt = now + pause<<(2*(o.tries-1)) // it may not have arrived
		return
	}
	n.owed, n.retryAt = slices.Delete(n.owed, 0, 1), 0
}

// leaseSeen reports whether one holder has a quorum.
func (m *Machine) leaseSeen() bool {
	for i := range m.nodes {
		same := 0
		for j := range m.nodes {
			if m.nodes[j].known && m.nodes[j].heldByAnother() && m.nodes[j].holder.Value == m.nodes[i].holder.Value {
				same++
			}
		}
		if same >= m.cfg.Quorum {
			return true
		}
	}
	return false
}

// look plans to take what is free, after a pause that doubles: rule 6. If waiters took again
// at once what they hand back, a free node's vote could go round among them for ever.
func (m *Machine) look(now time.Duration) {
	if m.lookAt == 0 {
		m.lookAt = now + min(m.askAfter()<<min(max(m.handed, m.looked), 10), m.cfg.Refresh)
	}
}

// quorumTime is the round trip to the slowest node of the fastest quorum, as last seen.
func (m *Machine) quorumTime() time.Duration {
	all := make([]time.Duration, 0, few)
	for i := range m.nodes {
		if m.nodes[i].rtt > 0 {
			all = append(all, m.nodes[i].rtt)
		}
	}
	if slices.Sort(all); len(all) < m.cfg.Quorum {
		return 0
	}
	return all[m.cfg.Quorum-1]
}

func (m *Machine) askAfter() time.Duration {
	return min(max(2*m.quorumTime(), minAsk), m.cfg.Refresh)
}

func (m *Machine) lateAfter() time.Duration {
	return min(max(8*m.quorumTime(), minLate), m.cfg.Refresh)
}

func (m *Machine) grants() int {
	g := 0
	for i := range m.nodes {
		if m.nodes[i].granted {
			g++
		}
	}
	return g
}

func (m *Machine) decide(now time.Duration) {
	g := m.grants()
	if g < m.cfg.Quorum {
		m.agreeAt = 0
	}
	switch {
	case g >= m.cfg.Quorum:
		m.hold(now)
	case g > 0:
		m.split(now)
	default:
		m.since, m.askAt, m.lateAt, m.asked, m.late = 0, 0, 0, 0, false
	}
}

// hold is rule 2: a quorum has granted.
func (m *Machine) hold(now time.Duration) {
	highest := uint64(0)
	for i := range m.nodes {
		n := &m.nodes[i]
		if !n.granted {
			continue
		}
		highest = max(highest, n.grant.Count)
		// A quorum endorses this count, so it is the token, and the lease counts from the
		// quorum's latest requests: from those of nodes with this very count. A node with
		// another one endorses nothing of this lease, however fresh its grant is.
		sent := make([]time.Duration, 0, few)
		for j := range m.nodes {
			if m.nodes[j].granted && m.nodes[j].grant.Count == n.grant.Count {
				sent = append(sent, m.nodes[j].grant.Stamp)
			}
		}
		if len(sent) < m.cfg.Quorum {
			continue
		}
		slices.Sort(sent)
		start := sent[len(sent)-m.cfg.Quorum] - m.ahead
		// The nodes keep it for the claim, counted from when the request arrived or later.
		expiry := start + m.cfg.Claim - m.cfg.ClaimDrift
		if expiry-now >= m.cfg.Claim/4 {
			m.issue(Lease{Token: n.grant.Count, Attempt: m.attempt, Start: start, Expiry: expiry, Full: m.cfg.Claim == m.cfg.TTL})
			return
		}
		m.confirm(now, n.grant.Count) // rule 4
		return
	}
	// Counts differ. An answer that is on its way most often agrees with one of them, and
	// saves the second round: for as long as that takes it is waited for.
	if m.agreeAt == 0 && m.asking() {
		m.agreeAt = now + m.quorumTime()
	}
	if now >= m.agreeAt || !m.asking() {
		m.confirm(now, highest)
	}
}

// asking reports whether the answer to a request to stand is open, of the present attempt.
func (m *Machine) asking() bool {
	for i := range m.nodes {
		if n := &m.nodes[i]; n.busy && n.open.Kind == Stand && n.open.Attempt == m.attempt {
			return true
		}
	}
	return false
}

func (m *Machine) issue(l Lease) {
	m.phase, m.lease = leased, l
	m.token, m.askAt, m.lateAt, m.lookAt, m.agreeAt = 0, 0, 0, 0, 0
}

// confirm begins a round of phase 2, which also extends to the full ttl. The lease counts
// from here, so that grants and their stamps decide nothing any more (rules 3 and 4).
func (m *Machine) confirm(now time.Duration, token uint64) {
	if m.rounds++; m.rounds > m.cfg.Nodes+1 {
		m.handBack(now, "")
		return
	}
	m.token, m.confirmed = token, now
	m.confirmAt = now + max(min(m.cfg.NodeTimeout, m.cfg.Claim)/4, m.lateAfter())
	m.askAt, m.lateAt, m.lookAt, m.agreeAt = 0, 0, 0, 0
	for i := range m.nodes {
		m.nodes[i].confirm = unasked // answers of an earlier round count no more
	}
}

// counted takes in an answer to the present round.
func (m *Machine) counted(now time.Duration, n *node, a Answer) {
	switch {
	case a.Result == Confirmed && a.Count > m.token:
		m.confirm(now, a.Count)
		return
	case a.Result == Confirmed && a.Count == m.token:
		n.confirm = yes // it endorses the token, and keeps the lock for the ttl from now on
	default:
		n.confirm = no
	}
	agreed, against := 0, 0
	for i := range m.nodes {
		switch m.nodes[i].confirm {
		case yes:
			agreed++
		case no:
			against++
		}
	}
	switch {
	case agreed >= m.cfg.Quorum:
		expiry := m.confirmed + m.cfg.TTL - m.cfg.TTLDrift
		if expiry-now < m.cfg.Claim/4 { // so slow that little is left
			m.handBack(now, "")
			return
		}
		m.issue(Lease{Token: m.token, Attempt: m.attempt, Start: m.confirmed, Expiry: expiry, Full: true})
	case against >= m.outOfReach():
		m.handBack(now, "")
	}
}

// split is what to do with fewer grants than a quorum: wait, ask, or hand back (rules 5, 6).
func (m *Machine) split(now time.Duration) {
	against := 0
	for i := range m.nodes {
		n := &m.nodes[i]
		// Answers from before the first grant name the last holder: at every hand-off they
		// would look as if others had been faster.
		fresh := n.seen >= m.since && (n.known || n.failed)
		switch {
		case n.granted:
		case fresh && (n.failed || n.noVote || n.heldByAnother()), m.late && n.busy:
			against++
		}
	}
	if against >= m.outOfReach() {
		if to, me := m.winner(); !me {
			m.handBack(now, to)
			return
		}
	}
	if m.askAt == 0 && m.lateAt == 0 {
		m.askAt = now + min(m.askAfter()<<min(m.asked, 10), m.cfg.Refresh)
	}
}

// winner is the contender that keeps its votes: the one with most votes; of several, the one
// that has waited longest, as the nodes recorded it with the grants; then by name. All see
// the same records, so that they agree. A holder that is no waiter does not hand back, so
// that at equal votes it comes before waiters.
func (m *Machine) winner() (waiter string, me bool) {
	type contender struct {
		name, waiter string
		votes        int
		position     int64
	}
	mine := contender{m.cfg.ID, m.cfg.ID, 0, math.MaxInt64}
	var all []contender
	for i := range m.nodes {
		n := &m.nodes[i]
		if n.granted {
			mine.votes++
			mine.position = min(mine.position, n.grant.Position)
		} else if n.known && n.heldByAnother() && n.seen >= m.since {
			c := contender{n.holder.Value, "", 1, math.MinInt64}
			if n.holder.Waiter != "" {
				c = contender{n.holder.Waiter, n.holder.Waiter, 1, n.holder.Position}
			}
			if k := slices.IndexFunc(all, func(o contender) bool { return o.name == c.name }); k >= 0 {
				all[k].votes++
				all[k].position = min(all[k].position, c.position)
			} else {
				all = append(all, c)
			}
		}
	}
	best := mine
	for _, c := range all {
		if c.votes > best.votes || c.votes == best.votes && (c.position < best.position || c.position == best.position && c.name < best.name) {
			best = c
		}
	}
	return best.waiter, best == mine
}

// handBack ends an attempt and begins the next one, which only stands until look's pause is
// over.
func (m *Machine) handBack(now time.Duration, to string) {
	m.handed++
	for i := range m.nodes {
		if n := &m.nodes[i]; n.asked {
			m.owe(n, m.attempt, to)
		}
	}
	m.begin(now)
	m.standAll(false)
	m.look(now)
}

// reach notes when a quorum can be reached, and whether one has ever answered.
func (m *Machine) reach(now time.Duration) {
	if m.absent(now) >= m.outOfReach() {
		return
	}
	m.reached = now
	answered := 0
	for i := range m.nodes {
		if m.nodes[i].rtt > 0 {
			answered++
		}
	}
	m.stood = m.stood || answered >= m.cfg.Quorum
}

// absent counts the nodes of which it is not known that they grant or are held: they fail,
// do not answer, or may have forgotten.
func (m *Machine) absent(now time.Duration) int {
	absent := 0
	for i := range m.nodes {
		n := &m.nodes[i]
		if !n.granted && (n.failed || n.busy && now-n.sent >= m.cfg.NodeTimeout || n.known && n.noVote && n.holder.Value == "") {
			absent++
		}
	}
	return absent
}
