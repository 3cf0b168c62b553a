package redistest

import (
	"bufio"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo serves connections that answer every line with itself, and reports what
// it received.
func echo(t *testing.T) (addr string, received <-chan string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	lines := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					lines <- line
					_, _ = io.WriteString(conn, line)
				}
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String(), lines
}

type peer struct {
	t *testing.T
	net.Conn
}

func dial(t *testing.T, addr string) peer {
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return peer{t, conn}
}

func (p peer) send(line string) {
	p.t.Helper()
	_, err := io.WriteString(p, line)
	require.NoError(p.t, err)
}

func (p peer) receive(within time.Duration) (string, error) {
	_ = p.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, 100)
	n, err := p.Read(buf)
	return string(buf[:n]), err
}

func (p peer) gets(want string) {
	p.t.Helper()
	got, err := p.receive(10 * time.Second)
	require.NoError(p.t, err)
	require.Equal(p.t, want, got)
}

func (p peer) silent() {
	p.t.Helper()
	got, err := p.receive(50 * time.Millisecond)
	require.ErrorIs(p.t, err, os.ErrDeadlineExceeded, "received %q", got)
}

func TestProxyCarries(t *testing.T) {
	addr, _ := echo(t)
	p := NewProxy(t, addr)
	c := dial(t, p.Addr())
	c.send("a\n")
	c.gets("a\n")
	dial(t, p.Addr()).silent()
}

func TestBlackholeSwallowsAndStaysOpen(t *testing.T) {
	addr, received := echo(t)
	p := NewProxy(t, addr)
	before := dial(t, p.Addr())
	before.send("a\n")
	before.gets("a\n")
	require.Equal(t, "a\n", <-received)

	p.Blackhole(true)
	during := dial(t, p.Addr())
	for i, c := range []peer{before, during} {
		c.send("lost\n")
		require.Eventually(t, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.lost == i+1
		}, upTimeout, time.Millisecond, "it is not swallowed before the black hole is over")
		c.silent()
	}

	// What was lost stays lost, and so does what would follow it.
	p.Blackhole(false)
	before.send("after\n")
	before.silent()
	after := dial(t, p.Addr())
	after.send("b\n")
	after.gets("b\n")
	require.Equal(t, "b\n", <-received)
	require.Empty(t, received)
}

func TestBlackholeHidesThatTheTargetIsGone(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := NewProxy(t, ln.Addr().String())
	c := dial(t, p.Addr())
	target, err := ln.Accept()
	require.NoError(t, err)

	p.Blackhole(true)
	require.NoError(t, target.Close())
	require.NoError(t, ln.Close())
	c.silent()
	dial(t, p.Addr()).silent()

	p.Blackhole(false)
	_, err = c.receive(10 * time.Second)
	require.ErrorIs(t, err, io.EOF)
	_, err = dial(t, p.Addr()).receive(10 * time.Second)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestDropRepliesLetsRequestsPass(t *testing.T) {
	addr, received := echo(t)
	p := NewProxy(t, addr)
	p.DropReplies(true)
	c := dial(t, p.Addr())
	c.send("a\n")
	require.Equal(t, "a\n", <-received)
	c.silent()
	p.DropReplies(false)
	c = dial(t, p.Addr())
	c.send("b\n")
	c.gets("b\n")
}

func TestLoseReplyBreaksTheConnectionOfOneRequest(t *testing.T) {
	addr, received := echo(t)
	p := NewProxy(t, addr)
	p.LoseReply("take")
	c := dial(t, p.Addr())
	c.send("ping\n")
	c.gets("ping\n")
	c.send("take 1\n")
	_, err := c.receive(10 * time.Second)
	require.ErrorIs(t, err, io.EOF)
	c = dial(t, p.Addr())
	c.send("take 2\n")
	c.gets("take 2\n")
	for _, want := range []string{"ping\n", "take 1\n", "take 2\n"} {
		require.Equal(t, want, <-received)
	}
}

func TestHoldDeliversInOrderWhenItEnds(t *testing.T) {
	addr, received := echo(t)
	p := NewProxy(t, addr)
	p.Hold(true)
	c := dial(t, p.Addr())
	c.send("a\n")
	c.silent()
	c.send("b\n")
	c.silent()
	require.Empty(t, received)
	p.Hold(false)
	require.Equal(t, "a\n", <-received)
	require.Equal(t, "b\n", <-received)
}

func TestDelayIsForEachDirectionAndDoesNotAddUp(t *testing.T) {
	addr, received := echo(t)
	p := NewProxy(t, addr)
	const d = 100 * time.Millisecond
	p.Delay(d)
	c := dial(t, p.Addr())
	start := time.Now()
	c.send("a\n")
	<-received
	require.GreaterOrEqual(t, time.Since(start), d)
	c.gets("a\n")
	require.GreaterOrEqual(t, time.Since(start), 2*d)

	// Chunks that were sent one after the other wait side by side.
	p.Delay(time.Hour)
	c.send("b\n")
	c.silent()
	c.send("c\n")
	c.silent()
	p.Delay(0)
	require.Equal(t, "b\n", <-received)
	require.Equal(t, "c\n", <-received)
}

func TestResetBreaksPresentConnectionsOnly(t *testing.T) {
	addr, _ := echo(t)
	p := NewProxy(t, addr)
	c := dial(t, p.Addr())
	c.send("a\n")
	c.gets("a\n")
	p.Reset()
	_, err := c.receive(10 * time.Second)
	require.ErrorContains(t, err, "reset")
	c = dial(t, p.Addr())
	c.send("b\n")
	c.gets("b\n")
}

func TestClosedProxyRefusesAndEndsItsGoroutines(t *testing.T) {
	addr, _ := echo(t)
	p := NewProxy(t, addr)
	c := dial(t, p.Addr())
	c.send("a\n")
	c.gets("a\n")
	p.Blackhole(true)
	c.send("b\n")
	p.Close() // waits for them
	_, err := net.Dial("tcp", p.Addr())
	require.ErrorContains(t, err, "refused")
	require.Empty(t, p.links)
}
