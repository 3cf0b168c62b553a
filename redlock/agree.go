package redlock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// agreement is what this client knows of the terms (nodes, quorum and guard) that each node
// keeps for the clients of a prefix. A lease is granted only while a quorum of nodes has
// this client's terms for certain, and none is known to have others. They stay there for as
// long as the lease can, so that a client with other terms meets them on the first node that
// the two share. That takes two requests a node beside the first votes, and one now and then
// later.
type agreement struct {
	l *Locker

	mu      sync.Mutex   // guards all below; nothing is asked while it is held
	at      []agreedNode // one a node
	longest time.Duration
	known   int           // grows with what this client knows of the servers
	round   *agreeing     // the one under way
	begun   bool          // one has ended: all nodes have been asked
	changed chan struct{} // closed when a node has answered, or failed to
	asleep  func() time.Duration

	// When keep last did its work (of node.Now), and for which ttl.
	kept, keptTTL atomic.Int64
}

// agreedNode is how one node stands.
type agreedNode struct {
	until time.Duration // of node.Now: until then it certainly has this client's terms
	runs  []string      // of the server, as this client has seen them: the last is the present one
	port  string
	seen  time.Time     // when the present run was last seen
	up    time.Duration // its uptime then
	busy  bool          // it is being asked
	sent  time.Time
	err   error // why it has not agreed

	known int // agreement.known when its terms were made

	// doubtful: its terms have a node of which nothing shows whether it is one of this
	// client's. Their writer may know soon.
	doubtful bool

	shown bool // it has shown in this round what it has: there, for the time left
	there string
	left  time.Duration

	refusal error     // it has other clients' terms
	refused time.Time // until when that is so, unless somebody uses them again
	logged  string    // the cause of the last line about it in the log
}

const (
	// leastRemembered is the least time for which terms are remembered, and the other one
	// is it where the guard is off, so that no bound of ttls is known.
	leastRemembered          = time.Second
	leastRememberedUnguarded = 15 * time.Second
	// maxRuns is how many of a server's runs are remembered, to know it by.
	maxRuns = 8
	// agreeGrace is how many times as long as the quorum took a round waits for the
	// slowest nodes: they may know of other terms. A quarter of the node timeout, at most.
	agreeGrace = 100
	agreeTries = 4
	// never is agreedNode.until of a node that has not agreed: before any reading of the clock.
	never time.Duration = math.MinInt64
)

var (
	errNotAgreed = errors.New("it has not shown yet whether other clients have the same nodes")
	errNoQuorum  = errors.New("it is asked to agree once a quorum of nodes answers")
)

func newAgreement(l *Locker) *agreement { return &agreement{l: l} }

// remembered is for how long a node keeps the terms after they were last used: as long
// as a lease can stand. mu is held.
func (a *agreement) remembered() time.Duration {
	if guard := a.l.opts.RestartGuard; guard != -1 {
		return max(guard, leastRemembered)
	}
	return max(a.longest, leastRememberedUnguarded)
}

// mayAsk fails if a node is known to have others' terms, and has them still: votes are
// not asked for then.
func (a *agreement) mayAsk(ctx context.Context, ttl time.Duration) error {
	a.mu.Lock()
	refusal := a.refusal()
	a.mu.Unlock()
	if refusal == nil {
		return nil
	}
	return a.wait(ctx, ttl)
}

// wait returns nil once a quorum of nodes has this client's terms and none is known to
// have others: the votes count then. It waits for nothing while that is so, and for the
// node timeout at most.
func (a *agreement) wait(ctx context.Context, ttl time.Duration) error {
	var timer <-chan time.Time
	for over := false; ; {
		a.mu.Lock()
		before := a.round
		ready, refusal := a.refresh(ttl)
		r, changed := a.round, a.changed
		busy := slices.ContainsFunc(a.at, func(s agreedNode) bool { return s.busy })
		a.mu.Unlock()
		switch {
		case ready:
			return nil
		case over || r == nil && (refusal != nil || !busy):
			return a.outcome()
		case r != nil:
			changed, over = r.done, r != before // a new round asks all that are due: it decides
		}
		if timer == nil {
			t := time.NewTimer(a.l.opts.NodeTimeout)
			defer t.Stop()
			timer = t.C
		}
		select {
		case <-changed:
		case <-timer:
			over = true
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// outcome is why there is no agreement now; nil if there is.
func (a *agreement) outcome() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	stand := a.stand()
	switch refusal := a.refusal(); {
	case refusal != nil:
		return refusal
	case stand >= a.l.opts.Quorum:
		return nil
	}
	nodes := &multierror.Error{ErrorFormat: oneLine}
	for i, n := range a.l.nodes {
		s, timeout := &a.at[i], a.l.opts.NodeTimeout
		switch {
		case s.busy && time.Since(s.sent) >= timeout:
			nodes = multierror.Append(nodes, fmt.Errorf("node %s: %w within %v", n.Name, nodeerr.ErrNoAnswer, timeout))
		case s.err != nil:
			nodes = multierror.Append(nodes, fmt.Errorf("node %s: %w", n.Name, s.err))
		}
	}
	return fmt.Errorf("%w: %d of %d nodes agreed on who the nodes are, want %d: %w", lock.ErrUnavailable, stand, len(a.l.nodes), a.l.opts.Quorum, nodes)
}

// keep makes the terms stand for the time of a lease that begins now, without waiting:
// behind the votes or the renewal of that lease, so as not to hold them up.
func (a *agreement) keep(ttl time.Duration) {
	// Of many leases that are extended in one moment, one does this for all whose ttl is no
	// longer: the others would add less time than refresh allows to be missing.
	now := node.Now()
	if ttl <= time.Duration(a.keptTTL.Load()) && now-time.Duration(a.kept.Load()) < min(ttl/64, maxKeepEvery) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refresh(ttl)
	a.keptTTL.Store(int64(ttl))
	a.kept.Store(int64(now))
}

// maxKeepEvery bounds for how long an extend relies on what keep did for another one.
const maxKeepEvery = 10 * time.Millisecond

// refresh gives how the nodes stand, and begins a round if one is due. mu is held.
func (a *agreement) refresh(ttl time.Duration) (ready bool, refusal error) {
	if a.at == nil {
		a.at, a.asleep, a.changed = make([]agreedNode, len(a.l.nodes)), a.l.suspended(), make(chan struct{})
		a.forget()
	}
	if a.asleep() > 0 { // the nodes' clocks went on meanwhile: nothing is certain any more
		a.forget()
		a.asleep = a.l.suspended()
	}
	if a.stand() < a.l.opts.Quorum {
		a.begun = false // a whole round must end again before a quorum decides
	}
	a.longest = max(a.longest, ttl)
	// A little less than the lease's whole time is enough: else each of the longest leases
	// would take a request.
	lasting := node.Now() + ttl - min(a.remembered()/16, ttl/2)
	if refusal = a.refusal(); a.round == nil && slices.ContainsFunc(a.at, func(s agreedNode) bool { return a.due(&s, lasting) }) {
		a.begin(lasting)
	}
	return a.begun && refusal == nil && a.stand() >= a.l.opts.Quorum, refusal
}

// forget makes no node stand for this client's terms. mu is held.
func (a *agreement) forget() {
	for i := range a.at {
		a.lacks(&a.at[i])
	}
}

// lacks makes a node not stand for this client's terms: the next keep asks it. mu is held.
func (a *agreement) lacks(s *agreedNode) {
	s.until = never
	a.keptTTL.Store(0)
}

// due reports whether the node must be asked: because its terms end before lasting, are not
// this client's, lack what this client has learned since, or are in doubt and a node timeout
// has passed. One that failed is left alone for a moment, unless it is needed. mu is held.
func (a *agreement) due(s *agreedNode, lasting time.Duration) bool {
	if s.busy || s.err != nil && time.Since(s.sent) < a.l.opts.NodeTimeout/4 && (a.refusal() != nil || a.stand() >= a.l.opts.Quorum) {
		return false
	}
	return s.refusal != nil || s.known != a.known || s.until < lasting ||
		s.doubtful && time.Since(s.sent) >= a.l.opts.NodeTimeout
}

// stand is how many nodes have this client's terms for certain. mu is held.
func (a *agreement) stand() int {
	n := 0
	for i := range a.at {
		if node.Now() < a.at[i].until {
			n++
		}
	}
	return n
}

// refusal is that of a node which, as far as is known, has others' terms. mu is held.
func (a *agreement) refusal() error {
	for i := range a.at {
		if s := &a.at[i]; s.refusal != nil && time.Now().Before(s.refused) {
			return s.refusal
		}
	}
	return nil
}

// restarted notes that node i is in another run than when it agreed, and may have
// forgotten the terms.
func (a *agreement) restarted(i int, run string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == nil {
		return
	}
	if s := &a.at[i]; len(s.runs) > 0 && s.runs[len(s.runs)-1] != run {
		a.lacks(s)
	}
}
