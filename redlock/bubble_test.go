package redlock

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	serverinfo "github.com/tonsurance/lockkeeper/redlock/internal/server"
)

// Whole quorums on fake time: miniredis nodes behind in-memory connections that
// lose and delay what they carry.

// fakeNode is a server whose run, uptime and network a test controls.
type fakeNode struct {
	redis *miniredis.Miniredis
	name  string

	mu      sync.Mutex
	info    bool   // it reports its run and uptime
	server  string // its run ids begin with it
	run     int
	started time.Time
	config  map[string]string
	stats   string        // lines of INFO commandstats
	skew    time.Duration // what TIME reports is off by this
	forbids string        // a request with this in a key's name is refused
	refuses string        // the error that votes get; releases find nothing
	calls   []string      // the scripts and commands that came, by name
}

func newFakeNode(t *testing.T, name string) *fakeNode {
	n := &fakeNode{redis: miniredis.NewMiniRedis(), name: name, started: time.Now()}
	n.redis.ClockTTL(true)
	conn, err := n.redis.Dial() // starts the server
	require.NoError(t, err)
	answer := make([]byte, 256)
	for _, s := range script.All() {
		_, err := fmt.Fprintf(conn, "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$%d\r\n%s\r\n", len(s.Source), s.Source)
		require.NoError(t, err)
		_, err = conn.Read(answer) // so that each request is one round trip
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close())
	n.redis.Server().SetPreHook(n.hook)
	t.Cleanup(n.redis.Close)
	return n
}

// scriptNames are the scripts' names by their hashes.
var scriptNames = func() map[string]string {
	names := map[string]string{}
	for _, s := range script.All() {
		names[s.SHA] = s.Name
	}
	return names
}()

// hook answers INFO server and CONFIG GET, which miniredis does not.
func (n *fakeNode) hook(c *server.Peer, cmd string, args ...string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case cmd == "EVALSHA":
		n.calls = append(n.calls, scriptNames[args[0]])
		if n.refuses != "" && scriptNames[args[0]] != "release" {
			c.WriteError(n.refuses)
			return true
		}
		if scriptNames[args[0]] == "batch" {
			n.calls = append(n.calls, batched(args)...)
		}
		if n.forbids != "" && slices.ContainsFunc(args[2:], func(arg string) bool { return strings.Contains(arg, n.forbids) }) {
			c.WriteError("NOPERM No permissions to access a key")
			return true
		}
	case cmd == "HELLO" && len(args) == 0: // which protocol is it?
		c.WriteMapLen(1)
		c.WriteBulk("proto")
		c.WriteInt(3)
		return true
	case cmd == "INFO" && n.info && len(args) == 1 && (args[0] == "server" || args[0] == serverinfo.AllInfo && n.config != nil):
		uptime := int(time.Since(n.started) / time.Second)
		text := fmt.Sprintf("# Server\r\nrun_id:%srun%d\r\nuptime_in_seconds:%d\r\n", n.server, n.run, uptime)
		if args[0] == serverinfo.AllInfo {
			text += "role:master\r\nmaster_replid2:0000\r\naof_last_rewrite_time_sec:-1\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\n" +
				"cmdstat_config|get:calls=3,usec=1\r\n" + n.stats
		}
		c.WriteBulk(text)
		return true
	case cmd == "TIME" && n.skew != 0:
		now := time.Now().Add(n.skew).UnixMicro()
		c.WriteLen(2)
		c.WriteBulk(strconv.FormatInt(now/1e6, 10))
		c.WriteBulk(strconv.FormatInt(now%1e6, 10))
		return true
	case cmd == "CONFIG" && n.config != nil && len(args) == 2:
		c.WriteMapLen(1)
		c.WriteBulk(args[1])
		c.WriteBulk(n.config[args[1]])
		return true
	}
	return false
}

// batched names the scripts in a batch.
func batched(args []string) (names []string) {
	keys, _ := strconv.Atoi(args[1])
	for rest := args[2+keys:]; len(rest) > 0; {
		names = append(names, rest[0])
		count, _ := strconv.Atoi(rest[1])
		rest = rest[2+count:]
	}
	return names
}

// guarded makes the node report its run, as if it had been up for uptime.
func (n *fakeNode) guarded(uptime time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.info, n.started = true, time.Now().Add(-uptime)
}

// restart is a kill -9 and a start: a new run, and nothing remembered if empty.
func (n *fakeNode) restart(empty bool) {
	n.mu.Lock()
	n.info, n.run, n.started = true, n.run+1, time.Now()
	n.mu.Unlock()
	if empty {
		n.redis.FlushAll()
	}
}

// durable makes the node show that it is, and has been since it started.
func (n *fakeNode) durable() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.config = map[string]string{"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
}

func (n *fakeNode) seen(script string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, call := range n.calls {
		if call == script {
			count++
		}
	}
	return count
}

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

// quorum is n nodes and what leads one client to them.
type quorum struct {
	t     *testing.T
	nodes []*fakeNode
}

// testNodeTimeout is the node timeout of the fake quorums, on fake time.
const testNodeTimeout = 200 * time.Millisecond

func newQuorum(t *testing.T, n int) *quorum {
	q := &quorum{t: t}
	for i := range n {
		q.nodes = append(q.nodes, newFakeNode(t, fmt.Sprintf("fake%d:6379", i+1)))
	}
	return q
}

// client connects a Locker of its own, as another process would.
func (q *quorum) client(o *Options) (*Locker, []*network) {
	q.t.Helper()
	return q.clientWith(o, func(*rueidis.ClientOption) {})
}

// clientWith is client with another setting of the client library.
func (q *quorum) clientWith(o *Options, set func(*rueidis.ClientOption)) (*Locker, []*network) {
	q.t.Helper()
	opts := Options{}
	if o != nil {
		opts = *o
	}
	if opts.NodeTimeout == 0 {
		opts.NodeTimeout = testNodeTimeout
	}
	var clients []rueidis.Client
	var nets []*network
	for _, n := range q.nodes {
		w := &network{node: n}
		option := rueidis.ClientOption{
			InitAddress: []string{n.name}, DialCtxFn: w.dial, ForceSingleClient: true, DisableCache: true,
			DisableRetry: true, ClientSetInfo: rueidis.DisableClientSetInfo, PipelineMultiplex: -1,
			ConnWriteTimeout: 2 * opts.NodeTimeout, Dialer: net.Dialer{Timeout: opts.NodeTimeout},
		}
		set(&option)
		c, err := rueidis.NewClient(option)
		require.NoError(q.t, err)
		clients, nets = append(clients, c), append(nets, w)
	}
	l, err := New(clients, &opts)
	require.NoError(q.t, err)
	q.t.Cleanup(func() {
		for _, c := range clients {
			c.Close()
		}
		require.NoError(q.t, l.Close())
		for _, w := range nets { // a client that is closed while it dials leaves its connection
			w.set(refuse)
		}
		synctest.Wait()
	})
	return l, nets
}

// bubble runs a test on fake time.
func bubble(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, run)
}

// value is what a node has for key; "" is nothing.
func (n *fakeNode) value(key string) string {
	v, _ := n.redis.Get("redlock:" + key)
	return v
}

func (n *fakeNode) count(key string) string {
	k, _ := script.NewKeys("redlock:", key)
	return n.redis.HGet(k.Fence, "count")
}
