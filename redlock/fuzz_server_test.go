package redlock

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeconn"
)

// liar is a server that greets with one text, answers HELLO without arguments with
// another, and everything else with a third.
type liar struct {
	hello, proto, rest string
	hangs              bool // it keeps connections; else it closes them after the third text

	listener net.Listener
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

const (
	honestHello = "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"
	honestProto = "%1\r\n$5\r\nproto\r\n:3\r\n"
)

func (s *liar) start(t *testing.T) {
	var err error
	s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.wg.Go(func() {
		for {
			c, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c) })
		}
	})
}

func (s *liar) serve(c net.Conn) {
	defer c.Close()
	request := make([]byte, 1<<16)
	for {
		n, err := c.Read(request)
		if err != nil {
			return
		}
		answer, text := s.rest, string(request[:n])
		switch {
		case strings.Contains(text, "HELLO\r\n$1\r\n3"):
			answer = s.hello
		case strings.Contains(text, "HELLO"):
			answer = s.proto
		}
		if _, err := io.WriteString(c, answer); err != nil || answer == s.rest && !s.hangs {
			return
		}
	}
}

func (s *liar) stop() {
	s.listener.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// undialed is what Dial makes before it connects; open, if any, opens the connections of
// each node.
func undialed(t *testing.T, urls []string, o *Options, open ...nodeconn.OpenFunc) *Locker {
	opts, err := o.withDefaults(len(urls))
	require.NoError(t, err)
	l := newLocker(opts)
	l.owned = true
	for i, raw := range urls {
		u, err := nodeconn.ParseURL(raw)
		require.NoError(t, err)
		co := l.connOptions()
		if len(open) > 0 {
			co.Open = open[i]
		}
		l.addNode(u.Name(), nodeconn.Dial(u, co))
	}
	return l
}

var oneInteger = regexp.MustCompile(`^:-?0*([1-9]\d*)\r\n`)

// FuzzRESP lets two of three servers lie, byte for byte, when they are connected to and
// afterwards; the third one is not there. Nothing panics, everything returns soon, and
// there is no lease but of an integer that is a vote.
func FuzzRESP(f *testing.F) {
	for _, rest := range []string{
		"+OK\r\n", ":5\r\n", ":-5\r\n", ":0\r\n", ":9007199254740992\r\n", ":99999999999999999999999\r\n", "$-1\r\n", "*0\r\n", "-ERR\r\n", "-NOSCRIPT no\r\n",
		"", ":", "$5\r\nab", ":5\r\n:5\r\n", "$-2\r\n", "*-2\r\n", "%-1\r\n", "$99999999999\r\n", "*99999999999\r\n", ".\r\n", "_xx", "#",
		"*3\r\n:0\r\n$1\r\nx\r\n:-1\r\n", "*3\r\n:1\r\n:99999999\r\n$3\r\nrun\r\n", "*2\r\n:2\r\n$3\r\nrun\r\n",
		"+QUEUED\r\n", ">3\r\n+subscribe\r\n+x\r\n:1\r\n", ">2\r\n$10\r\ninvalidate\r\n_\r\n", ">2\r\n$10\r\ninvalidate\r\n*1\r\n:5\r\n", "*2\r\n+subscribe\r\n+x\r\n",
		">3\r\n+unsubscribe\r\n+x\r\n:1\r\n", "-MOVED 1 h:1\r\n", "-ASK 1 h:1\r\n", "-REDIRECT h:1\r\n", "-LOADING\r\n",
	} {
		f.Add([]byte(honestHello), []byte(honestProto), []byte(rest), false)
		f.Add([]byte(rest), []byte(honestProto), []byte(":5\r\n"), false)
		f.Add([]byte(honestHello), []byte(rest), []byte("+OK\r\n"), false)
	}
	f.Add([]byte(honestHello), []byte(honestProto), []byte(""), true)
	f.Add([]byte(honestHello), []byte(honestProto), []byte("$9\r\nab"), true)
	f.Add([]byte("%2\r\n+proto\r\n:3\r\n+version\r\n+6.2\r\n"), []byte(honestProto), []byte("*2\r\n>2\r\n+x\r\n+y\r\n:1\r\n"), false)
	f.Add([]byte("-ERR unknown command 'HELLO'\r\n"), []byte(honestProto), []byte("+OK\r\n"), false)
	f.Fuzz(func(t *testing.T, hello, proto, rest []byte, hangs bool) {
		const timeout = 5 * time.Millisecond
		var urls []string
		for range 2 {
			s := &liar{hello: string(hello), proto: string(proto), rest: string(rest), hangs: hangs}
			s.start(t)
			defer s.stop()
			urls = append(urls, "redis://"+s.listener.Addr().String())
		}
		urls = append(urls, "redis://127.0.0.1:1") // nobody there
		begin := time.Now()
		l := undialed(t, urls, &Options{NodeTimeout: timeout})
		ctx, cancel := context.WithTimeout(t.Context(), 2*timeout)
		defer cancel()
		_ = l.connect(ctx) // as Dial does; what follows is tried whatever comes of it
		lease, err := l.TryAcquire(t.Context(), "k", 10*time.Second)
		if err == nil {
			n := oneInteger.FindStringSubmatch(string(rest))
			require.NotNil(t, n, "%q %q %q gave a lease", hello, proto, rest)
			require.Equal(t, n[1], fmt.Sprint(lease.Token()))
			_ = lease.Extend(t.Context(), 10*time.Second)
			_ = lease.Release(t.Context())
		} else {
			require.Nil(t, lease)
		}
		_, _ = l.Health(ctx)
		_, _ = l.Inspect(ctx, "k")
		for _, err := range l.List(ctx, "") {
			if err != nil {
				break
			}
		}
		short, cancel := context.WithTimeout(ctx, timeout/2)
		if lease, err := l.Await(short, "w", 10*time.Second, func(*lock.HeldError) {}); err == nil {
			_ = lease.Release(t.Context())
		} else {
			require.Nil(t, lease)
		}
		cancel()
		_ = l.ForceRelease(ctx, "k", 0)
		require.NoError(t, l.Close())
		require.Less(t, time.Since(begin), 20*time.Second, "all of it is bounded by the node timeout of %v", timeout)
	})
}

// strictly guards the connections of o.
func strictly(o *rueidis.ClientOption) {
	dial := o.DialCtxFn
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
		c, err := dial(ctx, addr, d, config)
		if err != nil {
			return nil, err
		}
		return nodeconn.Guard(c), nil
	}
}
