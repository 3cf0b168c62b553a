package redlock

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
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
		":5\r\n", ":-5\r\n", ":0\r\n", ":1\r\n", ":-9223372036854775808\r\n", ":9007199254740992\r\n", ":99999999999999999999\r\n", ":-\r\n",
		"+5\r\n", "$1\r\n1\r\n", "$-1\r\n", "_\r\n", "*0\r\n", "*-1\r\n", "*1\r\n:1\r\n", "#t\r\n", ",1.0\r\n", "(5\r\n",
		"*3\r\n:0\r\n$1\r\nx\r\n:-1\r\n", "*3\r\n:1\r\n:5\r\n$3\r\nrun\r\n", "*3\r\n:1\r\n:-5\r\n*0\r\n",
		"*2\r\n:2\r\n$3\r\nrun\r\n", "*1\r\n:3\r\n", "%1\r\n:1\r\n:1\r\n", "~1\r\n:1\r\n", "-ERR no\r\n", "-NOSCRIPT\r\n",
		"", ":", ":5", ":5\r", "$5\r\nab", ":5\r\n:5\r\n", ":5\r\n+", "$-2\r\n", "*-2\r\n", "%-1\r\n", "~-1\r\n", "$99999999999\r\n", "*99999999999\r\n",
		"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "|1\r\n+a\r\n+b\r\n:5\r\n", "*?\r\n:1\r\n.\r\n", "$?\r\n;-1\r\n", ">2\r\n+subscribe\r\n+x\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		a := answerOf(t, reply)
		n, err := a.msg.ToInt64()
		integer := a.err == nil && err == nil
		if integer {
			require.Regexp(t, fmt.Sprintf(`(^|\n):-?0*%s\r\n`, strings.TrimPrefix(fmt.Sprint(n), "-")), string(reply))
		}
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
		if parseRelease(a).kind != failed {
			require.True(t, integer && n >= 0 && n <= 3, "%q", reply)
		}
		_, _ = parseWait(a)
		if a.err == nil {
			_, _ = parseSight(rueidis.NewResult(a.msg, nil))
		}
	})
}

// answerOf is what the client makes of a reply, after which the server hangs up.
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
			if strings.Contains(string(request[:n]), "EVALSHA") || strings.Contains(string(request[:n]), "EVAL\r\n") {
				_, _ = theirs.Write(reply)
				return
			}
			if _, err := io.WriteString(theirs, "+OK\r\n"); err != nil { // what a client says as it connects
				return
			}
		}
	}()
	option := rueidis.ClientOption{
		InitAddress: []string{"fake:1"}, ForceSingleClient: true, DisableCache: true, DisableRetry: true,
		AlwaysRESP2: true, ClientSetInfo: rueidis.DisableClientSetInfo, PipelineMultiplex: -1, ConnWriteTimeout: time.Second,
		DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
			c := ours
			if ours = nil; c == nil {
				return nil, net.ErrClosed
			}
			return c, nil
		},
	}
	strictly(&option)
	c, err := rueidis.NewClient(option)
	require.NoError(t, err)
	defer func() { <-served }()
	defer c.Close()
	k, _ := newKeys("redlock:", "k")
	return answered(releaseScript.eval(context.Background(), c, k, "me", "0"))
}
