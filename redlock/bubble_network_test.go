package redlock

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// network carries one client's connections to one node.
type network struct {
	node *fakeNode

	mu      sync.Mutex
	down    bool          // connections are refused, and broken
	hang    bool          // bytes of both directions vanish
	mute    bool          // replies vanish
	refusal error         // why connections are refused; nil is errDown
	delay   time.Duration // replies come later
	// loseNext: the reply to the next script vanishes, and the connection with it.
	loseNext bool
	loseIn   int // so does that to the script so many from now on; 0: none
	// lateNext: the connection of the next request breaks, and the request arrives
	// all the same, so much later.
	lateNext time.Duration
	conns    []net.Conn
}

var errDown = errors.New("connection refused (simulated)")

func (w *network) dial(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down && w.refusal != nil {
		return nil, w.refusal
	}
	if w.down {
		return nil, errDown
	}
	inner, err := w.node.redis.Dial()
	if err != nil {
		return nil, err
	}
	c := newFakeConn(inner, w)
	w.conns = append(w.conns, c)
	return c, nil
}

func (w *network) set(change func(w *network)) {
	w.mu.Lock()
	change(w)
	var broken []net.Conn
	if w.down {
		broken = w.conns
	}
	w.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

func (w *network) rules() (lost, mute bool, delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hang, w.mute, w.delay
}

// losesThis reports, once, that a reply is to be lost.
func (w *network) losesThis() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := w.loseNext
	w.loseNext = false
	if w.loseIn > 0 {
		w.loseIn--
		lost = lost || w.loseIn == 0
	}
	return lost
}

// late reports, once, how late a request arrives whose connection breaks.
func (w *network) late(b []byte) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !bytes.Contains(b, []byte("EVAL")) { // the client library's own PING
		return 0
	}
	d := w.lateNext
	w.lateNext = 0
	return d
}

// fakeConn buffers requests, as a socket does: a pipe would block the writer.
type fakeConn struct {
	net.Conn
	net      *network
	requests chan []byte
	replies  chan []byte
	rest     []byte
	done     chan struct{}
	once     sync.Once

	mu       sync.Mutex
	deadline time.Time
	// moved is closed when the deadline changes.
	moved chan struct{}
}

func newFakeConn(inner net.Conn, w *network) *fakeConn {
	c := &fakeConn{
		Conn: inner, net: w, requests: make(chan []byte, 4096), replies: make(chan []byte, 4096),
		done: make(chan struct{}), moved: make(chan struct{}),
	}
	go c.carryRequests() // both end with the connection; the bubble waits for them
	go c.carryReplies()
	return c
}

func (c *fakeConn) carryRequests() {
	dead := false // a stream that lost bytes carries no more
	for {
		select {
		case b := <-c.requests:
			lost, _, _ := c.net.rules()
			if dead = dead || lost; dead {
				continue
			}
			if late := c.net.late(b); late > 0 {
				c.arriveLate(b, late)
				return
			}
			if _, err := c.Conn.Write(b); err != nil {
				return
			}
		case <-c.done:
			return
		}
	}
}

// arriveLate breaks the connection, and carries b to the server after that.
func (c *fakeConn) arriveLate(b []byte, after time.Duration) {
	_ = c.Close()
	time.Sleep(after)
	inner, err := c.net.node.redis.Dial()
	if err != nil {
		return
	}
	defer inner.Close()
	go func() { _, _ = inner.Write(b) }()
	_, _ = inner.Read(make([]byte, 4096))
}

func (c *fakeConn) carryReplies() {
	defer close(c.replies)
	dead := false
	for {
		b := make([]byte, 4096)
		n, err := c.Conn.Read(b)
		if err != nil {
			return
		}
		lost, mute, delay := c.net.rules()
		if dead = dead || lost || mute; dead {
			continue
		}
		if c.net.losesThis() {
			_ = c.Close()
			return
		}
		if delay > 0 {
			select {
			case <-time.After(delay):
			case <-c.done:
				return
			}
		}
		select {
		case c.replies <- b[:n]:
		case <-c.done:
			return
		}
	}
}

func (c *fakeConn) Write(b []byte) (int, error) {
	select {
	case <-c.done: // first: a closed connection takes nothing
		return 0, net.ErrClosed
	default:
	}
	select {
	case <-c.done:
		return 0, net.ErrClosed
	case c.requests <- slices.Clone(b):
		return len(b), nil
	}
}

func (c *fakeConn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		c.mu.Lock()
		deadline, moved := c.deadline, c.moved
		c.mu.Unlock()
		var timeout <-chan time.Time
		if !deadline.IsZero() {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case rest, ok := <-c.replies:
			if !ok {
				return 0, net.ErrClosed
			}
			c.rest = rest
		case <-moved:
		case <-timeout:
			return 0, errTimeout{}
		case <-c.done:
			return 0, net.ErrClosed
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

type errTimeout struct{}

func (errTimeout) Error() string   { return "i/o timeout (simulated)" }
func (errTimeout) Timeout() bool   { return true }
func (errTimeout) Temporary() bool { return true }

func (c *fakeConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	close(c.moved)
	c.moved = make(chan struct{})
	return nil
}

func (c *fakeConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}
