package redlock

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
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

// undialed is what Dial makes before it connects.
func undialed(t *testing.T, urls []string, o *Options) *Locker {
	opts, err := o.withDefaults(len(urls))
	require.NoError(t, err)
	l := newLocker(opts)
	l.owned = true
	for _, raw := range urls {
		u, err := parseURL(raw)
		require.NoError(t, err)
		n := l.addNode(u.name())
		n.dial = newDialer(u, n, l.begin)
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
		if stop, err := l.Watch(ctx, "k", make(chan struct{}, 1)); err == nil {
			stop()
		}
		_ = l.ForceRelease(ctx, "k", 0)
		require.NoError(t, l.Close())
		require.Less(t, time.Since(begin), 20*time.Second, "all of it is bounded by the node timeout of %v", timeout)
	})
}

// strictly makes the connections of o strict.
func strictly(o *rueidis.ClientOption) {
	dial := o.DialCtxFn
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
		c, err := dial(ctx, addr, d, config)
		if err != nil {
			return nil, err
		}
		return &strict{Conn: c}, nil
	}
}

// What strict is for: without it, a server can end the whole process. If this fails
// because the client library has become strict itself, strict can go.
func TestTheClientLibraryPanicsWhereStrictDoesNot(t *testing.T) {
	lies := []string{":5\r\n:5\r\n", "*-2\r\n", "$-2\r\n", "%-1\r\n", "*99999999999999\r\n", ">3\r\n+subscribe\r\n+x\r\n:1\r\n"}
	if lie := os.Getenv("LOCKKEEPER_TEST_LIE"); lie != "" {
		s := &liar{hello: honestHello, rest: lie, hangs: true}
		s.start(t)
		option := rueidis.ClientOption{
			InitAddress: []string{s.listener.Addr().String()}, ForceSingleClient: true, DisableCache: true, DisableRetry: true,
			ConnWriteTimeout: 100 * time.Millisecond, AlwaysPipelining: true, ClientSetInfo: rueidis.DisableClientSetInfo, DialCtxFn: open("tcp"),
		}
		if os.Getenv("LOCKKEEPER_TEST_STRICT") != "" {
			strictly(&option)
		}
		c, err := rueidis.NewClient(option)
		require.NoError(t, err)
		for range 3 {
			_ = c.Do(context.Background(), c.B().Ping().Build()).Error()
		}
		c.Close()
		s.stop()
		return
	}
	for _, lie := range lies {
		for _, with := range []string{"", "yes"} {
			cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
			cmd.Env = append(os.Environ(), "LOCKKEEPER_TEST_LIE="+lie, "LOCKKEEPER_TEST_STRICT="+with)
			out, err := cmd.CombinedOutput()
			if with == "" {
				require.ErrorContains(t, err, "exit status 2", "%q no longer panics", lie)
				require.Regexp(t, `panic: `, string(out))
			} else {
				require.NoError(t, err, "%q: %s", lie, out)
			}
		}
	}
}

// What a real server sends passes, in whatever pieces it comes.
func TestStrictLetsRepliesPassInAnyPieces(t *testing.T) {
	const replies = "+OK\r\n:12\r\n$-1\r\n*-1\r\n$0\r\n\r\n$3\r\na\r\n\r\n*2\r\n:-1\r\n*1\r\n+x\r\n%1\r\n+a\r\n*0\r\n_\r\n#t\r\n,1.5\r\n(12\r\n=5\r\ntxt:a\r\n-ERR no\r\n!3\r\nERR\r\n~1\r\n:1\r\n>2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n"
	kinds := func(size int) (seen string) {
		var s scanner
		for b := []byte(replies); len(b) > 0; b = b[min(size, len(b)):] {
			require.NoError(t, s.scan(b[:min(size, len(b))], func(kind byte, _ []byte) error {
				seen += string(kind)
				return nil
			}), "pieces of %d", size)
		}
		return seen
	}
	for size := range len(replies) {
		require.Equal(t, "+:$*$$*%_#,(=-!~>", kinds(size+1))
	}
}

// Names and values of users stand in replies, and can be any text.
func TestStrictLooksForNoWordsInReplies(t *testing.T) {
	for _, word := range []string{"mail-unsubscribe-6d9f7:1/x", "subscribe", "unsubscribe", "psubscribe", "QUEUED", "PONG", "invalidate", "message", "LOADING", "+OK", "*"} {
		text := fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
		for _, reply := range []string{text, "+" + word + "\r\n", "*1\r\n" + text, "*2\r\n*1\r\n" + text + ":1\r\n", "*1\r\n+" + word + "\r\n", "~1\r\n" + text, "%1\r\n" + text + ":1\r\n"} {
			client, server := net.Pipe()
			s := &strict{Conn: client}
			go func() { _, _ = io.Copy(io.Discard, server) }()
			_, err := io.WriteString(s, "*1\r\n$3\r\nGET\r\n")
			require.NoError(t, err)
			go func() {
				_, _ = io.WriteString(server, reply)
				server.Close()
			}()
			got, err := io.ReadAll(s)
			require.NoError(t, err, "%q", reply)
			require.Equal(t, reply, string(got))
			s.Close()
		}
	}
}

// What a Sentinel's client asks, and what comes of it: a push for each channel.
func TestStrictLetsSentinelsTell(t *testing.T) {
	const (
		unsubscribe = "*3\r\n$11\r\nUNSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$4\r\nPING\r\n"
		subscribe   = "*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n"
		ask         = "*1\r\n$8\r\nSENTINEL\r\n"

		subscribed   = ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
		unsubscribed = ">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n"
		news         = ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"
		pong, told   = "+PONG\r\n", "*1\r\n+x\r\n"
	)
	for name, c := range map[string]struct {
		requests, replies string
		ok                bool
	}{
		"all of it":              {unsubscribe + subscribe + ask, unsubscribed + unsubscribed + pong + subscribed + news + subscribed + told + news, true},
		"answers between":        {unsubscribe + ask + subscribe, unsubscribed + unsubscribed + pong + told + subscribed + subscribed, true},
		"twice":                  {subscribe + subscribe, strings.Repeat(subscribed, 4), true},
		"not permitted":          {subscribe + ask, "-NOPERM\r\n" + told, true},
		"loading":                {unsubscribe, unsubscribed + unsubscribed + "-LOADING\r\n", true},
		"once too often":         {subscribe + ask, subscribed + subscribed + subscribed, false},
		"unsubscribed too often": {unsubscribe, unsubscribed + unsubscribed + unsubscribed, false},
		"unasked":                {ask, unsubscribed, false},
		"in between":             {unsubscribe + subscribe, pong + subscribed + unsubscribed, false},
		"no pong":                {unsubscribe + ask, unsubscribed + unsubscribed + told, false},
		"refused":                {unsubscribe, "-NOPERM\r\n" + pong, false},
		"a word further in":      {ask, ">2\r\n*1\r\n+subscribe\r\n:1\r\n" + told, true},
		"a word not the first":   {ask, ">2\r\n$1\r\nx\r\n$9\r\nsubscribe\r\n" + told, true},
		"a word with more":       {ask, ">1\r\n$16\r\nmail-unsubscribe\r\n" + told, true},
		"verbatim":               {ask, ">3\r\n=13\r\ntxt:subscribe\r\n$1\r\na\r\n:1\r\n" + told, false},
		"queued":                 {subscribe, "-QUEUED\r\n", false},
		"other pushes unasked":   {ask, ">3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n", false},
		"pong in an array":       {unsubscribe, unsubscribed + unsubscribed + "*1\r\n+PONG\r\n", false},
		"pong for two":           {unsubscribe, unsubscribed + unsubscribed + pong + pong, false},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := net.Pipe()
			defer server.Close()
			s := &strict{Conn: client}
			defer s.Close()
			go func() { _, _ = io.Copy(io.Discard, server) }()
			_, err := io.WriteString(s, c.requests)
			require.NoError(t, err)
			go func() {
				_, _ = io.WriteString(server, c.replies)
				server.Close()
			}()
			_, err = io.ReadAll(s)
			if c.ok {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, nodeerr.ErrReply)
			}
		})
	}
}
