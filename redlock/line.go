package redlock

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// This is the desk's other half: where this process stands among those who wait on the
// nodes, and when it leaves a lock to them.

// places are those in the nodes' queues, as far as they are known.
func (w *watch) places() []string {
	places := make([]string, len(w.views))
	for i, v := range w.views {
		places[i] = v.place
	}
	return places
}

// rank draws the place in line from what the nodes say: most of them.
func (w *watch) rank() {
	var ranks []int
	for _, v := range w.views {
		if v.rank >= 0 {
			ranks = append(ranks, v.rank)
		}
	}
	w.ahead = 0
	if slices.Sort(ranks); len(ranks) > 0 {
		w.ahead = ranks[(len(ranks)-1)/2]
	}
}

// queueing is called before this process goes into the queues. It gives the views:
// an answer must not overrule later news. nil: nobody waits any more.
func (d *desk) queueing(w *watch) []view {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.done {
		return nil
	}
	w.queued, w.again = true, false
	w.standing, w.stood, w.crossed = w.standing+len(w.views), time.Now(), true
	for i := range w.views {
		w.views[i].rank = -1
	}
	return slices.Clone(w.views)
}

// placed takes the answer of node i's queue, if there is one. false: nobody waits any
// more.
func (d *desk) placed(w *watch, i int, at script.Waiting, err error, seen uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.standing--; w.standing == 0 && w.later {
		w.later = false
		defer d.standAgain(w)
	}
	if !w.queued { // it must leave again, unless another wait has begun
		other := d.watches[w.keys.Lock]
		return other != nil && other != w
	}
	v := &w.views[i]
	if v.missed = nodeerr.Broken(err) && v.place == ""; err != nil {
		return true
	}
	v.place, v.rank = at.Position, at.Before
	w.rank()
	now := time.Now()
	if at.Counter && w.unsure.IsZero() {
		// Whoever frees the lock right after that seems to renew it: see heard. It is one
		// question more, once for a key as long as it is in use.
		w.unsure = now.Add(turn)
		d.arm(w, now)
	}
	if at.Free && v.live && v.news == seen {
		v.free = true
		was := w.open
		if d.look(w, false, now); w.open && !was && w.ahead == 0 {
			w.turn = now // the first of the line: nobody else was called
			d.arm(w, now)
		}
	}
	return true
}

// standAgain takes the places of a process that waits once more: where it is out of the
// line, it comes back to where it stood. mu is held.
func (d *desk) standAgain(w *watch) {
	if w.standing > 0 { // it may be out of line where it has come already
		w.later = true
		return
	}
	if !w.queued || w.again || d.l.begin(1) != nil {
		return
	}
	w.again = true
	go func() {
		defer d.l.wg.Done()
		d.l.standInLine(context.Background(), w)
	}()
}

// waiter is the name of this process in the key's queue; "" if it is in none.
func (d *desk) waiter(name string) string {
	if !d.concerns(name) {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.watches[name]
	if w == nil {
		return ""
	}
	w.crossed = w.standing > 0
	return d.l.id
}

// granted: this process has the lock. It gives the places that it may have in the
// queues all the same, or nil.
func (d *desk) granted(name string) (places []string) {
	if !d.concerns(name) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.watches[name]; w != nil {
		if w.crossed && w.queued {
			places = w.places()
		}
		w.queued, w.done = false, true
		w.open, w.woken, w.soon, w.unsure = false, time.Time{}, time.Time{}, time.Time{} // all that was heard is of the time before
	}
	return places
}

// refused: the nodes said that the lock is held, for so long at most. 0: unknown.
func (d *desk) refused(name string, left time.Duration) {
	if !d.concerns(name) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.watches[name]
	if w == nil {
		return
	}
	if left == 0 {
		left = unknown
	}
	now := time.Now()
	w.left = left
	// A little late, and not all at once: keys go within a millisecond of their time.
	w.due = now.Add(d.patience(w) + time.Millisecond + rand.N(2*time.Millisecond) + w.stagger())
	if !w.woken.IsZero() { // somebody was faster
		w.woken = time.Time{}
		d.standAgain(w)
	}
	d.arm(w, now)
}

// kept is for how long the lock is left to those who waited longer: 0 if this
// process may ask.
func (d *desk) kept(name string) time.Duration {
	if !d.concerns(name) {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.watches[name]; w != nil {
		if !w.open || time.Since(w.woken) < turn { // what came since of the same release takes no turn away
			return 0
		}
		return time.Until(w.turn)
	}
	until, ok := d.yields[name]
	if ok && !time.Now().Before(until) {
		delete(d.yields, name)
		d.unname(name)
	}
	return time.Until(until) // long ago for the zero time
}

// yield leaves a lock that was just released to those who wait elsewhere: else a
// process that takes it again and again would always be faster than they.
func (d *desk) yield(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for other, until := range d.yields {
		if !now.Before(until) {
			delete(d.yields, other)
			d.unname(other)
		}
	}
	d.yields[name] = now.Add(turn)
	d.names.Store(name, nil)
}
