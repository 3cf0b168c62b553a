package redlock

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
)

// slotText is what a Redis Cluster hashes of a key, as its specification says it.
func slotText(key string) string {
	open := strings.IndexByte(key, '{')
	if open < 0 {
		return key
	}
	length := strings.IndexByte(key[open+1:], '}')
	if length <= 0 {
		return key
	}
	return key[open+1 : open+1+length]
}

// Two locks never share a name, nor a lock and a counter, and a lock and its counter
// are in one slot where newKeys says so.
func FuzzKeys(f *testing.F) {
	for _, seed := range [][3]string{
		{"redlock:", "a", "b"}, {"", "{a}b", "a}b"}, {"", "{}{a}", "}{a}"}, {"", "{a", "a"},
		{"p{", "a}", "a}}"}, {"", "a{b}c", "{b}"}, {"lockkeeper:", "x", "fence:{lockkeeper:x}lockkeeper:x"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, prefix, one, other string) {
		if one == "" || other == "" {
			t.Skip() // no keys
		}
		a, oneSlot := newKeys(prefix, one)
		b, _ := newKeys(prefix, other)
		require.Equal(t, one == other, a.lock == b.lock)
		require.Equal(t, one == other, a.fence == b.fence)
		if !strings.HasPrefix(b.lock, FencePrefix) { // those are refused
			require.NotEqual(t, a.fence, b.lock)
		}
		if oneSlot {
			require.Equal(t, slotText(a.lock), slotText(a.fence))
		}
	})
}

// FuzzReplies lets a server answer a script with anything: nothing panics, and only
// an integer of the exact kind is a vote.
func FuzzReplies(f *testing.F) {
	for _, seed := range []string{
		":5\r\n", ":-5\r\n", ":0\r\n", ":1\r\n", ":-9223372036854775808\r\n", ":9007199254740992\r\n",
		"+5\r\n", "$1\r\n1\r\n", "$-1\r\n", "_\r\n", "*0\r\n", "*-1\r\n", "*1\r\n:1\r\n", "#t\r\n", ",1.0\r\n", "(5\r\n",
		"*3\r\n:0\r\n$1\r\nx\r\n:-1\r\n", "*3\r\n:1\r\n:5\r\n$3\r\nrun\r\n", "*3\r\n:1\r\n:-5\r\n*0\r\n",
		"*2\r\n:2\r\n$3\r\nrun\r\n", "*1\r\n:3\r\n", "%1\r\n:1\r\n:1\r\n", "~1\r\n:1\r\n", "-ERR no\r\n", "-NOSCRIPT\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		if !wholeReply(reply) {
			t.Skip() // the client waits for the rest, or (rueidis 1.0.79) panics on a surplus
		}
		a := answerOf(t, reply)
		n, err := a.msg.ToInt64() // the client reads ":-" as 0
		integer := a.err == nil && err == nil && reply[0] == ':'
		if got := parseAcquire(a); got.kind == granted {
			require.True(t, integer && n != 0, "%q", reply)
			require.Less(t, got.n, uint64(maxCount))
		}
		if parseCommit(a).kind == counted {
			require.True(t, integer && n > 0, "%q", reply)
		}
		if parseExtend(a).kind == confirmed {
			require.True(t, integer && n == 1, "%q", reply)
		}
		if parseRepair(a).kind == repaired {
			require.True(t, integer && n == 1, "%q", reply)
		}
		switch parseRelease(a).kind {
		case freed, missing, notMine:
			require.True(t, integer && n >= 0 && n <= 2, "%q", reply)
		}
		if a.err == nil {
			_, _ = parseSight(rueidis.NewResult(a.msg, nil))
		}
	})
}

// wholeReply reports that b is one reply of a kind that answers a request, and no more.
func wholeReply(b []byte) bool {
	r := bufio.NewReader(strings.NewReader(string(b)))
	if !skipReply(r, 0) {
		return false
	}
	_, err := r.Peek(1)
	return err == io.EOF
}

func skipReply(r *bufio.Reader, depth int) bool {
	line, err := r.ReadString('\n')
	if err != nil || len(line) < 3 || !strings.HasSuffix(line, "\r\n") || depth > 3 {
		return false
	}
	kind, text := line[0], line[1:len(line)-2]
	n, err := strconv.Atoi(text)
	counted := err == nil && n >= -1 && n < 1000
	switch kind {
	case '+', '-', ':', ',', '(':
		return !strings.Contains(text, "\r")
	case '_':
		return text == ""
	case '#': // of fixed length for the client
		return text == "t" || text == "f"
	case '$':
		if !counted || n == -1 {
			return counted
		}
		data := make([]byte, n+2)
		_, err := io.ReadFull(r, data)
		return err == nil && strings.HasSuffix(string(data), "\r\n")
	case '%', '*', '~':
		if kind == '%' {
			n *= 2
		}
		if !counted || n < 0 && kind != '*' { // the client panics
			return false
		}
		for range max(0, n) {
			if !skipReply(r, depth+1) {
				return false
			}
		}
		return true
	}
	return false
}

// answerOf is what the client makes of a reply.
func answerOf(t *testing.T, reply []byte) answer {
	ours, theirs := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer theirs.Close()
		request := make([]byte, 1<<16)
		for {
			n, err := theirs.Read(request)
			if err != nil {
				return
			}
			answer := reply
			if !strings.Contains(string(request[:n]), "EVALSHA") && !strings.Contains(string(request[:n]), "EVAL\r\n") {
				answer = []byte("+OK\r\n") // what a client says as it connects or leaves
			}
			if _, err := theirs.Write(answer); err != nil {
				return
			}
		}
	}()
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{"fake:1"}, ForceSingleClient: true, DisableCache: true, DisableRetry: true,
		AlwaysRESP2: true, ClientSetInfo: rueidis.DisableClientSetInfo, PipelineMultiplex: -1, ConnWriteTimeout: time.Second,
		DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) { return ours, nil },
	})
	require.NoError(t, err)
	defer func() { <-served }()
	defer c.Close()
	k, _ := newKeys("redlock:", "k")
	return answered(releaseScript.eval(context.Background(), c, k, "me", "0"))
}
