package locktest

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// history records who held one key when. Times show overlaps; steps, which
// count up with each event, show the order where two events fall on the same time.
type history struct {
	step atomic.Int64
	mu   sync.Mutex // guards terms
	// terms are the leases granted, in no order.
	terms []*term
}

// term is one lease: the hold was certain from granted to ended.
type term struct {
	token            uint64
	asked, returned  int64 // steps around the attempt
	granted, expires time.Time
	ended            time.Time // release began; zero if the lease was left to expire
}

// ask begins an attempt, and returns what to call if it succeeds.
func (h *history) ask() (won func(token uint64, expiry time.Time) *term) {
	asked := h.step.Add(1)
	return func(token uint64, expiry time.Time) *term {
		t := &term{token: token, asked: asked, granted: time.Now(), expires: expiry}
		t.returned = h.step.Add(1)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.terms = append(h.terms, t)
		return t
	}
}

func (t *term) end() time.Time {
	if t.ended.IsZero() || t.expires.Before(t.ended) {
		return t.expires
	}
	return t.ended
}

// verify reports every overlap and every token out of order.
func (h *history) verify(c *check) {
	c.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	terms := h.terms
	sort.Slice(terms, func(i, j int) bool { return terms[i].granted.Before(terms[j].granted) })
	for i, a := range terms {
		for _, b := range terms[i+1:] {
			if b.granted.Before(a.end()) && a.granted.Before(b.end()) {
				c.Errorf("two holders at once: token %d was granted %v before token %d ended", b.token, a.end().Sub(b.granted), a.token)
			}
			if a.token == b.token {
				c.Errorf("two leases with token %d", a.token)
			}
			first, second := a, b
			if b.returned < a.asked {
				first, second = b, a
			}
			if first.returned < second.asked && first.token >= second.token {
				c.Errorf("token %d was granted before token %d was asked for, want rising tokens", first.token, second.token)
			}
		}
	}
}
