package nodeconn

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// dialer makes one node's client. A standalone server's client can be made at any time, and
// connects by itself. The client of a Cluster, or of Sentinels, can only be made while some
// of these are up, so that is tried again when the node is asked.
type dialer struct {
	option  rueidis.ClientOption
	cluster bool
	use     func(rueidis.Client) // makes it the node's client
	group   *sync.WaitGroup
	begin   func(goroutines int) error
	conns   *connector
	greeter *greeter

	gen atomic.Pointer[generation] // the present client; nil: none yet

	mu       sync.Mutex    // guards all below; not held while connecting
	busy     chan struct{} // closed when the connect under way ends; nil if there is none
	closed   bool
	nextAt   time.Time // earliest time of the next connect
	lastErr  error
	all      []*generation // those that are open
	aging    *time.Timer   // ends the present one's time
	renewing bool          // the next one is being made
	renewAt  time.Time     // earliest time to replace one that leads astray
	pause    time.Duration // between two of those
}

func newDialer(u *URL, o *Options, use func(rueidis.Client)) *dialer {
	d := &dialer{cluster: u.cluster, use: use, group: o.Group, begin: o.Begin, greeter: u.greeter(o)}
	d.conns = newConnector(d.greeter.connect, u.connectWait(o), u.connectLimit())
	d.option = u.client(o)
	d.option.DialCtxFn = d.conns.dial
	d.greeter.lost = d.warm
	return d
}

// warm has the node connected again soon after a connection was lost, and not only when
// it is next asked: with a slow name server that can be too late for a lease.
func (d *dialer) warm() {
	time.AfterFunc(jittered(warmPause), func() {
		if d.begin(1) != nil {
			return
		}
		defer d.group.Done()
		if d.gen.Load() != nil {
			c := &current{d: d}
			_ = c.Do(context.Background(), c.B().Ping().Build()).Error()
		}
	})
}

// warmPause is long enough for the client library to see that the connection is lost. It is
// jittered, so that many processes do not connect at once.
const warmPause = 200 * time.Millisecond

// redial is how long after a connect that failed no other one is begun by ask.
const redial = time.Second

// ask waits for a connect that is under way, and begins one unless that was tried just
// now; the dial timeout bounds both.
func (d *dialer) ask() {
	d.mu.Lock()
	due := d.busy != nil || !time.Now().Before(d.nextAt)
	d.mu.Unlock()
	if due {
		d.connect()
	}
}

// connect makes the client, if there is none, or waits for the call that is making it.
func (d *dialer) connect() {
	d.mu.Lock()
	if busy := d.busy; busy != nil {
		d.mu.Unlock()
		<-busy
		return
	}
	if d.closed || d.gen.Load() != nil {
		d.mu.Unlock()
		return
	}
	busy := make(chan struct{})
	d.busy = busy
	d.mu.Unlock()
	client, err := rueidis.NewClient(d.option)
	d.mu.Lock()
	defer d.mu.Unlock()
	defer close(busy)
	d.busy, d.lastErr, d.nextAt = nil, err, time.Now().Add(redial)
	if client == nil {
		return
	}
	if d.closed {
		client.Close()
		return
	}
	d.install(client)
}

func (d *dialer) close() {
	d.mu.Lock()
	d.closed, d.lastErr = true, nodeerr.ErrClosed
	if d.aging != nil {
		d.aging.Stop()
	}
	d.mu.Unlock()
	d.conns.close()
	d.closeAll()
}

func (d *dialer) note(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastErr = err
}

func (d *dialer) last() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lastErr
}
