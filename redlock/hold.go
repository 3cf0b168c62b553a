package redlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// hold is one attempt to take a key, and the lease that comes of it: the requests to
// every node, and their answers. On each node its requests run one after another, so
// that a release never overtakes an acquire, an extend or a repair.
type hold struct {
	l     *Locker
	key   string
	keys  script.Keys
	value string // new for every attempt: nothing of one attempt touches another's

	stood *standing // the wait that this came of; nil: none

	// mu guards all below, and the replies of every round. It is taken before a
	// node's.
	mu        sync.Mutex
	token     uint64        // 0 until it is certain
	ttl       script.Millis // of the grant or the last extend that a quorum confirmed
	until     time.Duration // of node.Now: when that is over
	grown     bool          // it is for longer than the claim that a hand-over grants
	raising   bool          // its token is being raised: nothing is repaired meanwhile
	repaired  bool          // a repair was wanted: from then on its token can't be raised
	wake      chan struct{} // sent on when the outcome of the round that wait is for may be certain; else nil
	releasing bool          // from here on no count is raised, and no lock repaired
	released  bool          // ends was called: a release may have been applied, with its reply lost
	freed     bool          // that was for a release that frees the lock at once
	extending *extending    // an extend that was started and is under way
	slots     []slot        // one a node
	few       [3]slot       // where slots usually are
}

// slot is what this hold has under way on one node.
type slot struct {
	busy  bool
	round *round        // under way
	call  *ask          // its request, once there is one
	cut   chan struct{} // not nil: it is asked after a pause; closed to end that
	next  *round        // is sent when round has its answer; a newer one replaces it
	asked bool          // something was sent to the node
	// doubt: a connection died with a request that sets the lock, and nothing shows
	// yet whether that request will still arrive.
	doubt bool
}

// op is what a round asks of a node.
type op struct {
	request func(h *hold, n *node.Node, r *round, prev reply) script.Request
	parse   func(rueidis.RedisMessage) (script.Reply, error) // nil: its answer is of no use
	// sets the lock, so that its late arrival leaves one.
	sets bool
	// attempt: it is left out at a node where requests pile up.
	attempt bool
	// votes: the answer can be that the node may have forgotten. Then the node is asked
	// whether it is durable (see node.Probe), since a durable one has forgotten nothing.
	votes bool
	class node.Class
}

// round asks all nodes the same in parallel.
type round struct {
	op      *op
	ttl     script.Millis
	token   uint64
	frees   bool          // a release: not sent to a node that was never asked
	leaves  script.Token  // of a release: what nodes that lag are brought up to
	full    []bool        // nodes that are left out, since they have no room; nil: none
	pause   time.Duration // it is asked after that
	until   time.Duration // of node.Now: nobody wants it after that; 0: always wanted
	kept    time.Time     // of opKeep: until when the lock is to be kept
	enough  int           // fewer answers decide nothing
	answers int
	replies []reply
	// followUp, set with the outcome, gives what a node with this answer is to be asked
	// next: to raise its count, to repair its lock, or to take its grant back. It is used
	// for answers that come late, too.
	followUp func(h *hold, i int, rep reply) *round
}

func (h *hold) newRound(do *op) *round {
	n, q := len(h.l.nodes), h.l.opts.Quorum
	return &round{
		op:      do,
		enough:  min(q, n-q+1), // for a quorum, or to leave none
		replies: make([]reply, n),
	}
}

// send starts r on every node where nothing of this hold is under way, and queues
// it where something is. Its callers have called begin, so that the locker waits for it.
func (h *hold) send(r *round) {
	h.mu.Lock()
	defer h.unlock()
	h.sendAll(r)
}

// sendAll is send with mu held.
func (h *hold) sendAll(r *round) {
	for i := range h.slots {
		s := &h.slots[i]
		switch {
		case !s.busy:
			s.busy = true
			h.l.wg.Add(1)
			h.start(i, r, reply{})
		case s.cut != nil || r.frees:
			s.next = r
			h.recall(i)
		default:
			s.next = r
		}
	}
}

// recall takes back the request to node i if it was not sent yet: nobody wants it any
// more. What follows it is sent at once. mu is held.
func (h *hold) recall(i int) {
	s := &h.slots[i]
	switch {
	case s.cut != nil:
		close(s.cut)
	case s.call != nil && s.call.Class != node.Freeing && h.l.nodes[i].Withdraw(&s.call.Call):
		s.call.recycle()
	default:
		return
	}
	next, prev := h.record(i, s.round, notAsked(errRecalled))
	h.start(i, next, prev)
}

var errRecalled = errors.New("not asked: the outcome was known before")

// start asks node i for r. If that need not or must not be asked, it records so, and goes
// on with what follows. The node's slot is busy until nothing follows. prev is the answer
// that r follows. mu is held.
func (h *hold) start(i int, r *round, prev reply) {
	n, s := h.l.nodes[i], &h.slots[i]
	for r != nil {
		s.round = r
		if r.frees && !s.asked { // what was never asked for is not there
			r, prev = h.record(i, r, reply{Reply: script.Reply{Kind: script.Missing}, fate: node.NeverSent})
			continue
		}
		if r.pause > 0 {
			s.cut = make(chan struct{})
			h.l.wg.Add(1)
			go h.startLater(i, r, prev, s.cut)
			return
		}
		if err := r.refused(n, r.full != nil && r.full[i]); err != nil {
			r, prev = h.record(i, r, notAsked(err))
			continue
		}
		h.ask(i, r, prev)
		return
	}
	h.l.wg.Done()
}

// refused is why r must not be asked of the node; full: it has no room for it.
func (r *round) refused(n *node.Node, full bool) error {
	if !r.op.attempt {
		return nil
	}
	return n.Refuses(full)
}

// startLater is start after a pause, unless that is cut short.
func (h *hold) startLater(i int, r *round, prev reply, cut chan struct{}) {
	defer h.l.wg.Done()
	n := h.l.nodes[i]
	n.Pause(r.frees)
	defer n.EndPause(r.frees)
	pause := time.NewTimer(r.pause)
	defer pause.Stop()
	var err error
	select {
	case <-pause.C:
		err = r.refused(n, !n.HasRoom())
	case <-h.l.done:
		err = lock.ErrClosed
	case <-cut:
		return
	}
	h.mu.Lock()
	defer h.unlock()
	s := &h.slots[i]
	if s.cut != cut { // it was cut at the same moment, and what follows has begun
		return
	}
	if s.cut = nil; err == nil {
		h.ask(i, r, prev)
		return
	}
	next, prev := h.record(i, r, notAsked(err))
	h.start(i, next, prev)
}

// record takes node i's answer to r, and gives what is to do there next. mu is held.
func (h *hold) record(i int, r *round, rep reply) (next *round, prev reply) {
	s := &h.slots[i]
	s.round, s.call, s.cut = nil, nil, nil
	s.asked = s.asked || rep.fate != node.NeverSent
	switch {
	case r.op.sets && rep.fate == node.MayArrive:
		s.doubt = true
	case rep.Kind == script.Freed:
		s.doubt = false // the request in doubt has arrived: this has freed what it set
	}
	rep.doubt = s.doubt
	r.replies[i] = rep
	r.answers++
	if r.answers >= r.enough {
		if h.extending != nil && h.extending.r == r {
			h.extending.decide(r.answers == len(r.replies))
		} else {
			select {
			case h.wake <- struct{}{}: // (it is nil if nobody waits)
			default:
			}
		}
	}
	next, s.next = s.next, nil
	if next == nil && r.followUp != nil {
		next = r.followUp(h, i, rep)
	}
	s.busy = next != nil
	return next, rep
}

// conclude ends r with an outcome: followUp says what is asked next of the nodes that have
// answered, and of the others when they do. mu is held.
func (h *hold) conclude(r *round, followUp func(h *hold, i int, rep reply) *round) {
	r.followUp = followUp
	for i, rep := range r.replies {
		if h.slots[i].busy {
			continue
		}
		if next := followUp(h, i, rep); next != nil {
			h.slots[i].busy = true
			h.l.wg.Add(1)
			h.start(i, next, rep)
		}
	}
}

// wait returns once decide, called with mu held, says that the outcome is certain.
// After the node timeout the nodes without an answer have failed; decide is then
// called with last set, and decides.
func (h *hold) wait(ctx context.Context, r *round, decide func(last bool) bool) error {
	return h.waitFor(ctx, r, h.l.opts.NodeTimeout, decide)
}

// waitFor is wait with another timeout.
func (h *hold) waitFor(ctx context.Context, r *round, timeout time.Duration, decide func(last bool) bool) error {
	timer, ok := h.l.timers.Get().(*time.Timer)
	if ok {
		timer.Reset(timeout)
	} else {
		timer = time.NewTimer(timeout)
	}
	// (A late send of an earlier wait may be in it: decide is then called once too often.)
	wake, ok := h.l.wakes.Get().(chan struct{})
	if !ok {
		wake = make(chan struct{}, 1)
	}
	h.mu.Lock()
	h.wake = wake
	certain := decide(r.answers == len(r.replies))
	h.mu.Unlock()
	defer func() {
		timer.Stop() // nothing is received from it after this, so that it can be used again
		h.l.timers.Put(timer)
		h.mu.Lock()
		h.wake = nil
		h.mu.Unlock()
		h.l.wakes.Put(wake)
	}()
	for !certain {
		var last bool
		select {
		case <-wake: // perhaps for an earlier round: decide sees that
		case <-timer.C:
			last = true
		case <-ctx.Done():
			return ended(ctx)
		}
		h.mu.Lock()
		certain = decide(last || r.answers == len(r.replies))
		h.mu.Unlock()
	}
	return nil
}

// count is how many nodes gave an answer of this kind. mu is held.
func (r *round) count(k script.Kind) int {
	n := 0
	for i := range r.replies {
		if r.replies[i].Kind == k {
			n++
		}
	}
	return n
}

// unavailable reports why there was no quorum, node by node; last as in wait. mu is
// held.
func (h *hold) unavailable(r *round, what string, n int, last bool) error {
	var nodes *multierror.Error
	denied := 0
	for i, rep := range r.replies {
		if err := rep.reason(h.l.opts.NodeTimeout, last); err != nil {
			nodes = multierror.Append(nodes, fmt.Errorf("node %s: %w", h.l.nodes[i].Name, err))
			if nodeerr.Denied(err) {
				denied++
			}
		}
	}
	kind := lock.ErrUnavailable
	if r.op.attempt && denied > len(r.replies)-h.l.opts.Quorum && !h.l.served.Load() {
		kind = lock.ErrRefused // no quorum is left that asking again could reach
	}
	err := fmt.Errorf("%w: %d of %d nodes %s, want %d", kind, n, len(r.replies), what, h.l.opts.Quorum)
	if nodes == nil {
		return err
	}
	nodes.ErrorFormat = oneLine
	return fmt.Errorf("%w: %w", err, nodes)
}
