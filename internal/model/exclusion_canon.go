package model

import (
	"fmt"
	"strings"
)

// Canon implements [System]: nodes are alike, so any order of them will do.
func (m Exclusion) Canon(s ExclusionState) ExclusionState {
	for i := 1; i < m.Nodes; i++ {
		for j := i; j > 0 && s.node[j].less(&s.node[j-1]); j-- {
			s.node[j], s.node[j-1] = s.node[j-1], s.node[j]
		}
	}
	return s
}

func (n *exclusionNode) less(o *exclusionNode) bool {
	a, b := n.number(), o.number()
	if a != b {
		return a < b
	}
	for k := range n.answer {
		if n.answer[k] != o.answer[k] {
			return n.answer[k] < o.answer[k]
		}
	}
	return false
}

func (n *exclusionNode) number() uint64 {
	return uint64(n.sync)<<48 | uint64(n.lock)<<40 | uint64(n.left)<<32 | uint64(n.up)<<24 | uint64(n.fast)<<16 | uint64(n.savedLock)<<8 | uint64(n.savedLeft)
}

// String shows each node as holder:ticks left, with a ! if it has restarted and does
// not vote, and who holds, for how long.
func (s ExclusionState) String() string {
	var b strings.Builder
	for i, n := range s.node[:s.shape[0]] {
		if i > 0 {
			b.WriteString("  ")
		}
		holder := byte('-')
		if n.lock > 0 {
			holder = 'A' + n.lock - 1
		}
		fmt.Fprintf(&b, "%c:%d", holder, n.left)
	}
	for k, a := range s.attempt[:s.shape[1]] {
		switch {
		case a.valid == 0:
		case a.phase == holding:
			fmt.Fprintf(&b, "  %c holds for %d", 'A'+k, a.valid)
		case a.phase == lost:
			fmt.Fprintf(&b, "  %c, lost, was to hold for %d", 'A'+k, a.valid)
		case a.phase == keeping:
			fmt.Fprintf(&b, "  %c keeps for %d", 'A'+k, a.valid)
		}
	}
	return b.String()
}
