package record

import (
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// observed is what this Locker has seen of one record.
type observed struct {
	newest    Entry // the newest state; its Age is of then
	sightings []sighting
}

// sighting is since when the holder's last write has been seen to stand. What the queue
// writes in between doesn't prolong a hold, so it doesn't count.
type sighting struct {
	token, beat uint64
	term        string
	since       time.Time
}

func (s sighting) of(r Record) bool {
	return s.token == r.Token && s.beat == r.Beat && s.term == r.Term
}

const (
	maxObserved  = 4096 // records; old ones are forgotten, which only makes others wait longer
	maxSightings = 3    // of one record: a stale read shows an old state again
	keepObserved = time.Minute
)

// observe notes a state of name that the store still had when it was asked, which was
// before received. Counted from the reply and not from the request: the record can have
// been written in between. It returns the state with no more age than is credible.
func (l *Locker) observe(name string, e Entry, received time.Time) Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Age = l.clock.credible(e, received)
	o := l.observed[name]
	if o == nil {
		if len(l.observed) >= maxObserved {
			l.forget(received)
		}
		o = &observed{}
		l.observed[name] = o
	}
	// A state that is gone has no order: it is the newest until another is seen.
	if e.Version == "" || o.newest.Version == "" || !o.newest.Record.newer(e.Record) {
		o.newest = e
	}
	if e.Version != "" {
		// The age is a lower bound at the moment of the reply at the latest.
		since := received.Add(-e.Age)
		i := slices.IndexFunc(o.sightings, func(s sighting) bool { return s.of(e.Record) })
		if i < 0 {
			if len(o.sightings) == maxSightings {
				o.sightings = slices.Delete(o.sightings, 0, 1)
			}
			o.sightings = append(o.sightings, sighting{e.Record.Token, e.Record.Beat, e.Record.Term, since})
		} else if since.Before(o.sightings[i].since) {
			o.sightings[i].since = since
		}
	}
	if s := l.watched[name]; s != nil {
		s.update()
	}
	return e
}

// forget makes room. A record that is forgotten is observed anew: a hold in it seems
// younger than it is, never older. l.mu is held.
func (l *Locker) forget(now time.Time) {
	for name, o := range l.observed {
		if l.watched[name] != nil {
			continue
		}
		over := o.newest.Record.TTL + keepObserved
		if n := len(o.sightings); n == 0 || now.Sub(o.sightings[n-1].since) > over || len(l.observed) >= 2*maxObserved {
			delete(l.observed, name)
		}
	}
}

// stands is how long the holder's last write has stood for certain, and whether anything
// shows that this holder has lived: an age of the store, or an earlier write of the same
// term that was seen here. l.mu is held.
func (l *Locker) stands(name string, e Entry) (stood time.Duration, alive bool) {
	stood, alive = e.Age, e.Age > 0
	if o := l.observed[name]; o != nil {
		for _, s := range o.sightings {
			switch {
			case s.of(e.Record):
				stood = max(stood, time.Since(s.since))
			case s.token == e.Record.Token && s.term == e.Record.Term:
				alive = true
			}
		}
	}
	return stood, alive
}

// wait is what must pass before this process may take a record.
type wait struct {
	hold  time.Duration // until the hold is over; 0 or less: it is
	turn  time.Duration // until those ahead in the queue have had their head start, after that
	alive bool          // see stands
}

func (w wait) left() time.Duration { return max(w.hold, 0) + max(w.turn+min(w.hold, 0), 0) }

// waitFor computes it for a state of name that was just received. l.mu is held.
func (l *Locker) waitFor(name string, e Entry) wait {
	if e.Version == "" {
		return wait{}
	}
	r := e.Record
	stood, alive := l.stands(name, e)
	// The hold is over when the holder's last write has stood for its ttl, and 1 % more for
	// the rates of clocks: the holder's own lease, counted from before it sent that write,
	// has ended by then.
	w := wait{hold: r.TTL + r.TTL/100 - stood, alive: alive}
	if l.opts.Grace > 0 && r.TTL > 0 && time.Now().After(r.Until.Add(l.opts.Grace)) {
		// The user has said that wall clocks differ by less than Grace.
		w.hold, w.alive = min(w.hold, 0), true
	}
	if l.opts.HeadStart > 0 {
		ahead := slices.Index(r.Queue, l.process)
		if ahead < 0 {
			ahead = len(r.Queue)
		}
		w.turn = time.Duration(ahead) * l.opts.HeadStart
	}
	return w
}

// refusal is why this process may not take the record now; nil: it may.
func (l *Locker) refusal(name, key string, e Entry) (*lock.HeldError, wait) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.waitFor(name, e)
	if w.left() <= 0 {
		return nil, w
	}
	held := &lock.HeldError{Key: key, Holder: e.Record.Holder, RetryAfter: w.left(), Unconfirmed: !w.alive}
	if w.hold <= 0 {
		held.Holder, held.Unconfirmed = "a process that waits for it", false
	}
	return held, w
}

// newest is the newest state of name that this Locker has seen.
func (l *Locker) newest(name string) (Entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.observed[name]; o != nil {
		return o.newest, o.newest.Version != ""
	}
	return Entry{}, false
}
