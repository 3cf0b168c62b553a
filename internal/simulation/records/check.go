package records

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

// granted notes a new lease, and compares it with those before it.
func (w *world) granted(key string, asked time.Time, lease lock.Lease) *span {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &span{token: lease.Token(), asked: asked, from: time.Now(), until: lease.Expiry()}
	w.res.Grants++
	w.log("%q token %d granted until %v", key, s.token, s.until.Sub(w.began))
	for _, other := range w.spans[key] {
		switch {
		case other.token == s.token:
			w.violated("token %d of %q was issued twice", s.token, key)
		case other.from.Before(asked) && other.token > s.token:
			w.violated("token %d of %q was issued after token %d", s.token, key, other.token)
		}
	}
	w.spans[key] = append(w.spans[key], s)
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
		w.log("token %d extended until %v", s.token, s.until.Sub(w.began))
	case errors.Is(err, lock.ErrLost):
		w.res.Losses++
		w.log("token %d lost: %v", s.token, err)
	}
}

// conclude notes that the holder stops.
func (w *world) conclude(s *span) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Before(s.until) {
		s.until = now
	}
	w.log("token %d released", s.token)
}

// write is of the resource, which refuses tokens below the largest it has seen: a write
// that a valid lease made must not be refused.
func (w *world) write(key string, lease lock.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	token, valid := lease.Token(), time.Now().Before(lease.Expiry())
	if token < w.seen[key] {
		if valid && w.profile.Exclusive {
			w.violated("a valid lease of %q with token %d is refused: %d has written", key, token, w.seen[key])
		}
		return
	}
	w.seen[key] = token
}

// checkSpans compares all leases of each key by the true time. mu is held.
func (w *world) checkSpans() {
	for key, spans := range w.spans {
		for i, a := range spans {
			for _, b := range spans[i+1:] {
				if a.from.Before(b.until) && b.from.Before(a.until) {
					w.res.Overlaps++
					if w.profile.Exclusive {
						w.violated("%q: token %d is valid from %v to %v, token %d from %v to %v", key,
							a.token, a.from.Sub(w.began), a.until.Sub(w.began), b.token, b.from.Sub(w.began), b.until.Sub(w.began))
					}
				}
			}
		}
	}
}

// faults happen to the world until it ends; then it is whole again, and a key must be had
// soon.
func (w *world) faults() {
	some := func(most time.Duration) time.Duration {
		w.mu.Lock()
		defer w.mu.Unlock()
		return time.Duration(w.rng.Int64N(int64(most)))
	}
	for time.Now().Before(w.end) {
		time.Sleep(some(w.ttl))
		w.mu.Lock()
		n := w.rng.IntN(10)
		var k *link
		if len(w.links) > 0 {
			k = w.links[w.rng.IntN(len(w.links))]
		}
		key := w.keys[w.rng.IntN(len(w.keys))]
		w.mu.Unlock()
		if k == nil {
			continue
		}
		switch {
		case n < 4:
			w.note("cut off")
			k.setCut(true)
			time.Sleep(some(w.ttl))
			k.setCut(false)
		case n < 6: // its run begins anew: ages from before are not known
			w.note("restart")
			w.restart(true)
			time.Sleep(some(w.ttl / 2))
			w.restart(false)
		case n < 7 && w.profile.Stale:
			w.note("stale reads")
			k.setStale(some(w.ttl))
			time.Sleep(some(w.ttl))
			k.setStale(0)
		case n < 8 && w.profile.Deletes:
			w.note("deleted")
			w.server.store.Remove(w.name(key))
		case n < 9:
			w.prune()
		}
	}
	w.recovers()
}

func (w *world) note(event string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log("%s", event)
}

func (w *world) restart(down bool) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.server.down = down
	w.server.run = time.Now()
}

func (w *world) name(key string) string {
	name, err := record.Names{}.Name(key)
	if err != nil {
		panic(err)
	}
	return name
}

// prune deletes what has been free for long, now and then all that is free.
func (w *world) prune() {
	p := w.start(99, false, false)
	defer func() { _ = p.l.Close(); w.forget(p.link) }()
	ctx, cancel := context.WithTimeout(context.Background(), w.ttl)
	defer cancel()
	n, err := p.l.Prune(ctx, max(w.ttl, time.Hour))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.res.Pruned += n
	w.log("pruned %d (%v)", n, err)
}

// recovers checks that each key can be had when all is well again.
func (w *world) recovers() {
	w.restart(false)
	time.Sleep(3 * w.ttl) // the programs have ended, and with them the last hold
	p := w.start(100, false, true)
	defer func() { _ = p.l.Close(); w.forget(p.link) }()
	for _, key := range w.keys {
		ctx, cancel := context.WithTimeout(context.Background(), 6*w.ttl)
		asked := time.Now()
		lease, err := lock.Acquire(ctx, p.l, key, p.ttl(), nil)
		cancel()
		if err != nil {
			w.mu.Lock()
			w.violated("%q can't be had %v after all has ended: %v", key, 6*w.ttl, err)
			w.mu.Unlock()
			continue
		}
		w.conclude(w.granted(key, asked, lease))
		_ = lease.Release(context.Background())
	}
}

// String is the run on a few lines.
func (r *Result) String() string {
	s := fmt.Sprintf("seed %d, %s, ttl %v: %v, %d requests (%d lost), %d grants, %d extends, %d losses, %d crashes, %d pruned, %d overlaps",
		r.Seed, r.Profile, r.TTL.Round(time.Millisecond), r.Simulated.Round(time.Second), r.Requests, r.Lost, r.Grants, r.Extends, r.Losses, r.Crashes, r.Pruned, r.Overlaps)
	if r.Violation != "" {
		s += "\nVIOLATION: " + r.Violation
		for _, line := range r.Timeline {
			s += "\n" + line
		}
	}
	return s
}
