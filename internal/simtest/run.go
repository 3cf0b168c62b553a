// Package simtest is what the simulations of the record engine and of a fleet that changes stores
// share: an observer with the true time, which checks what leases promise, and the loop over
// seeds with its flags.
package simtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Run is one simulated run, as an observer with the true time sees it. Its methods are safe for
// concurrent use. It is made in the bubble that the run is in.
type Run struct {
	Seed      uint64
	Profile   string
	Exclusive bool // what is asserted: at most one lease of a key is valid at a time

	began time.Time
	took  time.Duration

	mu        sync.Mutex // guards all below
	names     []string   // of the counts, in the order of their first use
	counts    map[string]int
	keys      map[string]*history
	violation string
	timeline  []string // the last events
}

// history is that of one key.
type history struct {
	leases []*Span // in the order of their grants
	wrote  uint64  // the resource: the largest token that has written
}

// Span is one lease as the observer sees it.
type Span struct {
	key, by     string
	token       uint64
	asked, from time.Time // when the attempt began, and when it was granted
	until       time.Time // what its holder last received, or when it let go
}

// NewRun begins a run. The counts of these names are reported first, and in this order.
func NewRun(seed uint64, profile string, exclusive bool, counts ...string) *Run {
	return &Run{Seed: seed, Profile: profile, Exclusive: exclusive, began: time.Now(),
		names: counts, counts: map[string]int{}, keys: map[string]*history{}}
}

// Count adds n to a count.
func (r *Run) Count(name string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(name, n)
}

func (r *Run) count(name string, n int) {
	if !slices.Contains(r.names, name) {
		r.names = append(r.names, name)
	}
	r.counts[name] += n
}

// Log notes an event.
func (r *Run) Log(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log(format, args...)
}

func (r *Run) log(format string, args ...any) {
	r.timeline = append(r.timeline, fmt.Sprintf("%12v ", time.Since(r.began))+fmt.Sprintf(format, args...))
	if n := len(r.timeline); n > 200 {
		r.timeline = r.timeline[n-100:]
	}
}

// Violated notes what broke a promise. The first one counts.
func (r *Run) Violated(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violated(format, args...)
}

func (r *Run) violated(format string, args ...any) {
	if r.violation == "" {
		r.violation = fmt.Sprintf(format, args...)
		r.log("VIOLATION: %s", r.violation)
	}
}

// Violation is what broke a promise, "" if nothing did.
func (r *Run) Violation() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.violation
}

func (r *Run) history(key string) *history {
	h := r.keys[key]
	if h == nil {
		h = &history{}
		r.keys[key] = h
	}
	return h
}

// Granted notes a new lease, of an attempt that began at asked, and compares its token with those
// before it.
func (r *Run) Granted(key, by string, asked time.Time, lease lock.Lease) *Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &Span{key: key, by: by, token: lease.Token(), asked: asked, from: time.Now(), until: lease.Expiry()}
	r.count("grants", 1)
	r.log("%q: token %d granted to %s until %v", key, s.token, by, s.until.Sub(r.began))
	h := r.history(key)
	for _, other := range h.leases {
		switch {
		case other.token == s.token:
			r.violated("token %d of %q was issued twice, to %s and %s", s.token, key, other.by, by)
		case other.from.Before(asked) && other.token > s.token:
			r.violated("token %d of %q was issued to %s after token %d to %s", s.token, key, by, other.token, other.by)
		}
	}
	h.leases = append(h.leases, s)
	return s
}

// Extended notes what an extend returned.
func (r *Run) Extended(s *Span, lease lock.Lease, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.count("extends", 1)
		s.until = lease.Expiry()
		r.log("%q: token %d extended by %s until %v", s.key, s.token, s.by, s.until.Sub(r.began))
	case errors.Is(err, lock.ErrLost):
		r.count("losses", 1)
		r.log("%q: token %d lost by %s: %v", s.key, s.token, s.by, err)
	}
	if now := lease.Token(); now != s.token {
		r.violated("token %d of %q became %d", s.token, s.key, now)
	}
}

// Concluded notes that the holder stops, and how.
func (r *Run) Concluded(s *Span, how string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Before(s.until) {
		s.until = now
	}
	r.log("%q: token %d of %s %s", s.key, s.token, s.by, how)
}

// Write is of the resource, which refuses tokens below the largest it has seen: a write that a
// valid lease made must not be refused.
func (r *Run) Write(s *Span, lease lock.Lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.history(s.key)
	token, valid := lease.Token(), time.Now().Before(lease.Expiry())
	if token < h.wrote {
		if valid && r.Exclusive {
			r.violated("a valid lease of %q with token %d of %s is refused: %d has written", s.key, token, s.by, h.wrote)
		}
		return
	}
	h.wrote = token
}

// End ends the run, and compares all leases of each key by the true time.
func (r *Run) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = time.Since(r.began)
	for key, h := range r.keys {
		for i, a := range h.leases {
			for _, b := range h.leases[i+1:] {
				if !a.from.Before(b.until) || !b.from.Before(a.until) {
					continue
				}
				r.count("overlaps", 1)
				if r.Exclusive {
					r.violated("%q: token %d of %s is valid from %v to %v, token %d of %s from %v to %v", key,
						a.token, a.by, a.from.Sub(r.began), a.until.Sub(r.began), b.token, b.by, b.from.Sub(r.began), b.until.Sub(r.began))
				}
			}
		}
	}
}

// String is the run on a line, and the last events before a violation.
func (r *Run) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := fmt.Sprintf("seed %d, %s: %v, %s", r.Seed, r.Profile, r.took.Round(time.Second), counts(r.names, r.counts))
	if r.violation != "" {
		s += "\nVIOLATION: " + r.violation + "\n" + strings.Join(r.timeline, "\n")
	}
	return s
}

func counts(names []string, of map[string]int) string {
	var all []string
	for _, name := range names {
		all = append(all, fmt.Sprintf("%d %s", of[name], name))
	}
	return strings.Join(all, ", ")
}
