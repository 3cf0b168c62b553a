package records

import (
	"context"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

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
			w.run.Log("cut off")
			k.setCut(true)
			time.Sleep(some(w.ttl))
			k.setCut(false)
		case n < 6: // its run begins anew: ages from before are not known
			w.run.Log("restart")
			w.restart(true)
			time.Sleep(some(w.ttl / 2))
			w.restart(false)
		case n < 7 && w.profile.Stale:
			w.run.Log("stale reads")
			k.setStale(some(w.ttl))
			time.Sleep(some(w.ttl))
			k.setStale(0)
		case n < 8 && w.profile.Deletes:
			w.run.Log("deleted")
			w.server.store.Remove(w.name(key))
		case n < 9:
			w.prune()
		}
	}
	w.recovers()
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
	w.run.Count("pruned", n)
	w.run.Log("pruned %d (%v)", n, err)
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
			w.run.Violated("%q can't be had %v after all has ended: %v", key, 6*w.ttl, err)
			continue
		}
		w.run.Concluded(w.run.Granted(key, p.name, asked, lease), "released in the end")
		_ = lease.Release(context.Background())
	}
}
