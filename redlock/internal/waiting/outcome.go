package waiting

import (
	"slices"
	"time"
)

// Unavailable reports whether no quorum can be had for now: at once as long as no quorum has
// ever answered this wait, and later only if it has been so for the grace.
func (m *Machine) Unavailable(now time.Duration) bool {
	return m.phase == waits && m.absent(now) >= m.outOfReach() && (!m.stood || now-m.reached >= m.grace())
}

// grace is how long an outage is bridged: until a refresh would have been answered.
func (m *Machine) grace() time.Duration { return m.cfg.NodeTimeout + m.cfg.Refresh*5/4 }

// Held is who holds the lock, with Left until when at the latest a quorum could be free;
// false unless others hold so many nodes, by their answers, that no quorum is left.
func (m *Machine) Held(now time.Duration) (Holder, bool) {
	if m.phase != waits || m.heldBy(now) < m.outOfReach() {
		return Holder{}, false // most often, since most locks are free
	}
	votes := map[string]int{}
	var best Holder
	var free []time.Duration
	for i := range m.nodes {
		n := &m.nodes[i]
		switch {
		case n.known && n.heldByAnother() && now < n.until:
			if votes[n.holder.Value]++; votes[n.holder.Value] > votes[best.Value] {
				best = n.holder
			}
			if n.until != never {
				free = append(free, n.until-now)
			}
		case n.granted, n.known && !n.noVote:
			free = append(free, 0)
		}
	}
	best.Left = -1
	if slices.Sort(free); len(free) >= m.cfg.Quorum {
		best.Left = free[m.cfg.Quorum-1]
	}
	return best, true
}

// heldBy counts the nodes that others hold, as far as is known.
func (m *Machine) heldBy(now time.Duration) int {
	held := 0
	for i := range m.nodes {
		if n := &m.nodes[i]; n.known && n.heldByAnother() && now < n.until {
			held++
		}
	}
	return held
}

// Lease is what the wait has come to, if it has.
func (m *Machine) Lease() (Lease, bool) { return m.lease, m.phase == leased }

// Node is what is known of one node.
type Node struct {
	Open      bool   // a request of the present attempt to stand, or to confirm, is open there
	Asked     bool   // a request of it to stand was sent, besides the one that is open
	Confirmed bool   // it has agreed on the token, and keeps the lock for the whole ttl
	Granted   bool   // to the present attempt
	Count     uint64 // under this count
	Failed    bool   // it has not answered the last one
}

// Node reports what is known of node i, for the lease to go on from.
func (m *Machine) Node(i int) Node {
	n := &m.nodes[i]
	open := n.busy && n.open.Kind != Leave && n.open.Attempt == m.attempt
	return Node{
		Open: open, Asked: n.asked && (n.before || !open || n.open.Kind != Stand),
		Confirmed: n.confirm == yes, Granted: n.granted, Count: n.grant.Count, Failed: n.failed,
	}
}

// QuorumTime is the round trip to the slowest node of the fastest quorum, as last seen; 0 if
// it is not known.
func (m *Machine) QuorumTime() time.Duration { return m.quorumTime() }

// Done reports whether nothing is open and nothing is left to free.
func (m *Machine) Done() bool {
	for i := range m.nodes {
		if n := &m.nodes[i]; n.busy || len(n.owed) > 0 {
			return false
		}
	}
	return m.phase != waits
}

// Deadline is when Tick is due next; false if nothing is.
func (m *Machine) Deadline() (time.Duration, bool) {
	at := never
	due := func(d time.Duration) {
		if d != 0 {
			at = min(at, d)
		}
	}
	for i := range m.nodes {
		if n := &m.nodes[i]; !n.busy && len(n.owed) > 0 {
			due(n.retryAt)
		}
	}
	if m.phase == waits {
		due(m.refreshAt)
		due(m.lookAt)
		due(m.askAt)
		due(m.lateAt)
		due(m.agreeAt)
		if m.token != 0 {
			due(m.confirmAt)
		}
		if late := m.reached + m.grace(); m.stood && late > m.now {
			due(late)
		}
		for i := range m.nodes {
			n := &m.nodes[i]
			due(n.expireAt)
			due(n.pollAt)
			if late := n.sent + m.cfg.NodeTimeout; n.busy && !m.stood && late > m.now {
				due(late)
			}
		}
	}
	return at, at != never
}
