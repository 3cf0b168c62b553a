package redlock

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

var _ lock.TermExtendStarter = (*hold)(nil)

// extending is an extend that nobody waits for: the answer that makes its outcome certain
// concludes it, or the node timeout does. hold.mu guards it until unlock takes it out of the
// hold; after that only the goroutine that delivers it has it.
type extending struct {
	h     *hold
	r     *round
	start time.Time
	ttl   time.Duration
	done  lock.ExtendDone
	over  bool // it was concluded, and waits for unlock
	lost  bool
	err   error

	// Of Locker.extensions, whose mutex guards them.
	end        time.Duration // of node.Now: the nodes without an answer have failed then
	listed     bool
	prev, next *extending
}

// StartExtendTerm implements [lock.TermExtendStarter].
func (h *hold) StartExtendTerm(_ string, _ uint64, ttl time.Duration, done lock.ExtendDone) {
	err := h.l.checkTTL(ttl)
	if err == nil {
		err = h.l.begin(2) // the extend, and this call: it can be over before this returns
	}
	if err != nil {
		done.Extended(time.Time{}, err)
		return
	}
	defer h.l.wg.Done()
	start := time.Now()
	r := h.newExtend(start, ttl)
	e := &extending{h: h, r: r, start: start, ttl: ttl, done: done, end: node.At(start) + h.l.opts.NodeTimeout}
	h.sendExtending(e)
	h.l.agreement.keep(ttl) // whatever that gives: it never ends a lease
}

// sendExtending makes e the extend under way, and sends it, in one step: nothing is sent of
// one that was stopped, which could follow the release that stopped it, and none is bounded
// before it can be concluded.
func (h *hold) sendExtending(e *extending) {
	h.mu.Lock()
	defer h.unlock()
	h.extending = e
	h.l.extensions.add(e)
	h.sendAll(e.r)
}

var errStopped = errors.New("stopped before the nodes had answered")

// StopExtendTerm implements [lock.TermExtendStarter].
func (h *hold) StopExtendTerm() {
	h.mu.Lock()
	e := h.extending
	h.mu.Unlock()
	if e == nil || h.l.begin(1) != nil { // after Close the nodes' connections end it
		return
	}
	go func() {
		defer h.l.wg.Done()
		h.mu.Lock()
		defer h.unlock()
		if h.extending == e && !e.over {
			e.err = fmt.Errorf("%w: %w", lock.ErrUnavailable, errStopped)
			e.over = true
		}
	}()
}

// decide concludes e if its outcome is certain; last as in wait. hold.mu is held.
func (e *extending) decide(last bool) {
	if !e.over {
		e.over, e.lost, e.err = e.h.decideExtend(e.r, last)
	}
}

// unlock releases mu, and delivers the extend that was concluded while it was held.
func (h *hold) unlock() {
	e := h.extending
	if e == nil || !e.over {
		h.mu.Unlock()
		return
	}
	h.extending = nil
	h.mu.Unlock()
	e.deliver()
}

func (e *extending) deliver() {
	l := e.h.l
	defer l.wg.Done()
	l.extensions.remove(e)
	expiry, err := e.h.extendedTo(e.start, e.ttl, e.lost, e.err)
	e.done.Extended(expiry, err)
}

// extensions are those that were started and are under way, the oldest first: since all have
// the same time, one timer serves them all.
type extensions struct {
	mu          sync.Mutex // guards all below, and the list; nothing is called while it is held
	first, last *extending
	timer       *time.Timer
	armed       bool
}

func (x *extensions) add(e *extending) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e.listed, e.prev = true, x.last
	if x.last == nil {
		x.first = e
	} else {
		x.last.next = e
	}
	x.last = e
	x.arm()
}

// arm sets the timer for the first one, unless it is set: then it runs no later, and sets it
// again. mu is held.
func (x *extensions) arm() {
	if x.armed || x.first == nil {
		return
	}
	x.armed = true
	left := x.first.end - node.Now()
	if x.timer == nil {
		x.timer = time.AfterFunc(left, x.expire)
	} else {
		x.timer.Reset(left)
	}
}

func (x *extensions) remove(e *extending) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !e.listed {
		return
	}
	e.listed = false
	if e.prev == nil {
		x.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		x.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.prev, e.next = nil, nil
}

// expire decides those whose time is over: the nodes without an answer have failed.
func (x *extensions) expire() {
	var over []*extending
	x.mu.Lock()
	now := node.Now()
	for e := x.first; e != nil && e.end <= now; e = e.next {
		over = append(over, e)
	}
	x.mu.Unlock()
	for _, e := range over {
		x.remove(e)
		e.h.mu.Lock()
		if e.h.extending == e {
			e.decide(true)
		}
		e.h.unlock()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.armed = false
	x.arm()
}

// stop ends the timer, when nothing is under way any more.
func (x *extensions) stop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.timer != nil {
		x.timer.Stop()
	}
}

// decideExtend says whether the outcome of r, an extend, is certain, and which one it is:
// lost, unknown (with the reason), or else confirmed. last as in wait. mu is held.
func (h *hold) decideExtend(r *round, last bool) (certain, lost bool, unknown error) {
	n, q := len(h.l.nodes), h.l.opts.Quorum
	yes, no, open := r.count(script.Confirmed), r.count(script.Missing)+r.count(script.Taken), r.count(script.Silent)
	if last {
		open = 0
	}
	switch {
	case yes >= q:
		// A quorum has my value until ttl after this round began; the nodes that
		// may have forgotten another's promise are not in it.
		h.ttl, h.until, h.grown = r.ttl, r.until, true
		h.conclude(r, completeExtend(0))
		return true, false, nil
	case no > n-q:
		return true, true, nil // no quorum can have my value: another may hold it
	case yes+open < q && no+open <= n-q:
		return true, false, h.unavailable(r, "confirmed it", yes, last)
	}
	return false, false, nil
}

// extendedTo is what an extend returns.
func (h *hold) extendedTo(start time.Time, ttl time.Duration, lost bool, err error) (time.Time, error) {
	if lost {
		// Nothing is freed. That my value is gone from so many nodes does not show that
		// another holds the key: nodes that were away at the grant may have granted it to
		// others, and one that has forgotten mine may not vote yet. Until the expiry that was
		// promised, any other quorum needs one of the nodes that are left, and work goes on
		// until the program knows of the loss. A release after that work frees them, or the ttl.
		h.ends(false)
		n, q := len(h.l.nodes), h.l.opts.Quorum
		return time.Time{}, fmt.Errorf("%w: the lock is gone from or taken on more than %d of %d nodes", lock.ErrLost, n-q, n)
	}
	if err != nil {
		return time.Time{}, err
	}
	return start.Add(ttl - h.l.opts.drift(ttl)), nil
}

// newExtend is the round of an extend that began at start.
func (h *hold) newExtend(start time.Time, ttl time.Duration) *round {
	r := h.newRound(opExtend)
	r.ttl, r.until = script.ToMillis(ttl), node.At(start)+ttl
	return r
}
