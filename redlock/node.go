package redlock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// node is one vote. Requests to it are sent without a deadline of their own: only
// its answer or the death of the connection ends one (the client's
// ConnWriteTimeout sees to that), so that what follows it on this node can never
// overtake it. Those who wait for the answer have their own deadlines.
type node struct {
	name string // address, without credentials
	opts *settings
	log  *slog.Logger
	wg   *sync.WaitGroup // the locker's

	client atomic.Pointer[rueidis.Client] // nil: not connected yet
	dial   *dialer                        // connects it; nil for a caller's own client

	// durable is the run in which the node's configuration was seen to be durable.
	durable atomic.Pointer[string]
	// probing holds one token, which guards the two below: a mutex that is held over
	// I/O would stop the clock of a synctest bubble.
	probing chan struct{}
	probed  string    // the run of the last probe
	nextAt  time.Time // when to probe that run again

	notes notes

	batch batcher

	inflight atomic.Int64 // requests without an answer
	progress atomic.Int64 // when the node last showed life: time since epoch
}

// epoch makes monotonic readings fit an atomic integer.
var epoch = time.Now()

// maxUnanswered is how many requests may pile up at a node that does not answer
// before new attempts leave it out.
const maxUnanswered = 256

var (
	errConnecting = errors.New("not connected yet")
	errNoAnswer   = errors.New("no answer")
)

// take makes c the node's client.
func (n *node) take(c rueidis.Client) {
	c = patient{c, n.wg} // what it leads to can be replaced, see current
	n.client.Store(&c)
}

func (n *node) conn() (rueidis.Client, error) {
	if c := n.client.Load(); c != nil {
		return *c, nil
	}
	return n.dial.ask()
}

// ask hands a request in and returns; its caller, who is told of the answer, has
// begun, so that the locker waits for it.
func (n *node) ask(c *call) {
	if n.opts.OnRequest != nil {
		c.start = time.Now()
	}
	if n.inflight.Add(1) == 1 {
		n.progress.Store(int64(time.Since(epoch)))
	}
	if n.batch.add(c) {
		n.wg.Add(1)
		go n.work()
	}
}

// finish hands an answer to who asked.
func (n *node) finish(c *call, a answer) {
	if !broken(a.err) { // the end of a connection is no sign of life
		n.progress.Store(int64(time.Since(epoch)))
	}
	n.inflight.Add(-1)
	if n.opts.OnRequest != nil {
		n.opts.OnRequest(n.name, time.Since(c.start), ownTimeout(a.err))
	}
	if a.err != nil && n.dial != nil {
		n.dial.replied(nil, a.err) // one of a batch has its error within
	}
	n.answered(a.err)
	c.who.done(c, a)
}

// eval runs a script, and returns when the node has answered or the connection has
// died.
func (n *node) eval(s *script, k keys, args ...string) answer {
	w := make(await, 1)
	c := newCall(w, s, k)
	c.put(args...)
	n.ask(c)
	return <-w
}

// await is a caller that waits.
type await chan answer

func (w await) done(c *call, a answer) {
	c.recycle()
	w <- a
}

// stuck reports that requests pile up unanswered. An attempt then leaves the node
// out, where it would only wait behind them.
func (n *node) stuck() error {
	quiet := n.quiet()
	if n.inflight.Load() < maxUnanswered || n.atWork(quiet) {
		return nil
	}
	return fmt.Errorf("%w for %v, with %d requests waiting", errNoAnswer, quiet.Round(time.Millisecond), n.inflight.Load())
}

// refuses is why this must not be asked of the node.
func (n *node) refuses(o *op) error {
	if !o.attempt {
		return nil
	}
	return n.stuck()
}

// quiet is for how long the node has shown no sign of life, if it was asked.
func (n *node) quiet() time.Duration { return time.Since(epoch) - time.Duration(n.progress.Load()) }

// atWork: a node at work answers all the time.
func (n *node) atWork(quiet time.Duration) bool { return quiet < n.opts.NodeTimeout/4 }

// pace holds a new attempt back while many requests wait at a node that is at
// work: decided by the fastest nodes alone, attempts would pile up at the slowest
// without end. It is bounded, and a node that hangs holds nobody back.
func (l *Locker) pace(ctx context.Context) {
	for wait := 0 * time.Millisecond; wait < maxPace && ctx.Err() == nil; wait += paceStep {
		behind := false
		for _, n := range l.nodes {
			behind = behind || n.inflight.Load() > maxUnanswered/2 && n.atWork(n.quiet())
		}
		if !behind {
			return
		}
		time.Sleep(paceStep)
	}
}

const (
	paceStep = 250 * time.Microsecond
	maxPace  = 20 * time.Millisecond
)

// mayVote are the arguments by which a script knows whether the node may vote:
// the uptime in seconds that it must have, and a run in which it needs none.
func (n *node) mayVote() (least, durable string) {
	if r := n.durable.Load(); r != nil {
		durable = *r
	}
	return n.opts.least, durable
}

// durableArg is where acquire and extend have the latter.
const durableArg = 4

// voted notes what a node said of its right to vote.
func (n *node) voted(rep reply) {
	switch {
	case rep.kind == recovering || rep.kind == prolonged:
		n.sitsOut(rep)
	case rep.unguarded && n.opts.RestartGuard != -1 && !n.opts.AssumeDurable:
		n.unguarded()
	}
}

// probe reports whether the node is durable in this run, and remembers it. It asks
// the node at most once in 5 seconds for each run.
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
	c, err := n.conn()
	if err != nil || c.Mode() == rueidis.ClientModeCluster {
		return false // it would tell of any one of its servers
	}
	conf, err := durability(ctx, c)
	if err != nil || !conf.durable() {
		return false
	}
	// The configuration belongs to the run that is there after it was read, and
	// that is the run which asks: a restart in between would show.
	if now, err := currentRun(ctx, c); err != nil || now != run {
		return false
	}
	n.durable.Store(&run)
	n.log.Debug("redis node is durable and votes without waiting for the restart guard", "node", n.name)
	return true
}

// config is what decides whether a node forgets.
type config map[string]string

func durability(ctx context.Context, c rueidis.Client) (config, error) {
	conf := config{}
	for _, name := range []string{"appendonly", "appendfsync", "no-appendfsync-on-rewrite"} {
		got, err := c.Do(ctx, c.B().Arbitrary("CONFIG", "GET", name).Build()).AsStrMap()
		if err != nil {
			return nil, err
		}
		conf[name] = got[name]
	}
	return conf, nil
}

// durable: what was answered has been written and synced before, whatever follows.
func (c config) durable() bool {
	return c["appendonly"] == "yes" && c["appendfsync"] == "always" && c["no-appendfsync-on-rewrite"] == "no"
}

func currentRun(ctx context.Context, c rueidis.Client) (string, error) {
	info, err := c.Do(ctx, c.B().Info().Section("server").Build()).ToString()
	if err != nil {
		return "", err
	}
	return parseInfo(info)["run_id"], nil
}

func parseInfo(info string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// ms is d in whole milliseconds, rounded up: a node never holds for less than was
// asked.
func ms(d time.Duration) string {
	return strconv.FormatInt(roundUp(d, time.Millisecond), 10)
}

// roundUp is how many units d, 0 or more, takes.
func roundUp(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit > 0 {
		n++
	}
	return n
}
