package nodeconn

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// lies starts a server that answers HELLO, and everything else with lie. It gives its
// address.
func lies(t *testing.T, lie string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				request := make([]byte, 1<<16)
				for {
					n, err := c.Read(request)
					if err != nil {
						return
					}
					answer := lie
					if strings.Contains(string(request[:n]), "HELLO") {
						answer = "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"
					}
					if _, err := io.WriteString(c, answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// What the guard is for: without it, a server can end the whole process. If this fails
// because the client library has become strict itself, the guard can go.
func TestTheClientLibraryPanicsWhereTheGuardDoesNot(t *testing.T) {
	texts := []string{":5\r\n:5\r\n", "*-2\r\n", "$-2\r\n", "%-1\r\n", "*99999999999999\r\n", ">3\r\n+subscribe\r\n+x\r\n:1\r\n"}
	if lie := os.Getenv("LOCKKEEPER_TEST_LIE"); lie != "" {
		address := lies(t, lie)
		option := rueidis.ClientOption{
			InitAddress: []string{address}, ForceSingleClient: true, DisableCache: true, DisableRetry: true,
			ConnWriteTimeout: 30 * time.Second, // of a busy machine: what lies is noticed at once
			AlwaysPipelining: true, ClientSetInfo: rueidis.DisableClientSetInfo, DialCtxFn: open("tcp"),
		}
		if os.Getenv("LOCKKEEPER_TEST_STRICT") != "" {
			option.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, conf *tls.Config) (net.Conn, error) {
				c, err := open("tcp")(ctx, addr, d, conf)
				if err != nil {
					return nil, err
				}
				return Guard(c), nil
			}
		}
		c, err := rueidis.NewClient(option)
		require.NoError(t, err)
		tries := 3
		if os.Getenv("LOCKKEEPER_TEST_STRICT") == "" {
			tries = 300 // what is too much can be taken for the next one's answer, for a while
		}
		for range tries {
			_ = c.Do(context.Background(), c.B().Ping().Build()).Error()
		}
		c.Close()
		return
	}
	for _, lie := range texts {
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
func TestTheGuardLetsRepliesPassInAnyPieces(t *testing.T) {
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
func TestTheGuardLooksForNoWordsInReplies(t *testing.T) {
	for _, word := range []string{"mail-unsubscribe-6d9f7:1/x", "subscribe", "unsubscribe", "psubscribe", "QUEUED", "PONG", "invalidate", "message", "LOADING", "+OK", "*"} {
		text := fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
		for _, reply := range []string{text, "+" + word + "\r\n", "*1\r\n" + text, "*2\r\n*1\r\n" + text + ":1\r\n", "*1\r\n+" + word + "\r\n", "~1\r\n" + text, "%1\r\n" + text + ":1\r\n"} {
			client, server := net.Pipe()
			s := &protocolGuard{Conn: client}
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
func TestTheGuardLetsSentinelsReport(t *testing.T) {
	const (
		unsubscribe = "*3\r\n$11\r\nUNSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$4\r\nPING\r\n"
		subscribe   = "*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n"
		ask         = "*1\r\n$8\r\nSENTINEL\r\n"

		subscribed    = ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
		unsubscribed  = ">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n"
		message       = ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"
		pong, replied = "+PONG\r\n", "*1\r\n+x\r\n"
	)
	for name, c := range map[string]struct {
		requests, replies string
		ok                bool
	}{
		"all of it":              {unsubscribe + subscribe + ask, unsubscribed + unsubscribed + pong + subscribed + message + subscribed + replied + message, true},
		"answers between":        {unsubscribe + ask + subscribe, unsubscribed + unsubscribed + pong + replied + subscribed + subscribed, true},
		"twice":                  {subscribe + subscribe, strings.Repeat(subscribed, 4), true},
		"not permitted":          {subscribe + ask, "-NOPERM\r\n" + replied, true},
		"loading":                {unsubscribe, unsubscribed + unsubscribed + "-LOADING\r\n", true},
		"once too often":         {subscribe + ask, subscribed + subscribed + subscribed, false},
		"unsubscribed too often": {unsubscribe, unsubscribed + unsubscribed + unsubscribed, false},
		"unasked":                {ask, unsubscribed, false},
		"in between":             {unsubscribe + subscribe, pong + subscribed + unsubscribed, false},
		"no pong":                {unsubscribe + ask, unsubscribed + unsubscribed + replied, false},
		"refused":                {unsubscribe, "-NOPERM\r\n" + pong, false},
		"a word further in":      {ask, ">2\r\n*1\r\n+subscribe\r\n:1\r\n" + replied, true},
		"a word not the first":   {ask, ">2\r\n$1\r\nx\r\n$9\r\nsubscribe\r\n" + replied, true},
		"a word with more":       {ask, ">1\r\n$16\r\nmail-unsubscribe\r\n" + replied, true},
		"verbatim":               {ask, ">3\r\n=13\r\ntxt:subscribe\r\n$1\r\na\r\n:1\r\n" + replied, false},
		"queued":                 {subscribe, "-QUEUED\r\n", false},
		"other pushes unasked":   {ask, ">3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n", false},
		"pong in an array":       {unsubscribe, unsubscribed + unsubscribed + "*1\r\n+PONG\r\n", false},
		"pong for two":           {unsubscribe, unsubscribed + unsubscribed + pong + pong, false},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := net.Pipe()
			defer server.Close()
			s := &protocolGuard{Conn: client}
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
