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
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// FuzzReplies lets a server answer a script with anything: nothing panics, and only
// an integer of the exact kind is a vote.
func FuzzReplies(f *testing.F) {
	for _, seed := range []string{
		":5\r\n", ":-5\r\n", ":0\r\n", ":1\r\n", ":-9223372036854775808\r\n", ":9007199254740992\r\n", ":99999999999999999999\r\n", ":-\r\n",
		"+5\r\n", "$1\r\n1\r\n", "$-1\r\n", "_\r\n", "*0\r\n", "*-1\r\n", "*1\r\n:1\r\n", "#t\r\n", ",1.0\r\n", "(5\r\n",
		"*3\r\n:0\r\n$1\r\nx\r\n:-1\r\n", "*3\r\n:1\r\n:5\r\n$3\r\nrun\r\n", "*3\r\n:1\r\n:-5\r\n*0\r\n",
		"*4\r\n:1\r\n:5\r\n:1000\r\n:1700000000000000\r\n", "*4\r\n:1\r\n:-5\r\n:0\r\n:0\r\n", "*4\r\n:1\r\n:5\r\n:-1\r\n:1\r\n",
		"*8\r\n:0\r\n:1\r\n$1\r\nv\r\n:900\r\n$1\r\nw\r\n:17\r\n:0\r\n$1\r\nr\r\n", "*8\r\n:0\r\n:0\r\n$0\r\n\r\n:-2\r\n$0\r\n\r\n:0\r\n:61\r\n$1\r\nr\r\n",
		"*8\r\n:0\r\n:-1\r\n$1\r\nv\r\n:-1\r\n$0\r\n\r\n:-9\r\n:-1\r\n_\r\n",
		"*2\r\n:2\r\n$3\r\nrun\r\n", "*1\r\n:3\r\n", "%1\r\n:1\r\n:1\r\n", "~1\r\n:1\r\n", "-ERR no\r\n", "-NOSCRIPT\r\n",
		"", ":", ":5", ":5\r", "$5\r\nab", ":5\r\n:5\r\n", ":5\r\n+", "$-2\r\n", "*-2\r\n", "%-1\r\n", "~-1\r\n", "$99999999999\r\n", "*99999999999\r\n",
		"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "|1\r\n+a\r\n+b\r\n:5\r\n", "*?\r\n:1\r\n.\r\n", "$?\r\n;-1\r\n", ">2\r\n+subscribe\r\n+x\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		a := answerOf(t, reply)
		n, err := a.Msg.ToInt64()
		integer := a.Err == nil && err == nil
		if integer {
			require.Regexp(t, fmt.Sprintf(`(^|\n):-?0*%s\r\n`, strings.TrimPrefix(fmt.Sprint(n), "-")), string(reply))
		}
		if got := replyOf(a, script.ParseAcquire); got.Kind == script.Granted {
			require.True(t, integer && n != 0, "%q", reply)
			require.Less(t, got.Count, uint64(1<<53))
		}
		if replyOf(a, script.ParseCommit).Kind == script.Counted {
			require.True(t, integer && n > 0, "%q", reply)
		}
		if replyOf(a, script.ParseConfirm).Kind == script.Counted {
			require.True(t, integer && n > 0, "%q", reply)
		}
		if replyOf(a, script.ParseExtend).Kind == script.Confirmed {
			require.True(t, integer && n == 1, "%q", reply)
		}
		if replyOf(a, script.ParseRepair).Kind == script.Repaired {
			require.True(t, integer && n == 1, "%q", reply)
		}
		if replyOf(a, script.ParseRelease).Kind != script.Failed {
			require.True(t, integer && n >= 0 && n <= 3, "%q", reply)
		}
		if a.Err == nil {
			_, _ = script.ParseInspect(a.Msg)
			if s, err := script.ParseStand(a.Msg); err == nil && s.Granted {
				require.True(t, s.Count > 0 && s.Count < 1<<53 && s.Stamp >= 0 && !integer, "%q", reply)
			} else if err == nil {
				require.True(t, s.Rank >= 0 && s.Left >= -1 && s.SitsOut >= 0 && s.Count == 0, "%q", reply)
			}
			_, _ = script.ParseAgree(a.Msg)
		}
	})
}

// answerOf is what the client makes of a reply, after which the server hangs up.
func answerOf(t *testing.T, reply []byte) node.Answer {
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
	k, _ := script.NewKeys("redlock:", "k")
	q := script.Release(k, "me", "", "", "1", script.Guard{Least: "0"})
	return node.AnswerOf(q.Eval(context.Background(), c))
}
