package nodeconn

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

const (
	// ConnectLimit is how long a connection may take to be made: a look-up of a name
	// with a dead nameserver takes up to 10s. Nobody waits that long, see connector.
	ConnectLimit = 15 * time.Second
	// hedge is after what time without an answer a connection is tried beside the one
	// that is under way. A connection that began while the network was down would else
	// hold up its node for the whole limit after the network is back.
	hedge = 200 * time.Millisecond
	// slowHedge is the longest pause between further tries, unless the node is far, and
	// the pause while a name is looked up.
	slowHedge = time.Second
	mostTries = 6 // at once; a further one takes the place of the oldest
	// A finished connection, or its error, that nobody waits for is kept so long for the
	// next request that needs one.
	keepConn, keepError = 10 * time.Second, time.Second
)

// OpenFunc opens one connection to an address; without a TLS configuration, a plain one.
type OpenFunc func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

// connector makes the connections to a node. A caller that needs one waits for it no longer
// than for an answer. After that it goes on being made in the background, and the next
// caller takes it over. So a slow name server, or a far node with TLS, delays a node's vote,
// and does not take it away. Several tries can be under way for one connection: the first on
// which the server has answered is used.
type connector struct {
	try   OpenFunc      // once, until the server has answered
	wait  time.Duration // of each who needs a connection
	limit time.Duration

	life context.Context // ends with close
	stop context.CancelFunc
	wg   sync.WaitGroup // every goroutine

	mu     sync.Mutex // guards all below
	closed bool
	making []*connecting            // those that are not finished
	left   map[string][]*connecting // by address: nobody waits for them
	usual  Timing                   // of the last one that succeeded
}

// connecting is a connection in the making, for one caller.
type connecting struct {
	to    string
	began time.Time
	stage atomic.Pointer[stage] // of its oldest try
	done  chan struct{}         // closed when conn or err is set

	// The connector's mu guards these; once done is closed, conn and err don't change.
	conn   net.Conn
	err    error
	left   bool
	expire *time.Timer
}

func newConnector(try OpenFunc, wait, limit time.Duration) *connector {
	r := &connector{try: try, wait: min(wait, limit), limit: limit, left: map[string][]*connecting{}}
	r.life, r.stop = context.WithCancel(context.Background())
	return r
}

// unconnected is the error of a connection that took too long: what it still waits for.
type unconnected struct {
	after time.Duration
	named time.Duration // how much of it went to look up the name
	what  string
	at    step
	going bool // it goes on in the background
}

func (e *unconnected) Error() string {
	after := e.after.Round(10 * time.Millisecond)
	if after >= time.Second {
		after = after.Round(100 * time.Millisecond)
	}
	switch e.at {
	case stepTLS:
		return fmt.Sprintf("not connected after %v: %s", after, noHandshake)
	case stepServer:
		return fmt.Sprintf("%v within %v on a new connection", nodeerr.ErrNoAnswer, after)
	}
	return fmt.Sprintf("not connected after %v: still %s", after, e.what)
}

// Is: a server that takes connections and says nothing hangs as any other.
func (e *unconnected) Is(target error) bool {
	return target == nodeerr.ErrNoAnswer && e.at == stepServer
}

// dial is the DialCtxFn of a client.
func (r *connector) dial(ctx context.Context, addr string, d *net.Dialer, conf *tls.Config) (net.Conn, error) {
	c, err := r.begin(addr, d, conf)
	if err != nil {
		return nil, err
	}
	wait := time.NewTimer(r.wait)
	defer wait.Stop()
	select {
	case <-c.done:
		return c.conn, c.err
	case <-wait.C:
		if err = c.pending(); time.Since(c.began) >= r.limit { // its limit is over: done is closed now
			<-c.done
			return c.conn, c.err
		}
	case <-ctx.Done():
		err = ctx.Err()
	case <-r.life.Done():
		err = nodeerr.ErrClosed
	}
	r.leave(c)
	return nil, err
}

// pending is what c waits for.
func (c *connecting) pending() error {
	s := c.stage.Load()
	return &unconnected{after: time.Since(c.began), named: s.naming(), what: s.String(), at: s.step(), going: true}
}

// pending is what the oldest connection in the making waits for, if there is one.
func (r *connector) pending() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.making) == 0 {
		return nil
	}
	return r.making[0].pending()
}

// begin takes over one that nobody waits for, or starts one.
func (r *connector) begin(addr string, d *net.Dialer, conf *tls.Config) (*connecting, error) {
	to := fmt.Sprint(addr, forSentinel(d))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nodeerr.ErrClosed
	}
	if left := r.left[to]; len(left) > 0 {
		c := left[0]
		r.forget(c)
		return c, nil
	}
	c := &connecting{to: to, began: time.Now(), done: make(chan struct{})}
	c.stage.Store(newStage())
	r.making = append(r.making, c)
	r.wg.Go(func() {
		conn, err := r.race(c, addr, d, conf)
		r.finish(c, conn, err)
	})
	return c, nil
}

func (r *connector) finish(c *connecting, conn net.Conn, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed && conn != nil {
		_ = conn.Close()
		conn, err = nil, nodeerr.ErrClosed
	}
	r.making = slices.DeleteFunc(r.making, func(other *connecting) bool { return other == c })
	c.conn, c.err = conn, err
	close(c.done)
	if c.left {
		r.keep(c)
	}
}

// leave gives c up, for the next who needs a connection to that address.
func (r *connector) leave(c *connecting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.left = true
	r.left[c.to] = append(r.left[c.to], c)
	select {
	case <-c.done:
		r.keep(c)
	default:
	}
}

// keep bounds for how long a finished one is kept. mu is held.
func (r *connector) keep(c *connecting) {
	if r.closed {
		r.drop(c)
		return
	}
	d := keepConn
	if c.err != nil {
		d = keepError
	}
	c.expire = time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if c.left { // nobody has taken it over meanwhile
			r.drop(c)
		}
	})
}

// forget takes c out of those that are left. mu is held.
func (r *connector) forget(c *connecting) {
	c.left = false
	if c.expire != nil {
		c.expire.Stop()
	}
	r.left[c.to] = slices.DeleteFunc(r.left[c.to], func(other *connecting) bool { return other == c })
	if len(r.left[c.to]) == 0 {
		delete(r.left, c.to)
	}
}

// drop ends a finished one. mu is held.
func (r *connector) drop(c *connecting) {
	r.forget(c)
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// close ends what is under way, and returns when it has ended.
func (r *connector) close() {
	r.mu.Lock()
	r.closed = true
	var finished []*connecting
	for _, left := range r.left {
		for _, c := range left {
			select {
			case <-c.done:
				finished = append(finished, c)
			default: // finish drops it
			}
		}
	}
	for _, c := range finished {
		r.drop(c)
	}
	r.mu.Unlock()
	r.stop()
	r.wg.Wait()
}

// usually is what the last connection took.
func (r *connector) usually() Timing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.usual
}

// attempt is one try of a race.
type attempt struct {
	stage  *stage
	cancel context.CancelFunc
	over   bool // another one has its place
}

// race makes tries until the first has an outcome, or the limit is over.
func (r *connector) race(c *connecting, addr string, d *net.Dialer, conf *tls.Config) (net.Conn, error) {
	ctx, stop := context.WithTimeout(r.life, r.limit)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop() // ends those that are not needed
	type result struct {
		of   *attempt
		conn net.Conn
		err  error
	}
	results := make(chan result)
	var tries []*attempt
	start := func() {
		ctx, cancel := context.WithCancel(ctx)
		a := &attempt{stage: newStage(), cancel: cancel}
		tries = append(tries, a)
		running.Go(func() {
			conn, err := r.try(withStage(ctx, a.stage), addr, d, conf)
			select {
			case results <- result{a, conn, err}:
			case <-ctx.Done():
				if err == nil {
					_ = conn.Close()
				}
			}
		})
	}
	start()
	pace := max(hedge, 2*r.usually().Total()) // a far node takes longer
	more := time.NewTimer(pace)
	defer more.Stop()
	for {
		c.stage.Store(tries[0].stage)
		select {
		case res := <-results: // also a refusal: it is an answer
			if res.of.over {
				if res.err == nil {
					_ = res.conn.Close()
				}
				continue
			}
			if res.err != nil && ctx.Err() != nil {
				continue // ctx has ended: its case below gives a better reason
			}
			if res.err == nil {
				r.mu.Lock()
				r.usual = res.of.stage.ended()
				r.mu.Unlock()
			}
			return res.conn, res.err
		case <-more.C:
			var room bool
			if tries, room = makeRoom(tries); room {
				start()
			}
			pace = max(pace, min(2*pace, slowHedge))
			more.Reset(pace)
		case <-ctx.Done():
			if r.life.Err() != nil {
				return nil, nodeerr.ErrClosed
			}
			s := tries[0].stage
			return nil, &unconnected{after: time.Since(c.began), what: s.String(), at: s.step()}
		}
	}
}

// makeRoom reports whether one more try makes sense. If there are mostTries, it ends the
// oldest, which has less of a chance than a new one. While a name is looked up, a new try
// begins only after slowHedge, since all of them would connect at once when the name is
// known; and such a try is never ended.
func makeRoom(tries []*attempt) (rest []*attempt, room bool) {
	if last := tries[len(tries)-1].stage; last.resolving() && last.age() < slowHedge {
		return tries, false
	}
	if len(tries) < mostTries {
		return tries, true
	}
	old := slices.IndexFunc(tries, func(a *attempt) bool { return !a.stage.resolving() })
	if old < 0 {
		return tries, false
	}
	tries[old].over = true
	tries[old].cancel()
	return slices.Delete(tries, old, old+1), true
}
