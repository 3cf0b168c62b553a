// Package node is one vote: the requests to a node, of which one batch is under way at a time,
// back-pressure, and what is logged of the node. It knows neither locks nor quorums: requests
// are scripts with keys, which it reads only to keep those of one key in order.
package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/redlock/internal/nodeconn"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// Options are those of all nodes of one owner.
type Options struct {
	// Timeout is how long a caller waits for an answer.
	Timeout time.Duration
	// Least is the uptime in seconds that a node needs for a vote, or NoGuard.
	Least string
	// OnRequest is called with each answer to a request about a lock; nil: it is not needed.
	OnRequest func(node string, took time.Duration, err error)
	Journal   *Journal
	// Group counts every goroutine. A caller that asks a node is counted in it meanwhile.
	Group *sync.WaitGroup
}

// Node is one vote. Requests to it are sent without a deadline of their own: only
// its answer or the death of the connection ends one (the client's
// ConnWriteTimeout sees to that), so that what follows it on this node can never
// overtake it. Those who wait for the answer have their own deadlines.
type Node struct {
	Name string // address, without credentials
	Conn *nodeconn.Conn

	o     *Options
	guard guard
	notes notes
	queue queue

	functions script.Functions // how its server is asked

	inflight atomic.Int64 // requests without an answer
	pausing  atomic.Int64 // requests that are asked again after a pause
	progress atomic.Int64 // when the node last showed life: of Now
}

// New makes a node of a connection.
func New(name string, conn *nodeconn.Conn, o *Options) *Node {
	return &Node{Name: name, Conn: conn, o: o, guard: guard{probing: make(chan struct{}, 1)}}
}

var epoch = time.Now()

// Now is a monotonic reading that fits an atomic integer.
func Now() time.Duration { return time.Since(epoch) }

// At is what Now was, or will be, at t.
func At(t time.Time) time.Duration { return t.Sub(epoch) }

// MaxBacklog is how many requests may be without an answer at a node before new attempts
// leave it out, if a quorum of the others has room for them. Renewals and releases are
// asked all the same: there are no more of them than leases that the node may have.
const MaxBacklog = 256

// Ask queues a request and returns. c.Who, who is notified of the answer, is counted in
// Options.Group until then, so that the owner waits for it.
func (n *Node) Ask(c *Call) {
	if n.o.OnRequest != nil && c.AboutLock() {
		c.start = time.Now()
	}
	if n.inflight.Add(1) == 1 {
		n.progress.Store(int64(Now()))
	}
	if n.queue.add(c) {
		n.o.Group.Add(1)
		go n.work()
	}
}

// Withdraw takes a call back that was not sent yet; its caller is not notified.
func (n *Node) Withdraw(c *Call) bool {
	if !n.queue.withdraw(c) {
		return false
	}
	n.inflight.Add(-1)
	return true
}

// finish notes what an answer says of the node, and hands it to the caller.
func (n *Node) finish(c *Call, a Answer) {
	if !nodeerr.Broken(a.Err) { // the end of a connection is no sign of life
		n.progress.Store(int64(Now()))
	}
	if n.o.OnRequest != nil && c.AboutLock() {
		n.o.OnRequest(n.Name, time.Since(c.start), nodeerr.Shown(a.Err))
	}
	if a.Err != nil {
		n.Conn.Replied(a.Err) // the client has not seen it if it is within a batch's reply
	}
	if nodeerr.Broken(a.Err) {
		n.failed(a.Err)
		if n.Conn.NeverSent(a.Err) {
			a.Fate = NeverSent
		}
	}
	n.conclude(c, a)
}

// conclude gives a call back to its caller.
func (n *Node) conclude(c *Call, a Answer) {
	n.inflight.Add(-1)
	alone, lock := c.alone, c.Keys.Lock
	c.alone = false
	c.Who.Done(c, a)
	if alone && n.queue.ended(lock) { // after Done: what follows is queued by now
		n.o.Group.Add(1)
		go n.work()
	}
}

// Eval runs a script, and returns when the node has answered or the connection has
// died.
func (n *Node) Eval(q script.Request, class Class) Answer {
	w := make(await, 1)
	n.Ask(&Call{Request: q, Class: class, Who: w})
	return <-w
}

// await is a caller that waits.
type await chan Answer

// Done implements Caller.
func (w await) Done(_ *Call, a Answer) { w <- a }

// Hangs reports that requests pile up unanswered. An attempt then leaves the node out,
// where it would only wait behind them.
func (n *Node) Hangs() error {
	quiet := n.quiet()
	if n.HasRoom() || n.atWork(quiet) {
		return nil
	}
	return fmt.Errorf("%w for %v, with %d requests waiting", nodeerr.ErrNoAnswer, quiet.Round(time.Millisecond), n.inflight.Load())
}

// HasRoom reports that not too many requests wait for the node's answer.
func (n *Node) HasRoom() bool { return n.inflight.Load() < MaxBacklog }

// Refuses is why an attempt must not ask the node; full: it has no room for it.
func (n *Node) Refuses(full bool) error {
	if err := n.Hangs(); err != nil {
		return err
	}
	if full {
		return fmt.Errorf("not asked: it is slow, and %d requests wait for it", n.inflight.Load())
	}
	return nil
}

// Pause counts a request that is asked after a pause, until EndPause with the same owed. A
// request that is owed is to clean up at the node, and counts against new attempts there.
func (n *Node) Pause(owed bool) {
	n.pausing.Add(1)
	if owed {
		n.inflight.Add(1)
	}
}

// EndPause is the end of a Pause.
func (n *Node) EndPause(owed bool) {
	n.pausing.Add(-1)
	if owed {
		n.inflight.Add(-1)
	}
}

// Pausing is how many requests are asked after a pause.
func (n *Node) Pausing() int64 { return n.pausing.Load() }

// InFlight is how many requests have no answer yet.
func (n *Node) InFlight() int64 { return n.inflight.Load() }

// quiet is for how long the node has shown no sign of life while it was asked something.
func (n *Node) quiet() time.Duration { return Now() - time.Duration(n.progress.Load()) }

// atWork: a node at work answers all the time.
func (n *Node) atWork(quiet time.Duration) bool { return quiet < n.o.Timeout/4 }
