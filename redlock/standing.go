package redlock

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	"github.com/tonsurance/lockkeeper/redlock/internal/waiting"
)

// standing is one wait: the I/O of its state machine, which decides everything.
type standing struct {
	l         *Locker
	key       string
	keys      script.Keys
	id        string // of the wait, in the nodes' queues
	ttl       time.Duration
	claim     time.Duration
	start     time.Time
	suspended func() time.Duration
	queued    atomic.Bool   // its request stands in a node's queue, stood there, or may have
	changed   chan struct{} // outcome may give something else

	mu         sync.Mutex // guards all below; taken before a hold's, and that before a node's
	m          *waiting.Machine
	at         time.Duration  // when the present event was taken in: before what it makes us send
	values     map[int]string // of the attempts
	timer      *time.Timer
	due        time.Duration   // when the timer goes off; 0: it does not
	open       []*standCall    // at each node
	firsts     []standCall     // those that begin the wait: most often there are no others
	errs       []error         // of each node's last answer
	counted    bool            // in the locker's wait group: until nothing is open and nothing owed
	held       *lock.HeldError // to be reported
	reportedAt time.Time
	reported   string // the value of the holder that was reported last
	over       bool   // nothing of it is wanted any more, nor of its lease
	h          *hold  // of the lease
	votes      *round // what the nodes answered to it

	// Of pushes, whose mutex guards them.
	doneWaiting bool      // it has its lease, or has given up
	unwanted    bool      // nothing of it is wanted any more, nor of its lease
	until       time.Time // when it is forgotten
}

// Claims are for a second, so that a waiter that hangs delays those behind it by no more;
// where the network is slow, for several round trips.
const (
	usualClaim = time.Second
	claimTrips = 4
	// refreshShare of a claim is between two refreshes: a request that is granted at any
	// moment leaves more than a quarter of the claim.
	refreshShare = 0.4
)

func (l *Locker) newStanding(ctx context.Context, key string, ttl time.Duration) (*standing, error) {
	k, err := l.checked(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	// Nodes are asked for it in whole milliseconds, rounded up: never for less than this.
	trip := min(time.Duration(l.trip.Load()), l.opts.NodeTimeout)
	claim := min(ttl, max(usualClaim, claimTrips*trip))
	n := len(l.nodes)
	s := &standing{
		l: l, key: key, keys: k, id: rand.Text(), ttl: ttl, claim: claim,
		start: time.Now(), suspended: l.suspended(), changed: make(chan struct{}, 1),
		values: map[int]string{}, open: make([]*standCall, n), firsts: make([]standCall, n), errs: make([]error, n),
	}
	s.m = waiting.New(waiting.Config{
		Nodes: n, Quorum: l.opts.Quorum, ID: s.id, TTL: ttl, Claim: claim,
		TTLDrift: l.opts.drift(ttl), ClaimDrift: l.opts.drift(claim),
		Refresh: time.Duration(refreshShare * float64(claim)), NodeTimeout: l.opts.NodeTimeout, Spread: mathrand.Float64,
	})
	return s, nil
}

// now is for how long the wait has lasted. Durations are counted by the monotonic clock and
// by what the machine was suspended, since the nodes' clocks go on then.
func (s *standing) now() time.Duration { return time.Since(s.start) + s.suspended() }

// begin asks all nodes.
func (s *standing) begin() {
	live := s.l.pushes.add(s)
	s.do(func(now time.Duration) {
		for i, ok := range live {
			if ok {
				s.m.Subscribed(now, i)
			}
		}
		s.m.Begin(now)
	})
}

// do lets the machine take an event in, and does what follows.
func (s *standing) do(event func(now time.Duration)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = s.now()
	event(s.at)
	s.follow()
}

// follow sends what the machine asks for, and notes its outcome. mu is held.
func (s *standing) follow() {
	for acts := s.m.Actions(); len(acts) > 0; acts = s.m.Actions() {
		for _, a := range acts {
			s.send(a)
		}
	}
	if issued, ok := s.m.Lease(); ok && s.h == nil {
		s.leased(issued)
		s.signal()
	}
	if s.h == nil && s.m.Unavailable(s.at) {
		s.signal()
	}
	s.report(s.at)
	s.arm()
	if s.counted && s.m.Done() {
		s.counted = false
		s.l.wg.Done()
	}
}

// arm sets the timer for the machine's deadline. One that has moved to later is met in two
// steps, since most timers never go off. mu is held.
func (s *standing) arm() {
	at, ok := s.m.Deadline()
	switch {
	case !ok && s.timer != nil:
		s.timer.Stop()
		s.due = 0
	case !ok, s.due != 0 && s.due <= at:
	case s.timer == nil:
		s.due = at
		s.timer = time.AfterFunc(at-s.at, func() {
			s.do(func(now time.Duration) {
				s.due = 0
				s.m.Tick(now)
			})
		})
	default:
		s.due = at
		s.timer.Reset(at - s.at)
	}
}

func (s *standing) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// report notes who holds the lock: when that changes, and now and then. mu is held.
func (s *standing) report(now time.Duration) {
	h, ok := s.m.Held(now)
	if !ok || h.Value == s.reported && time.Since(s.reportedAt) < time.Second {
		return
	}
	s.reported, s.reportedAt = h.Value, time.Now()
	s.held = &lock.HeldError{Key: s.key, Holder: holderName(h.Value)}
	if h.Left >= 0 {
		s.held.RetryAfter = max(h.Left, time.Millisecond)
	}
	s.l.agreement.keep(s.ttl) // so that nodes which agreed need not be asked at the hand-over
	s.signal()
}

// outcome is who holds the lock, if that is to be reported; what the wait has come to; or
// why there is no quorum.
func (s *standing) outcome() (held *lock.HeldError, issued *waiting.Lease, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, s.held = s.held, nil
	if s.h != nil {
		l, _ := s.m.Lease()
		return nil, &l, nil
	}
	if s.m.Unavailable(s.at) { // at the time of the event that signalled this
		err = s.unavailable()
	}
	return held, nil, err
}

// unavailable says why, node by node. mu is held.
func (s *standing) unavailable() error {
	nodes := &multierror.Error{ErrorFormat: oneLine}
	failed, refused := 0, false
	for i, n := range s.l.nodes {
		err := s.errs[i]
		if c := s.open[i]; c != nil && err == nil {
			err = (&reply{}).reason(s.l.opts.NodeTimeout, s.at-c.sent >= s.l.opts.NodeTimeout)
		}
		if err != nil {
			failed++
			nodes = multierror.Append(nodes, fmt.Errorf("node %s: %w", n.Name, err))
		}
		refused = refused || nodeerr.Refusal(err) != nil
	}
	if refused {
		return errNoQueue // it may vote all the same
	}
	return fmt.Errorf("%w: %d of %d nodes let it wait, want %d: %w", lock.ErrUnavailable, len(s.l.nodes)-failed, len(s.l.nodes), s.l.opts.Quorum, nodes)
}

// giveUp ends the wait, or the lease that it has come to. The rest goes on in the background.
func (s *standing) giveUp() {
	s.mu.Lock()
	h := s.h
	if h == nil {
		s.end()
	}
	s.mu.Unlock()
	if h != nil {
		h.abandon()
	}
}

// end is called when nothing of the wait is wanted any more, except by the hold that came
// of it. mu is held.
func (s *standing) end() {
	s.l.pushes.remove(s)
	s.over, s.at = true, s.now()
	s.m.End(s.at)
	for _, c := range s.open {
		// What nobody wants and was not sent is not sent, votes of a lease that is over included.
		if c != nil && c.a.Kind == waiting.Stand && s.l.nodes[c.a.Node].Withdraw(&c.Call) {
			s.answered(c, waiting.Answer{Unsent: true}, notAsked(errRecalled))
		}
	}
	s.follow()
}

// closing ends what is left when the locker closes: nothing is tried again.
func (s *standing) closing() {
	s.do(func(time.Duration) { s.m.Hurry() })
}

// pushed takes in a notification of a grant at node i.
func (s *standing) pushed(i int, p script.Push) {
	s.do(func(now time.Duration) {
		if s.m.Pushed(now, i, waiting.Grant{Count: p.Count, Stamp: p.Stamp, Position: int64(p.Position)}) {
			s.h.pushed(i, p.Count)
		}
	})
}

// subscribed: notifications of node i arrive from now on, or no more.
func (s *standing) subscribed(i int, live bool) {
	s.do(func(now time.Duration) {
		if live {
			s.m.Subscribed(now, i)
		} else {
			s.m.Unsubscribed(i)
		}
	})
}

// value is that of an attempt; "" if there is none. mu is held.
func (s *standing) value(attempt int) string {
	if attempt == 0 {
		return ""
	}
	if s.values[attempt] == "" {
		s.values[attempt] = newValue(s.l.opts.Owner)
		delete(s.values, attempt-waiting.Remembered)
	}
	return s.values[attempt]
}

// leased makes the hold of the lease that the wait has come to. The hold takes what the
// nodes have answered, and will answer, for the answers to its round of votes. mu is held.
func (s *standing) leased(issued waiting.Lease) {
	l := s.l
	at := node.Now() // before the clock of the wait: as in take
	l.trip.Store(int64(s.m.QuorumTime()))
	l.pushes.doneWaiting(s)
	h := l.emptyHold(s.key, s.keys, s.value(issued.Attempt))
	h.stood, h.token, h.ttl = s, issued.Token, script.ToMillis(s.claim)
	if issued.Full {
		h.ttl, h.grown = script.ToMillis(s.ttl), s.claim < s.ttl
	}
	h.until = at + issued.Expiry - s.now() + l.opts.drift(s.ttl)
	votes := h.newRound(opStand)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range votes.replies {
		n := s.m.Node(i)
		h.slots[i].asked = n.Asked
		switch {
		case n.Open:
			s.open[i].leased = true
			h.slots[i].busy, h.slots[i].round = true, votes
			l.wg.Add(1)
		case n.Confirmed:
			votes.replies[i] = reply{Reply: script.Reply{Kind: script.Counted, Count: issued.Token}}
		case n.Granted:
			votes.replies[i] = reply{Reply: script.Reply{Kind: script.Granted, Count: n.Count}}
		case n.Failed:
			votes.replies[i] = reply{Reply: script.Reply{Kind: script.Failed}, err: s.errs[i]}
		default: // it stands there, or does not
			votes.replies[i] = reply{Reply: script.Reply{Kind: script.Held}}
		}
		if !n.Open {
			votes.answers++
		}
	}
	s.h, s.votes = h, votes
	h.conclude(votes, completeGrant(0))
}

// released is called when the lease is.
func (s *standing) released() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}
