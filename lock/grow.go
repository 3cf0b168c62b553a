package lock

import (
	"context"
	"time"
)

// growth extends by itself a lease that starts with less than its ttl. It stands in for
// the lease's Term until that is done, so that all other leases need no room for it.
type growth struct {
	Term
	ttl   time.Duration
	timer *time.Timer // runs lease.grow
}

// leastGrowth says which part of the ttl a lease must lack to grow, an eighth: to make up
// for the drift alone is not worth a request.
const leastGrowth = 8

// startGrowth lets l extend itself to ttl when a quarter of what it starts with has
// gone: most leases are released before, and need no request. l is not shared yet.
func (l *lease) startGrowth(ttl time.Duration) {
	left := time.Until(l.expiry)
	if ttl-left < ttl/leastGrowth {
		return
	}
	l.mu.Lock() // the timer may be quick
	defer l.mu.Unlock()
	g := &growth{Term: l.term, ttl: ttl}
	l.term = g
	g.timer = time.AfterFunc(left/4, l.grow)
}

// growth is the growth that is still to be done; nil: there is none. mu is held.
func (l *lease) growth() *growth {
	g, _ := l.term.(*growth)
	return g
}

// endGrowth gives up the growth, and the lease keeps the expiry that it has. mu is held.
func (l *lease) endGrowth() {
	if g := l.growth(); g != nil {
		g.timer.Stop()
		l.term = g.Term
	}
}

// grow makes one try. One that fails is followed by another when a quarter of what is
// left has gone: the lease is held until the end of what it has, whatever comes of it.
func (l *lease) grow() {
	l.mu.Lock()
	g := l.growth()
	left := time.Until(l.deadline())
	l.mu.Unlock()
	if g == nil || left <= 0 {
		return
	}
	// A store that hangs must leave time for another try, and must not keep a user's
	// Extend waiting for ever.
	ctx, cancel := context.WithTimeout(context.Background(), left/2)
	defer cancel()
	_ = l.extend(ctx, g.ttl, g) // a loss is noted in l; anything else says nothing

	l.mu.Lock()
	defer l.mu.Unlock()
	if left = time.Until(l.deadline()); l.growth() == g && left > minPause {
		g.timer.Reset(left / 4)
	}
}
