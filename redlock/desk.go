package redlock

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// desk is where the nodes' news of keys come in, and where it is decided when a
// waiter of this process asks. Nothing here decides who holds a lock: a wake too
// many costs a refused attempt, a wake too few is made up for by a timer.
type desk struct {
	l *Locker

	// names are the locks that are watched or left to others: attempts for all others
	// need not look, and take no mutex that all keys share.
	names sync.Map

	mu      sync.Mutex // guards all below, and the fields of every watch
	watches map[string]*watch
	fences  map[string]*watch    // by the name of the counter
	yields  map[string]time.Time // locks that were left to other waiters, and until when
	links   []*link
	changed chan struct{} // closed when a link's state changes
	version int           // of what is watched
	removed time.Time     // when somebody last stopped
}

// watch is one key that this process waits for.
type watch struct {
	keys    script.Keys
	wakes   []chan<- struct{}
	version int // of the desk when it began
	views   []view

	ahead int       // how many waiters of other processes come before, as most nodes have it
	woken time.Time // when it was woken last; zero: it has been refused since
	// queued: it stands in the queues. done: it waits no more.
	// again: it is about to take its places once more. later: as soon as it has them.
	queued, done, again, later bool
	// standing is how many nodes were asked for a place and have not answered. crossed:
	// some were while an attempt was under way, so that on a node the place may have
	// come after the grant.
	standing int
	crossed  bool
	stood    time.Time // when they were asked last

	open bool          // a quorum was heard to be free, and not to be taken since
	turn time.Time     // while open: when this process may ask
	soon time.Time     // when to ask because fewer than a quorum were heard to be free
	late time.Duration // how long after that news
	// unsure is when to ask because news of a release may have seemed those of a renewal.
	unsure time.Time
	due    time.Time     // when to ask unless there is news: the holder's time is up
	left   time.Duration // what the holder had left when that was last heard

	timer *time.Timer // fires at the next of these; nil: stopped for good
}

// view is what is heard of a key from one node.
type view struct {
	live   bool      // its news flow
	deaf   bool      // but only calls, no news of what was written
	lost   bool      // they did before, and broke off
	fence  time.Time // the counter was touched then: if just now, the lock's news that follow are of a grant or a renewal
	told   bool      // called, and the lock's news of that release are still to come
	free   bool      // the last news: the lock went
	called bool      // and it is our turn
	news   uint64    // how many there were
	place  string    // our place in the node's queue; "": none yet
	missed bool      // it was asked for one, and did not answer
	rank   int       // how many stand before us there; -1: unknown
}

const (
	// courtesy is how long the one that was called has to come before the first of the
	// others asks, and turn what each of them has: what a hung waiter delays the
	// others. (One that died is not called.)
	courtesy = 5 * time.Millisecond
	turn     = 30 * time.Millisecond
	// farthest bounds a waiter's patience: 16 turns.
	farthest = 16
	// minLate is the pause after the first news of less than a quorum; it doubles to
	// maxLate, since such news can come of one's own attempts.
	minLate = 5 * time.Millisecond
	maxLate = time.Second
	// sameScript is within what time the two messages of one script are read.
	sameScript = 300 * time.Microsecond
	// sure is for how long a place in line is relied on while the lock changes hands:
	// a process that was stopped for a while may have let its turn pass.
	sure = 5 * time.Second
	// blind bounds the wait for news where too few nodes tell what was written.
	blind = 2 * time.Second
	// unknown stands for the time that a holder has left where no node told.
	unknown = time.Second
)

func newDesk(l *Locker) *desk {
	return &desk{l: l, watches: map[string]*watch{}, fences: map[string]*watch{}, yields: map[string]time.Time{}, changed: make(chan struct{})}
}

// add begins to watch, or lets one more channel share in a watch.
func (d *desk) add(k script.Keys, wake chan<- struct{}) *watch {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.watches[k.Lock]
	if w == nil {
		d.version++
		w = &watch{keys: k, version: d.version, views: make([]view, len(d.l.nodes)), late: minLate, left: unknown}
		w.due = time.Now().Add(unknown)
		w.timer = time.AfterFunc(unknown, func() { d.expired(w) })
		d.watches[k.Lock] = w
		// Redis tells of counters first if their names come first: then a lock's news
		// that follow a counter's are no release. Else each renewal wakes, too.
		if k.Fence < k.Lock {
			d.fences[k.Fence] = w
		}
		d.names.Store(k.Lock, nil)
		d.startLinks()
	}
	w.wakes = append(w.wakes, wake)
	w.done = false
	return w
}

// concerns reports whether a lock is watched or left to others.
func (d *desk) concerns(name string) bool {
	_, ok := d.names.Load(name)
	return ok
}

// unname forgets a lock that is neither watched nor left to others any more. mu is held.
func (d *desk) unname(name string) {
	_, yields := d.yields[name]
	if d.watches[name] == nil && !yields {
		d.names.Delete(name)
	}
}

// remove ends a watch's channel. It gives the places that are left in the key's queues,
// where this process waits no more, or nil.
func (d *desk) remove(w *watch, wake chan<- struct{}) (places []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(w.wakes, wake); i >= 0 {
		w.wakes = slices.Delete(w.wakes, i, i+1)
	}
	if len(w.wakes) > 0 {
		w.done = false
	}
	if len(w.wakes) > 0 || w.timer == nil {
		return nil
	}
	w.timer.Stop()
	w.timer = nil
	delete(d.watches, w.keys.Lock)
	delete(d.fences, w.keys.Fence)
	d.removed = time.Now()
	d.unname(w.keys.Lock)
	if w.queued {
		places = w.places()
	}
	w.queued, w.done = false, true
	return places
}

// heard takes one message of a node: the names of what was written, or nil if
// everything was (FLUSHALL).
func (d *desk) heard(i int, names []rueidis.RedisMessage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if names == nil {
		for _, w := range d.watches {
			d.touched(w, i, true, now)
		}
		return
	}
	for n := range names {
		name, err := names[n].ToString()
		if err != nil {
			continue
		}
		if w := d.fences[name]; w != nil {
			w.views[i].fence = now
		}
		if w := d.watches[name]; w != nil {
			// A grant, a renewal and a repair write counter and lock in one script, so that
			// their news come together, the counter's first. A release, an expiry or a DEL
			// is of the lock alone.
			// (A commit writes the counter alone, and so does the first of a line: that is
			// forgotten soon, since a release that seems a renewal would be missed. The
			// contrary costs a question. Who made the line asks once more: see placed.)
			v := &w.views[i]
			freed := v.told || now.Sub(v.fence) > sameScript
			v.fence, v.told = time.Time{}, false
			d.touched(w, i, freed, now)
		}
	}
}

// called: node i has freed the lock, and this process is next in its queue.
func (d *desk) called(i int, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.watches[name]; w != nil {
		w.views[i].called = true
		w.views[i].told = !w.views[i].deaf // the script's call comes before its writes
		d.touched(w, i, true, time.Now())
	}
}

// touched: node i's lock was written, or went. mu is held.
func (d *desk) touched(w *watch, i int, freed bool, now time.Time) {
	v := &w.views[i]
	v.news++
	v.free = freed
	if !freed { // a holder, who may have renewed just now
		if v.called {
			d.standAgain(w) // it was our turn, and passed
		}
		v.called = false
		w.due = now.Add(d.patience(w) + w.stagger())
	}
	d.look(w, freed, now)
}

// look draws conclusions from the views. mu is held.
func (d *desk) look(w *watch, freed bool, now time.Time) {
	free, called, live := 0, 0, 0
	for _, v := range w.views {
		if v.free {
			free++
		}
		if v.called {
			called++
		}
		if v.live {
			live++
		}
	}
	enough := max(1, min(d.l.opts.Quorum, live))
	open := free >= enough
	switch {
	case open && called >= enough: // the others know of it and let us go first
		w.late, w.turn = minLate, now
	case open && !w.open: // expired, deleted, or another was called
		w.late, w.turn = minLate, now.Add(courtesy+w.stagger())
	case !open && w.open: // taken by somebody: he is before us no more
		w.ahead = max(w.ahead-1, 0)
		if now.Sub(w.stood) > sure {
			d.standAgain(w)
		}
	case freed && !open && w.soon.IsZero(): // the others may have been free all along
		w.soon = now.Add(w.late + w.stagger())
	}
	w.open = open
	if open || free == 0 {
		w.soon = time.Time{}
	}
	d.arm(w, now)
}

// patience is how long to wait for news. mu is held.
func (d *desk) patience(w *watch) time.Duration {
	told := 0
	for _, v := range w.views {
		if v.live && !v.deaf {
			told++
		}
	}
	if told < d.l.opts.Quorum {
		return min(w.left, blind)
	}
	return w.left
}

// stagger is how long after the first one's turn ours is.
func (w *watch) stagger() time.Duration {
	d := time.Duration(min(w.ahead, farthest)) * turn
	return d - time.Duration(rand.Float64()*float64(d)/8)
}

// arm sets the timer for the next reason to ask, or asks. mu is held.
func (d *desk) arm(w *watch, now time.Time) {
	if w.timer == nil {
		return
	}
	at := w.due
	if w.open && w.turn.Before(at) {
		at = w.turn
	}
	if !w.soon.IsZero() && w.soon.Before(at) {
		at = w.soon
	}
	if !w.unsure.IsZero() && w.unsure.Before(at) {
		at = w.unsure
	}
	if at.After(now) {
		w.timer.Reset(at.Sub(now))
		return
	}
	if !w.soon.IsZero() && !w.soon.After(now) {
		w.soon = time.Time{}
		w.late = min(2*w.late, maxLate)
	}
	if !w.unsure.After(now) {
		w.unsure = time.Time{}
	}
	w.open = false
	for i := range w.views {
		w.views[i].free, w.views[i].called = false, false // this news has been used
	}
	d.wake(w)
	w.due = now.Add(max(d.patience(w), turn) + w.stagger())
	w.timer.Reset(w.due.Sub(now))
}

// wake lets the waiters of this process ask. mu is held.
func (d *desk) wake(w *watch) {
	w.woken = time.Now()
	for _, wake := range w.wakes {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

func (d *desk) expired(w *watch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arm(w, time.Now())
}
