package redistest

import (
	"bytes"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy carries TCP connections to a target, and breaks them as networks do. Its
// methods are safe for concurrent use and act on present and new connections.
//
// A stream that lost bytes carries no more of them in that direction, because a
// TCP stream never has holes: such a connection stays open and silent, as one whose
// peer vanished, until an end closes it.
type Proxy struct {
	ln net.Listener
	wg sync.WaitGroup // every goroutine of the proxy

	mu      sync.Mutex // guards all below
	target  string
	carried int // connections so far
	lost    int // runs of bytes that were swallowed
	rules   rules
	lose    []byte        // see LoseReply; nil: nothing
	changed chan struct{} // closed and replaced when rules change
	links   map[*link]struct{}
	closed  bool
}

type rules struct {
	blackhole   bool
	hold        bool
	dropReplies bool
	delay       time.Duration
	jitter      time.Duration
}

type direction int

const (
	requests direction = iota
	replies
)

// loses reports whether bytes of this direction are swallowed.
func (r rules) loses(d direction) bool {
	return r.blackhole || d == replies && r.dropReplies
}

// NewProxy listens on a free loopback port and carries what comes there to target
// (host:port), whether or not that is up yet. It closes with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("redistest: proxy: %v", err)
	}
	p := &Proxy{target: target, ln: ln, changed: make(chan struct{}), links: map[*link]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// Target leads new connections to another host:port, as a balancer or a name that has
// moved does. Those that stand stay where they are.
func (p *Proxy) Target(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Carried is how many connections have come so far.
func (p *Proxy) Carried() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.carried
}

// Addr is the host:port to connect to.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Blackhole swallows all bytes in both directions while on. Connections stay open,
// and new ones are accepted, but silent.
func (p *Proxy) Blackhole(on bool) { p.set(func(r *rules) { r.blackhole = on }) }

// DropReplies lets requests pass and swallows what the target answers while on.
func (p *Proxy) DropReplies(on bool) { p.set(func(r *rules) { r.dropReplies = on }) }

// Hold keeps all bytes of both directions while on, and delivers them, in order,
// when it is switched off: a partition that heals.
func (p *Proxy) Hold(on bool) { p.set(func(r *rules) { r.hold = on }) }

// Delay carries bytes d later, in each direction, so a round trip takes 2d more.
// Order is kept. 0 is off.
func (p *Proxy) Delay(d time.Duration) { p.set(func(r *rules) { r.delay = d }) }

// Jitter delays each run of bytes by up to d more, at random. Order is kept, so that some
// travel together. 0 is off.
func (p *Proxy) Jitter(d time.Duration) { p.set(func(r *rules) { r.jitter = d }) }

// LoseReply lets the next request with text in it pass to the target, and breaks its
// connection when the answer comes, which is lost. Others pass unharmed.
func (p *Proxy) LoseReply(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = []byte(text)
}

// losesReply reports, once, that the answer to this request is to be lost.
func (p *Proxy) losesReply(request []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lose) == 0 || !bytes.Contains(request, p.lose) {
		return false
	}
	p.lose = nil
	return true
}

func (p *Proxy) set(change func(*rules)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.rules)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) now() (rules, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rules, p.changed
}

// Reset breaks all present connections with a TCP reset. New ones are carried.
func (p *Proxy) Reset() {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.reset()
	}
}

// Close refuses new connections, breaks all present ones, and returns when the
// proxy's goroutines have ended.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.ln.Close()
	p.Reset()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		l := &link{client: conn, done: make(chan struct{})}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			conn.Close()
			return
		}
		p.links[l] = struct{}{}
		p.carried++
		target := p.target
		p.mu.Unlock()
		p.wg.Go(func() {
			p.carry(l, target)
			l.close()
			p.mu.Lock()
			delete(p.links, l)
			p.mu.Unlock()
		})
	}
}

// link is one connection through the proxy.
type link struct {
	client net.Conn
	done   chan struct{} // closed when it is over
	doomed atomic.Bool   // ends with the next answer, which is lost

	mu     sync.Mutex // guards all below
	server net.Conn   // nil while it is dialed
	over   bool
}

// attach gives the link its way to the target, and reports whether it still stands.
func (l *link) attach(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		server.Close()
		return false
	}
	l.server = server
	return true
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.done)
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}

func (l *link) reset() {
	l.mu.Lock()
	if tcp, ok := l.client.(*net.TCPConn); ok && !l.over {
		_ = tcp.SetLinger(0) // close with RST instead of FIN
	}
	l.mu.Unlock()
	l.close()
}

// carry returns when the link is over.
func (p *Proxy) carry(l *link, target string) {
	server, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		// A black hole does not report that the target is down either.
		for r, changed := p.now(); r.blackhole || r.hold; r, changed = p.now() {
			select {
			case <-changed:
			case <-l.done:
				return
			}
		}
		return
	}
	if !l.attach(server) {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.close() // one direction that has ended ends the other
	wg.Go(func() { defer l.close(); p.pump(l, l.client, server, requests) })
	p.pump(l, server, l.client, replies)
}

type chunk struct {
	data []byte // nil: the stream has ended
	at   time.Time
	luck float64 // how much of the jitter it meets
}

// pump carries one direction until it ends or the link is over.
func (p *Proxy) pump(l *link, src, dst net.Conn, dir direction) {
	queue := make(chan chunk, 1024) // reading goes on while bytes wait for their time
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.close() // ends the reader
	wg.Go(func() {
		for {
			buf := make([]byte, 16<<10)
			n, err := src.Read(buf)
			for _, data := range [][]byte{buf[:n], nil} {
				if len(data) == 0 && err == nil {
					continue
				}
				if len(data) == 0 {
					data = nil
				}
				select {
				case queue <- chunk{data, time.Now(), rand.Float64()}:
				case <-l.done:
					return
				}
				if data == nil {
					return
				}
			}
		}
	})
	lost := false
	for {
		var c chunk
		select {
		case c = <-queue:
		case <-l.done:
			return
		}
		if !p.deliver(l, dst, dir, c, &lost) {
			return
		}
	}
}

// deliver treats one chunk by the rules, and reports whether the stream goes on.
func (p *Proxy) deliver(l *link, dst net.Conn, dir direction, c chunk, lost *bool) bool {
	for {
		r, changed := p.now()
		if c.data != nil && (*lost || r.loses(dir)) {
			*lost = true
			p.mu.Lock()
			p.lost++
			p.mu.Unlock()
			return true
		}
		wait := time.Until(c.at.Add(r.delay + time.Duration(c.luck*float64(r.jitter))))
		if !r.hold && !r.loses(dir) && wait <= 0 {
			if c.data == nil || dir == replies && l.doomed.Load() {
				return false
			}
			if dir == requests && p.losesReply(c.data) {
				l.doomed.Store(true)
			}
			_, err := dst.Write(c.data)
			return err == nil
		}
		var due <-chan time.Time
		var timer *time.Timer
		if wait > 0 {
			timer = time.NewTimer(wait)
			due = timer.C
		}
		select {
		case <-due:
		case <-changed:
		case <-l.done:
		}
		if timer != nil {
			timer.Stop()
		}
		select {
		case <-l.done:
			return false
		default:
		}
	}
}
