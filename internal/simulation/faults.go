package simulation

import (
	"context"
	"time"
)

// calm is the network between faults.
func (w *world) calm() { w.weak = networkFaults{latency: w.timeout / 100} }

// inject alternates quiet stretches and bursts of faults for d.
func (w *world) inject(ctx context.Context, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		quiet := time.Duration(w.rng.ExpFloat64() * 2 * float64(w.ttl))
		if !pause(ctx, min(quiet, 8*w.ttl)) {
			return
		}
		for range 1 + w.rng.IntN(6) {
			w.fault(ctx)
			if !pause(ctx, time.Duration(w.rng.Float64()*float64(w.ttl)*0.7)) {
				return
			}
		}
		w.mu.Lock()
		w.calm()
		for _, n := range w.nodes {
			if w.rng.IntN(3) == 0 {
				n.snapshot = n.data.clone()
			}
			w.drift(n)
		}
		w.mu.Unlock()
	}
}

// drift sets a new rate, often at the edge of what is allowed. mu is held.
func (w *world) drift(n *node) {
	switch w.rng.IntN(4) {
	case 0:
		n.setRate(1 + w.profile.Drift)
	case 1:
		n.setRate(1 - w.profile.Drift)
	default:
		n.setRate(1 + w.profile.Drift*(2*w.rng.Float64()-1))
	}
}

// fault does one thing at random.
func (w *world) fault(ctx context.Context) {
	w.mu.Lock()
	r := w.rng
	n := w.nodes[r.IntN(len(w.nodes))]
	c := w.clients[r.IntN(len(w.clients))]
	long := time.Duration(r.Float64() * 1.6 * float64(w.ttl))
	until := time.Now().Add(long)
	does := func(kind string, args ...any) {
		w.res.Faults[kind]++
		w.note("FAULT %s: %v", append([]any{kind}, args...)...)
	}
	switch k := r.IntN(16); k {
	case 0, 1:
		w.weak.loss = r.Float64() * r.Float64() * 0.7
		does("loss", w.weak.loss)
	case 2, 3:
		w.weak.slow = r.Float64()
		does("delay", w.weak.slow)
	case 4:
		w.weak.double = r.Float64() * 0.5
		does("doubled", w.weak.double)
	case 5, 6:
		// Partitions of one or several pairs, one way or both.
		does("partition", c.id, long)
		for _, k := range c.conns {
			if k.n == n || r.IntN(3) == 0 {
				way := r.IntN(3)
				if way != 0 {
					k.lostTo = until
				}
				if way != 1 {
					k.lostFrom = until
				}
			}
		}
	case 7:
		does("hang", n.name, long)
		n.hung = until
	case 8:
		does("freeze", c.id, long)
		c.frozen = until
	case 9:
		does("crash", c.id)
		c.crash()
	case 10, 11:
		w.mu.Unlock()
		w.restart(ctx, n, w.memory())
		return
	case 12:
		does("rolling restart")
		w.mu.Unlock()
		w.rolling(ctx)
		return
	case 13:
		does("all at once")
		m := w.memory()
		for _, n := range w.nodes {
			w.kill(n)
		}
		w.mu.Unlock()
		if !pause(ctx, w.downtime()) {
			return
		}
		w.mu.Lock()
		for _, n := range w.nodes {
			n.start(m)
			w.note("%s starts with %v", n.name, m)
		}
	case 14:
		if w.profile.Steps {
			step := time.Duration((2*r.Float64() - 1) * 2 * float64(w.ttl))
			does("clock step", n.name, step)
			n.step(step)
		} else {
			does("rate", n.name)
			w.drift(n)
		}
	case 15:
		if w.profile.Vanish {
			does("vanish", n.name)
			for _, n := range w.nodes {
				n.losesKeys(r.Float64(), r)
			}
		} else {
			does("script flush", n.name)
			n.scripts = map[string]string{}
			n.library, n.known, n.reached = "", "", 0 // and FUNCTION FLUSH
		}
	}
	w.mu.Unlock()
}

// memory is what a restart leaves, in this profile.
func (w *world) memory() memory {
	if w.profile.Durable || w.profile.Steps { // tokens need clocks that are close where counts are lost
		return keepsAll
	}
	return memory(w.rng.IntN(3))
}

// downtime is longer than two nodes' wall clocks are apart.
func (w *world) downtime() time.Duration {
	return 2*maxWall + time.Second + time.Duration(w.rng.Float64()*float64(w.ttl)*0.5)
}

// restart kills a node and starts it again.
func (w *world) restart(ctx context.Context, n *node, m memory) {
	w.mu.Lock()
	w.res.Faults["restart"]++
	w.note("FAULT kill: %s", n.name)
	w.kill(n)
	w.mu.Unlock()
	pause(ctx, w.downtime())
	w.mu.Lock()
	n.start(m)
	w.note("%s starts with %v", n.name, m)
	w.mu.Unlock()
}

// rolling restarts all nodes, some time apart.
func (w *world) rolling(ctx context.Context) {
	gap := time.Duration(w.rng.Float64() * 1.5 * float64(w.guard))
	for _, n := range w.nodes {
		w.restart(ctx, n, w.memory())
		if !pause(ctx, gap) {
			return
		}
	}
}

// heal ends all faults, and reports when.
func (w *world) heal() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("all is healed")
	w.calm()
	for _, n := range w.nodes {
		n.setRate(1)
		n.hung = time.Time{}
		if n.down {
			n.start(keepsAll)
		}
	}
	for _, c := range w.clients {
		c.frozen = time.Time{}
		for _, k := range c.conns {
			k.lostTo, k.lostFrom = time.Time{}, time.Time{}
		}
	}
	return time.Now()
}
