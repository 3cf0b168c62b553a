package moves

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// granted notes a new lease, and compares it with those before it.
func (w *world) granted(asked time.Time, lease lock.Lease, by side) *span {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &span{token: lease.Token(), asked: asked, from: time.Now(), until: lease.Expiry(), side: by}
	w.res.Grants++
	w.res.Sides[by]++
	w.log("%v: token %d granted until %v", by, s.token, s.until.Sub(w.began))
	for _, other := range w.spans {
		switch {
		case other.token == s.token:
			w.violated("token %d was issued twice, by %v and %v", s.token, other.side, by)
		case other.from.Before(asked) && other.token > s.token:
			w.violated("token %d was issued by %v after token %d by %v", s.token, by, other.token, other.side)
		}
	}
	w.spans = append(w.spans, s)
	return s
}

// extended notes what an extend said.
func (w *world) extended(s *span, lease lock.Lease, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.res.Extends++
		s.until = lease.Expiry()
		w.log("%v: token %d extended until %v", s.side, s.token, s.until.Sub(w.began))
	case errors.Is(err, lock.ErrLost):
		w.res.Losses++
		w.log("%v: token %d lost: %v", s.side, s.token, err)
	}
	if now := lease.Token(); now != s.token {
		w.violated("token %d became %d", s.token, now)
	}
}

// conclude notes that the holder stops.
func (w *world) conclude(s *span, how string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Before(s.until) {
		s.until = now
	}
	w.log("%v: token %d %s", s.side, s.token, how)
}

// write is of the resource, which refuses tokens below the largest it has seen: a write
// that a valid lease made must not be refused.
func (w *world) write(s *span, lease lock.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	token, valid := lease.Token(), time.Now().Before(lease.Expiry())
	if token < w.seen {
		if valid && w.profile.Exclusive {
			w.violated("a valid lease of %v with token %d is refused: %d has written", s.side, token, w.seen)
		}
		return
	}
	w.seen = token
}

// checkSpans compares all leases. mu is held.
func (w *world) checkSpans() {
	for i, a := range w.spans {
		for _, b := range w.spans[i+1:] {
			if w.profile.Exclusive && a.from.Before(b.until) && b.from.Before(a.until) {
				w.violated("%v's token %d is valid from %v to %v, %v's token %d from %v to %v", a.side, a.token,
					a.from.Sub(w.began), a.until.Sub(w.began), b.side, b.token, b.from.Sub(w.began), b.until.Sub(w.began))
			}
		}
	}
}

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
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log("broken in one store: %v", err)
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
		w.mu.Lock()
		defer w.mu.Unlock()
		w.violated("the key can't be had %v after all has ended: %v", 6*w.ttl, err)
		return
	}
	span := w.granted(asked, lease, s)
	w.conclude(span, "released in the end")
	_ = lease.Release(context.Background())
}

// String is the run on a few lines.
func (r *Result) String() string {
	s := fmt.Sprintf("seed %d, %s: %v, %d deployments, %d grants (%d old, %d both, %d next), %d extends, %d losses, %d crashes",
		r.Seed, r.Profile, r.Simulated.Round(time.Second), r.Deployments, r.Grants, r.Sides[0], r.Sides[1], r.Sides[2], r.Extends, r.Losses, r.Crashes)
	if r.Violation != "" {
		s += "\nVIOLATION: " + r.Violation
		for _, line := range r.Timeline {
			s += "\n" + line
		}
	}
	return s
}
