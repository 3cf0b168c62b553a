package redlock

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
)

// terms are what all clients of a prefix must have alike: else a quorum of one of them
// and a quorum of another need not share a node, and both hold the same lock. Each
// node keeps them as JSON, in one key for each prefix, for as long as a lease under
// them can stand. Clients that do not know of terms are not noticed.
type terms struct {
	Nodes  []member `json:"nodes"`
	Quorum int      `json:"quorum"`
	Guard  int64    `json:"guard_ms"` // -1: off
}

// member is one node: by the name that a client has for it, and by what the server
// says of itself. Names differ between clients, and runs between restarts.
type member struct {
	Name string `json:"name"`
	Run  string `json:"run,omitempty"`    // "": not known, or the node is more than one server
	Port string `json:"port,omitempty"`   // as the server says
	Seen int64  `json:"seen_s,omitempty"` // seconds that had passed since it was in that run

	uptime  time.Duration // in that run, when it was last seen
	earlier []string      // runs of it that this client has seen
}

// ran reports whether o, which somebody else wrote, is this node by one of its runs.
func (m *member) ran(o member) bool {
	return o.Run != "" && (m.Run == o.Run || slices.Contains(m.earlier, o.Run))
}

// isNot reports whether o is certainly another server, and not this one before a restart.
// o has another name and another run, and was written so long ago. It is certain if the
// ports differ, or if this server was already in its present run when o was seen in the
// other one. In doubt it is the same: a refusal would stop work that may be right.
func (m *member) isNot(o member, ago time.Duration) bool {
	if m.Run == "" || o.Run == "" {
		return false
	}
	seen := time.Duration(o.Seen)*time.Second + ago
	return m.Port != "" && o.Port != "" && m.Port != o.Port || m.uptime-time.Second >= seen
}

const maxTerms = 64 << 10 // bytes: some hundred nodes

var errTerms = errors.New("unexpected text in the key in which clients agree on the nodes")

func parseTerms(text string) (terms, error) {
	var t terms
	if len(text) > maxTerms || json.Unmarshal([]byte(text), &t) != nil || len(t.Nodes) == 0 || t.Quorum < 1 {
		return terms{}, errTerms
	}
	return t, nil
}

func (t terms) text() string {
	b, _ := json.Marshal(t) // strings and numbers: it can't fail
	return string(b)
}

// pair matches the nodes of t, which are this client's, with those of others, written so
// long ago. It gives the other's index for each of them, or -1, and whether the two sets
// can be the same: not if some node of t is certainly none of theirs.
func (t terms) pair(others terms, ago time.Duration) (pairs []int, same bool) {
	taken := make([]bool, len(others.Nodes))
	pairs = slices.Repeat([]int{-1}, len(t.Nodes))
	match := func(is func(mine *member, o member) bool) {
		for i := range t.Nodes {
			for j, o := range others.Nodes {
				if pairs[i] < 0 && !taken[j] && is(&t.Nodes[i], o) {
					pairs[i], taken[j] = j, true
				}
			}
		}
	}
	match((*member).ran) // certain, where a name may have been another server's before
	match(func(mine *member, o member) bool { return mine.Name == o.Name })
	for i, j := range pairs {
		same := j >= 0
		for j, o := range others.Nodes {
			same = same || !taken[j] && !t.Nodes[i].isNot(o, ago)
		}
		if !same {
			return nil, false
		}
	}
	return pairs, len(t.Nodes) == len(others.Nodes)
}

// doubts reports whether others, which can be the same as t, have a node that is matched with
// none of t's by name, and whose run was not known when they were written: nothing shows
// whether it is one of t's.
func (t terms) doubts(others terms, ago time.Duration) bool {
	pairs, _ := t.pair(others, ago)
	for j, o := range others.Nodes {
		if o.Run == "" && !slices.Contains(pairs, j) {
			return true
		}
	}
	return false
}

// join gives what a node that has others, written so long ago, shall have from now on: their
// terms, with the servers as this client knows them. It fails if t differs from them.
func (t terms) join(others terms, ago time.Duration) (terms, bool) {
	pairs, same := t.pair(others, ago)
	if !same || t.Quorum != others.Quorum || t.Guard != others.Guard {
		return terms{}, false
	}
	joined := others
	joined.Nodes = slices.Clone(others.Nodes)
	for i, j := range pairs {
		if o := &joined.Nodes[max(j, 0)]; j >= 0 && t.Nodes[i].Run != "" && (o.Run != t.Nodes[i].Run || t.Nodes[i].Seen <= o.Seen) {
			o.Run, o.Port, o.Seen = t.Nodes[i].Run, t.Nodes[i].Port, t.Nodes[i].Seen
		}
	}
	return joined, true
}

func (t terms) String() string {
	names := make([]string, len(t.Nodes))
	for i, m := range t.Nodes {
		names[i] = strings.Map(func(r rune) rune { // somebody else may have written it
			if r < ' ' || r == 0x7f {
				return '?'
			}
			return r
		}, m.Name)
	}
	nodes := "nodes"
	if len(names) == 1 {
		nodes = "node"
	}
	return fmt.Sprintf("%d %s (%s), quorum %d, restart guard %s", len(names), nodes, strings.Join(names, ", "), t.Quorum, t.guard())
}

// summary is String without the names.
func (t terms) summary() string {
	return fmt.Sprintf("quorum %d of %d, guard %s", t.Quorum, len(t.Nodes), t.guard())
}

func (t terms) guard() string {
	if t.Guard == -1 {
		return "off"
	}
	return (time.Duration(t.Guard) * time.Millisecond).String()
}

// terms are this client's, with these nodes.
func (l *Locker) terms(members []member) terms {
	for i := range members {
		members[i].Name = strings.ToValidUTF8(members[i].Name, "?") // as JSON has it
	}
	t := terms{Nodes: members, Quorum: l.opts.Quorum, Guard: -1}
	if l.opts.RestartGuard != -1 {
		t.Guard = roundUp(l.opts.RestartGuard, time.Millisecond)
	}
	return t
}

// differ is the refusal of a client whose terms, mine, are not those that a node has. left is
// when the node forgets others if unused, below 0: never; and remembered for how long after
// their last use this client's clients keep theirs.
func (l *Locker) differ(n *node.Node, others, mine terms, remembered, left time.Duration) error {
	end := fmt.Sprintf("to change it, stop all of them, wait %v, and start them anew (unused, the others' is forgotten in %v)",
		max(remembered, left), left.Round(time.Millisecond))
	if left < 0 {
		end = l.endless(others, remembered)
	}
	return fmt.Errorf("%w: node %s: other clients of the keys %q have %v; this one has %v: both could hold one lock. Give all clients the same; %s",
		lock.ErrRefused, n.Name, l.opts.Prefix+"*", others, mine, end)
}

// endless is what to do about terms that have no expiry. To delete them is right only while
// none of their clients runs, and nobody can see that in the node. With an expiry they stand
// for as long as any lease that may have been granted under them, and those who still use
// them renew it: that is right at any moment.
func (l *Locker) endless(others terms, remembered time.Duration) string {
	lasting := fmt.Sprint(max(roundUp(remembered, time.Millisecond), others.Guard))
	if others.Guard == -1 || l.opts.RestartGuard == -1 { // then nothing bounds the ttls
		lasting = fmt.Sprintf("with the longest ttl of all clients in ms, and %d at least", leastRememberedUnguarded.Milliseconds())
	}
	key := AgreedPrefix + l.opts.Prefix
	return fmt.Sprintf("the node never forgets the others', used or not: the key %q there has no expiry, though clients always give it one. Do not delete it; give it one, by PEXPIRE %q %s: while clients use it, they renew that, and when none does, it is forgotten then",
		key, key, lasting)
}
