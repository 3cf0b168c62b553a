package redlock

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// opener gives connections whose servers answer from the time black is over.
type opener struct {
	t      *testing.T
	black  time.Time
	opened int
	conns  []net.Conn
	mu     sync.Mutex // guards the two above
}

func (o *opener) open(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened++
	ours, theirs := net.Pipe()
	o.conns = append(o.conns, ours)
	swallowed := time.Now().Before(o.black)
	go func() {
		defer theirs.Close()
		in := bufio.NewReader(theirs)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if line == "PING\r\n" && !swallowed {
				_, _ = theirs.Write([]byte("-NOAUTH Authentication required.\r\n+"))
			}
		}
	}()
	return ours, nil
}

func TestAConnectThatBeganInABlackoutIsOvertakenByOneThatDidNot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := &opener{t: t}
		r := &reconnector{open: o.open}
		d := &net.Dialer{Timeout: time.Minute}
		first, err := r.dial(t.Context(), "node", d, nil)
		require.NoError(t, err)
		defer first.Close()

		start := time.Now()
		o.black = start.Add(10*hedge - time.Millisecond)
		conn, err := r.dial(t.Context(), "node", d, nil)
		require.NoError(t, err)
		require.Equal(t, 10*hedge, time.Since(start))
		next := make([]byte, 1)
		_, err = conn.Read(next) // what follows the answer is the client's
		require.NoError(t, err)
		require.Equal(t, "+", string(next))
		require.NoError(t, conn.Close())
		require.Equal(t, 12, o.opened)
		for _, c := range o.conns[1:] {
			_, err := c.Write([]byte("x"))
			require.Error(t, err, "it is closed")
		}
	})
}

func TestAReconnectEndsWithItsDialTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := &opener{t: t, black: time.Now().Add(time.Hour)}
		r := &reconnector{open: o.open}
		r.been.Store(true)
		start := time.Now()
		_, err := r.dial(t.Context(), "node", &net.Dialer{Timeout: time.Second}, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestARefusedReconnectIsNotTriedAgainAtOnce(t *testing.T) {
	refused, opened := errors.New("connection refused"), 0
	r := &reconnector{open: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
		opened++
		return nil, refused
	}}
	r.been.Store(true)
	_, err := r.dial(t.Context(), "node", &net.Dialer{Timeout: time.Minute}, nil)
	require.ErrorIs(t, err, refused)
	require.Equal(t, 1, opened)
}
