package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// store is a source that counts the questions.
type store struct {
	reading        atomic.Pointer[Reading]
	checkup        atomic.Pointer[Checkup]
	locks, healths atomic.Int64
	takes          time.Duration // a listing
}

func (s *store) Locks(ctx context.Context) Reading {
	s.locks.Add(1)
	if s.takes > 0 {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done():
			return Reading{Err: ctx.Err()}
		}
	}
	if r := s.reading.Load(); r != nil {
		return *r
	}
	return Reading{}
}

func (s *store) Health(context.Context) Checkup {
	s.healths.Add(1)
	if c := s.checkup.Load(); c != nil {
		return *c
	}
	return healthy("n1", "n2", "n3")
}

func healthy(names ...string) Checkup {
	c := Checkup{Health: inspect.HealthJSON{Status: inspect.Healthy, Quorum: len(names)/2 + 1, Voting: len(names)}}
	for _, n := range names {
		ms := 1.0
		c.Health.Nodes = append(c.Health.Nodes, inspect.NodeJSON{Name: n, State: inspect.Votes, Votes: true, LatencyMS: &ms})
	}
	return c
}

// held is a lock of a store that reports neither since when it is held nor who waits.
func held(key, holder string) Lock {
	return Lock{
		Reading: inspect.Reading{Info: lock.Info{Key: key, Holder: holder, Token: 7, TTL: 10 * time.Second}},
		Read:    time.Now(), Seen: time.Now(), Before: true, Full: 10 * time.Second,
	}
}

// viewed is one of a quorum of Redis nodes.
func viewed(state redlock.State, l Lock, waiters []string, nodes ...redlock.NodeView) Lock {
	l.View, l.Queues, l.Waiting = &redlock.View{Info: l.Info, State: state, Quorum: len(nodes)/2 + 1, Nodes: nodes, Waiters: waiters}, true, len(waiters)
	return l
}

// server is one whose source was asked once, without a listener.
func server(t *testing.T, r Reading, c Checkup) *Server {
	t.Helper()
	s, err := New(&store{}, &Options{Store: "test:"})
	require.NoError(t, err)
	s.feed.publish(func(st state, now time.Time) state { return st.take(r, now, now).check(c) })
	return s
}

func get(t *testing.T, s *Server, path string) string {
	t.Helper()
	w := ask(s, http.MethodGet, path, "localhost:4041")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	return w.Body.String()
}

func ask(s *Server, method, path, host string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// pipes is a listener within this process, which a bubble can wait for.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4041} }

func (p *pipes) dial(t *testing.T) net.Conn {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
	case <-p.closed:
		t.Error("the server has ended")
	}
	return near
}

// open opens a stream and returns its connection and its messages' lines.
func (p *pipes) open(t *testing.T, path string) (net.Conn, *bufio.Reader) {
	c := p.dial(t)
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
	require.NoError(t, err)
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	return c, bufio.NewReader(answer.Body)
}

// discard reads until the end.
func discard(r io.Reader) { _, _ = io.Copy(io.Discard, r) }

// next is the name and the text of the next message.
func next(t *testing.T, r *bufio.Reader) (name, text string) {
	for {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		line = strings.TrimSuffix(line, "\n")
		switch field, value, _ := strings.Cut(line, ": "); {
		case field == "event":
			name = value
		case field == "data":
			text += value + "\n"
		case line == "" && name != "":
			return name, text
		}
	}
}

// serving runs s until the test stops it, and returns what Serve has returned.
func serving(t *testing.T, s *Server, l net.Listener) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	return func() error { cancel(); return <-ended }
}

var errDown = errors.New("connection refused")
