package model

import (
	"fmt"
	"strings"
)

// Canon implements [System]: nodes are alike, so any order of them will do.
func (m Tokens) Canon(s TokenState) TokenState {
	for i := 1; i < m.Nodes; i++ {
		for j := i; j > 0 && s.node[j].less(&s.node[j-1]); j-- {
			s.node[j], s.node[j-1] = s.node[j-1], s.node[j]
		}
	}
	return s
}

func (n *tokenNode) less(o *tokenNode) bool {
	a, b := n.number(), o.number()
	if a != b {
		return a < b
	}
	for k := range n.answer {
		if n.answer[k] != o.answer[k] {
			return n.answer[k] < o.answer[k]
		}
		if n.sent[k] != o.sent[k] {
			return n.sent[k] < o.sent[k]
		}
	}
	return false
}

func (n *tokenNode) number() uint64 {
	return uint64(n.stamp)<<56 | uint64(n.savedStamp)<<48 | uint64(n.lock)<<40 | uint64(n.count)<<32 | uint64(n.present)<<24 | uint64(n.clock)<<16 | uint64(n.savedLock)<<8 | uint64(n.savedCount)
}

// String shows each node as holder:count, with a ! if the count is not of its present run.
func (s TokenState) String() string {
	var b strings.Builder
	for i, n := range s.node[:s.nodes] {
		if i > 0 {
			b.WriteString("  ")
		}
		holder := byte('-')
		if n.lock > 0 {
			holder = 'A' + n.lock - 1
		}
		fmt.Fprintf(&b, "%c:%d", holder, n.count)
		if n.count > 0 && n.present == 0 {
			b.WriteByte('!')
		}
	}
	return b.String()
}
