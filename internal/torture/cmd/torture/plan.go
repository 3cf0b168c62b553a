package main

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"time"
)

// A plan is a list of faults that follows from a seed alone: the same seed gives the
// same plan. What the processes make of it differs from run to run.

// planned is one fault to come.
type planned struct {
	kind   *kind
	at     time.Duration // from the beginning of the plan
	length time.Duration
	node   int // -1: all, or none
	client int // -1: all, or none
	amount int // chosen at random, of what the kind says
}

// target is what a kind of fault hits.
type target int

const (
	aNode     target = iota
	aClient          // a client process
	aPath            // the way between a client and a node
	clientNet        // all ways of a client
	nodeNet          // all ways to a node
	everyNode        // so many nodes that no quorum is left
)

// keeping is how a node keeps its data.
type keeping int

const (
	always   keeping = iota // appendonly, appendfsync always: it forgets nothing
	everysec                // appendonly, appendfsync everysec
	nothing
)

func keepingOf(node int) keeping { return keeping(node % 3) }

func (k keeping) String() string {
	return [...]string{"append-only file, synced always", "append-only file, synced every second", "no file"}[k]
}

func (k keeping) options() []string {
	switch k {
	case always:
		return []string{"--appendonly", "yes", "--appendfsync", "always"}
	case everysec:
		return []string{"--appendonly", "yes", "--appendfsync", "everysec"}
	}
	return nil
}

// planner makes plans.
type planner struct {
	kinds          []kind
	rng            *rand.Rand
	nodes, clients int
	quorum         int
	unsafe         bool           // also what no quorum survives
	only           *regexp.Regexp // kinds of faults; nil: all
	guard          time.Duration  // a node that restarts does not vote for so long; 0 if it does
	maxTTL         time.Duration

	faults []planned
	busy   map[[2]int]time.Duration // until when nobody else may touch this node (n, -1), client (-1, c) or path (n, c)
	lame   []planned                // faults of nodes, with length until the node votes again
	flush  []planned
}

// plan makes faults for length, which all end by then.
func (p *planner) plan(length, pace time.Duration) []planned {
	p.faults, p.lame, p.flush, p.busy = nil, nil, nil, map[[2]int]time.Duration{}
	total := 0
	for i := range p.kinds {
		total += p.kinds[i].weight
	}
	for t := time.Duration(0); t < length; t += time.Duration(p.rng.ExpFloat64() * float64(pace)) {
		for range 64 { // what can't be done now is drawn again
			n, k := p.rng.IntN(total), 0
			for n -= p.kinds[k].weight; n >= 0; n -= p.kinds[k].weight {
				k++
			}
			if f, ok := p.draw(&p.kinds[k], t); ok && f.at+f.length < length {
				p.take(f)
				break
			}
		}
	}
	return p.faults
}

func (p *planner) draw(k *kind, t time.Duration) (f planned, ok bool) {
	f = planned{kind: k, at: t, node: -1, client: -1, amount: p.rng.IntN(1 << 20)}
	if k.longest > 0 {
		// Most are short, some long.
		f.length = k.shortest + time.Duration(float64(k.longest-k.shortest)*p.rng.Float64()*p.rng.Float64())
	}
	switch k.target {
	case aNode, nodeNet:
		f.node = p.rng.IntN(p.nodes)
	case aClient, clientNet:
		f.client = p.rng.IntN(p.clients)
	case aPath:
		f.node, f.client = p.rng.IntN(p.nodes), p.rng.IntN(p.clients)
	}
	if p.only != nil && !p.only.MatchString(k.name) {
		return f, false
	}
	if k.unsafe && !p.unsafe && !(k.forgets && p.mayForget(f)) {
		return f, false
	}
	if f.node >= 0 && k.on != nil && !slices.Contains(k.on, keepingOf(f.node)) {
		return f, false
	}
	for _, lane := range p.lanes(f) {
		if p.busy[lane] > t {
			return f, false
		}
	}
	return f, p.bearable(f)
}

// mayForget reports whether one more node may lose its data under a running server:
// two quorums share 2Q - N nodes, and all but one of those may do so within one ttl.
func (p *planner) mayForget(f planned) bool {
	lost := map[int]bool{f.node: true}
	for _, o := range p.flush {
		if o.at > f.at-p.maxTTL-time.Second {
			lost[o.node] = true
		}
	}
	return len(lost) < 2*p.quorum-p.nodes
}

// lanes are what a fault changes, and nobody else may while it lasts.
func (p *planner) lanes(f planned) (lanes [][2]int) {
	switch f.kind.target {
	case aNode:
		return [][2]int{{f.node, -1}}
	case aClient:
		return [][2]int{{-1, f.client}}
	case aPath:
		return [][2]int{{f.node, f.client}}
	}
	if f.kind.target == everyNode {
		lanes = append(lanes, [2]int{-2, -2}) // the store as a whole, which may have no server
	}
	for n := range p.nodes {
		if f.kind.target == everyNode {
			lanes = append(lanes, [2]int{n, -1})
		}
		for c := range p.clients {
			if f.kind.target == clientNet && c == f.client || f.kind.target == nodeNet && n == f.node {
				lanes = append(lanes, [2]int{n, c})
			}
		}
	}
	return lanes
}

// bearable keeps a quorum of nodes, and half of the clients, out of what hits them one
// by one: a system that is always down shows nothing.
func (p *planner) bearable(f planned) bool {
	end := f.at + p.lasts(f)
	if p.nodes == 1 && hitsServer(f) && slices.ContainsFunc(p.lame, func(o planned) bool {
		return hitsServer(o) && o.at+2*p.lasts(o)+time.Second > f.at
	}) {
		return false // after a fault, the only server works for as long as that has lasted
	}
	nodes, clients := map[int]bool{}, map[int]bool{}
	for _, o := range append(p.lame, f) {
		if o.at > end || o.at+p.lasts(o) < f.at || !o.kind.disables() {
			continue
		}
		switch o.kind.target {
		case aNode, nodeNet:
			nodes[o.node] = true
		case aClient, clientNet:
			clients[o.client] = true
		}
	}
	spare := p.nodes - p.quorum
	if p.nodes == 1 {
		spare = 1 // it must fail for something to happen
	}
	return len(nodes) <= spare && len(clients) <= p.clients/2
}

// hitsServer reports whether a server can't work for anybody.
func hitsServer(f planned) bool { return f.node >= 0 && f.client == -1 && f.kind.disables() }

// lasts is how long a fault is felt: a node that restarts sits out its guard time.
func (p *planner) lasts(f planned) time.Duration {
	if f.kind.restarts && (f.kind.target == everyNode || keepingOf(f.node) != always) {
		return f.length + p.guard
	}
	return f.length
}

func (p *planner) take(f planned) {
	for _, lane := range p.lanes(f) {
		p.busy[lane] = f.at + f.length + 100*time.Millisecond
	}
	p.faults = append(p.faults, f)
	if f.kind.disables() {
		p.lame = append(p.lame, f)
	}
	if f.kind.forgets {
		p.flush = append(p.flush, f)
	}
}
