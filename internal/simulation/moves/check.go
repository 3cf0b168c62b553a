package moves

import (
	"context"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// faults happen to the programs and their stores until the run is over.
func (w *world) faults() {
	for !w.isOver() {
		time.Sleep(w.some(w.ttl))
		w.mu.Lock()
		p := w.alive[w.rng.IntN(len(w.alive))]
		at, n := w.stores[w.rng.IntN(2)], w.rng.IntN(8)
		w.mu.Unlock()
		if n == 0 && w.profile.Forced {
			w.force(at)
		}
		if p == nil {
			continue
		}
		switch n {
		case 1, 2: // one store does not answer for a while
			d := w.some(2 * w.ttl)
			p.disturb(at, d, true)
		case 3, 4: // it is slow
			p.disturb(at, w.some(w.ttl), false)
		case 5, 6:
			if at.memory != nil {
				for i, l := range p.mem {
					if p.w.isAt(i, at) {
						l.LoseReplies(1, nil)
					}
				}
			}
		}
	}
}

// isAt reports whether the i-th client in memory of a process is of at.
func (w *world) isAt(i int, at *store) bool {
	for _, s := range w.stores {
		if s.memory == nil {
			continue
		}
		if i == 0 {
			return s == at
		}
		i--
	}
	return false
}

// disturb cuts p off from the store for d, or slows it down.
func (p *process) disturb(at *store, d time.Duration, cut bool) {
	if at.record != nil {
		p.net.set(func(n *network) { n.down, n.slow = cut, !cut })
		time.Sleep(d)
		p.net.set(func(n *network) { n.down, n.slow = false, false })
		return
	}
	for i, l := range p.mem {
		switch {
		case !p.w.isAt(i, at) || p.ctx.Err() != nil:
		case cut:
			l.FailNext(1+int(d/p.w.ttl)*3, nil)
		default:
			l.Delay(d / 20)
			time.Sleep(d)
			l.Delay(0)
		}
	}
}

// force breaks the hold in one of the stores, as an operator does.
func (w *world) force(at *store) {
	l, end := w.open(at, nil)
	defer end()
	f, _ := lock.As[lock.ForceReleaser](l)
	err := f.ForceRelease(context.Background(), key, 0)
	w.run.Log("broken in one store: %v", err)
}

// recovers checks that the key can be had, and its token be above all others, when all is
// well again.
func (w *world) recovers(s side) {
	time.Sleep(3 * w.ttl) // the programs have ended, and with them the last hold
	p := w.start(s)
	p.net.set(func(n *network) { n.calm = true })
	defer p.end()
	ctx, cancel := context.WithTimeout(context.Background(), 6*w.ttl)
	defer cancel()
	asked := time.Now()
	lease, err := lock.Acquire(ctx, p.locker, key, w.ttl, nil)
	if err != nil {
		w.run.Violated("the key can't be had %v after all has ended: %v", 6*w.ttl, err)
		return
	}
	w.run.Concluded(w.run.Granted(key, s.String(), asked, lease), "released in the end")
	_ = lease.Release(context.Background())
}
