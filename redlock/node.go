package redlock

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeconn"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	"github.com/tonsurance/lockkeeper/redlock/internal/server"
)

// node is one vote. Requests to it are sent without a deadline of their own: only
// its answer or the death of the connection ends one (the client's
// ConnWriteTimeout sees to that), so that what follows it on this node can never
// overtake it. Those who wait for the answer have their own deadlines.
type node struct {
	name    string // address, without credentials
	opts    *settings
	journal *journal        // the locker's
	wg      *sync.WaitGroup // the locker's

	conn      *nodeconn.Conn
	functions script.Functions // how its server is asked

	// durable is the run of which it was proved that the node is durable since its start.
	durable atomic.Pointer[string]
	// probing holds one token, which guards the two below: a mutex that is held over
	// I/O would stop the clock of a synctest bubble.
	probing chan struct{}
	probed  string    // the run of the last probe
	nextAt  time.Time // when to probe that run again

	// agreed is until when the node certainly has this client's terms: time since epoch.
	agreed    atomic.Int64
	agreement *agreement // the locker's, in which this node has that place
	place     int

	notes notes

	queue queue

	inflight atomic.Int64 // requests without an answer
	pausing  atomic.Int64 // requests of holds that are asked again after a pause
	progress atomic.Int64 // when the node last showed life: time since epoch
}

// epoch makes monotonic readings fit an atomic integer.
var epoch = time.Now()

func sinceEpoch(t time.Time) time.Duration { return t.Sub(epoch) }

// maxBacklog is how many requests may be without an answer at a node before new attempts
// leave it out, if a quorum of the others has room for them. Renewals and releases are
// asked all the same: there are no more of them than leases that the node may have.
const maxBacklog = 256

// ask hands a request in and returns; its caller, who is told of the answer, has
// begun, so that the locker waits for it.
func (n *node) ask(c *call) {
	if n.opts.OnRequest != nil && c.AboutLock() {
		c.start = time.Now()
	}
	if n.inflight.Add(1) == 1 {
		n.progress.Store(int64(time.Since(epoch)))
	}
	if n.queue.add(c) {
		n.wg.Add(1)
		go n.work()
	}
}

// withdraw takes a call back that was not sent yet; its caller is not notified.
func (n *node) withdraw(c *call) bool {
	if !n.queue.withdraw(c) {
		return false
	}
	n.inflight.Add(-1)
	return true
}

// finish hands an answer to who asked.
func (n *node) finish(c *call, a answer) {
	if !nodeerr.Broken(a.err) { // the end of a connection is no sign of life
		n.progress.Store(int64(time.Since(epoch)))
	}
	if n.opts.OnRequest != nil && c.AboutLock() {
		n.opts.OnRequest(n.name, time.Since(c.start), nodeerr.Shown(a.err))
	}
	if a.err != nil {
		n.conn.Replied(a.err) // one of a batch has its error within
	}
	if nodeerr.Broken(a.err) {
		n.failed(a.err)
		a.unsent = a.unsent || n.conn.NeverSent(a.err)
	}
	n.conclude(c, a)
}

// conclude gives a call back to who asked.
func (n *node) conclude(c *call, a answer) {
	n.inflight.Add(-1)
	alone, lock := c.alone, c.Keys.Lock
	c.alone = false
	c.who.done(c, a)
	if alone && n.queue.ended(lock) { // after done: what follows is queued by now
		n.wg.Add(1)
		go n.work()
	}
}

// eval runs a script, and returns when the node has answered or the connection has
// died.
func (n *node) eval(q script.Request, class class) answer {
	w := make(await, 1)
	n.ask(newCall(w, q, class))
	return <-w
}

// await is a caller that waits.
type await chan answer

func (w await) done(c *call, a answer) {
	c.recycle()
	w <- a
}

// hangs reports that requests pile up unanswered. An attempt then leaves the node out,
// where it would only wait behind them.
func (n *node) hangs() error {
	quiet := n.quiet()
	if n.hasRoom() || n.atWork(quiet) {
		return nil
	}
	return fmt.Errorf("%w for %v, with %d requests waiting", nodeerr.ErrNoAnswer, quiet.Round(time.Millisecond), n.inflight.Load())
}

// hasRoom reports that not too many requests wait for the node's answer.
func (n *node) hasRoom() bool { return n.inflight.Load() < maxBacklog }

// refuses is why r must not be asked of the node; full: it has no room for it.
func (n *node) refuses(r *round, full bool) error {
	if !r.op.attempt {
		return nil
	}
	if err := n.hangs(); err != nil {
		return err
	}
	if full {
		return fmt.Errorf("not asked: it is slow, and %d requests wait for it", n.inflight.Load())
	}
	return nil
}

// full marks the nodes without room, which an attempt leaves out: requests of attempts
// that the others decide would pile up there without end. If fewer than a quorum have
// room, it waits at all of them.
func (l *Locker) full() (full []bool) {
	room := len(l.nodes)
	for i, n := range l.nodes {
		if n.hasRoom() {
			continue
		}
		if full == nil {
			full = make([]bool, len(l.nodes))
		}
		full[i] = true
		room--
	}
	if room < l.opts.Quorum {
		return nil
	}
	return full
}

// quiet is for how long the node has shown no sign of life, if it was asked.
func (n *node) quiet() time.Duration { return time.Since(epoch) - time.Duration(n.progress.Load()) }

// atWork: a node at work answers all the time.
func (n *node) atWork(quiet time.Duration) bool { return quiet < n.opts.NodeTimeout/4 }

// guard is by what a script knows whether the node may vote.
func (n *node) guard() script.Guard {
	g := script.Guard{Least: n.opts.least}
	if r := n.durable.Load(); r != nil {
		g.Durable = *r
	}
	return g
}

// voted notes what a node said of its right to vote.
func (n *node) voted(rep reply) {
	if rep.Run != "" {
		n.agreement.restarted(n.place, rep.Run)
	}
	switch {
	case rep.Kind == script.Recovering || rep.Kind == script.Prolonged:
		n.sitsOut(rep)
	case rep.Unguarded && n.opts.RestartGuard != -1 && !n.opts.AssumeDurable:
		n.unguarded()
	}
}

// probe reports whether the node was durable ever since this run began, and remembers
// it. It asks the node at most once in 5 seconds for each run.
func (n *node) probe(run string) bool {
	n.probing <- struct{}{}
	defer func() { <-n.probing }()
	if r := n.durable.Load(); r != nil && *r == run {
		return true
	}
	if n.probed == run && time.Now().Before(n.nextAt) {
		return false
	}
	n.probed, n.nextAt = run, time.Now().Add(5*time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), n.opts.NodeTimeout)
	defer cancel()
	c, err := n.conn.Client()
	if err != nil || c.Mode() == rueidis.ClientModeCluster {
		return false // it would tell of any one of its servers
	}
	conf, info, err := server.Durability(ctx, c)
	// The configuration belongs to the run that is there after it was read, and
	// that is the run which asks: a restart in between would show.
	if err != nil || info["run_id"] != run {
		return false
	}
	if err := server.ProveDurable(conf, info); err != nil {
		n.tell(slog.LevelDebug, "redis node is not proved to be durable and waits for the restart guard", "err", err)
		return false
	}
	n.durable.Store(&run)
	n.tell(slog.LevelDebug, "redis node is durable and votes without waiting for the restart guard")
	return true
}

// roundUp is how many units d, 0 or more, takes.
func roundUp(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit > 0 {
		n++
	}
	return n
}
