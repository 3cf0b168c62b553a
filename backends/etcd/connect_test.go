package etcd

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ended is a connection that the server has ended.
type ended struct {
	net.Conn
	read, write error
}

func (e ended) Read([]byte) (int, error)        { return 0, e.read }
func (e ended) Write([]byte) (int, error)       { return 0, e.write }
func (e ended) SetReadDeadline(time.Time) error { return nil }

// Which of reader and writer notices the end first is the scheduler's choice.
func TestWhyTheServerEndedAConnectionIsKnownWhoeverNoticesItFirst(t *testing.T) {
	alert := &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}
	for _, c := range []struct {
		name string
		ended
		use  func(net.Conn)
		want string
	}{
		{"the reader", ended{nil, alert, syscall.EPIPE}, func(c net.Conn) { _, _ = c.Read(make([]byte, 9)) }, "certificate required"},
		{"the writer", ended{nil, alert, syscall.EPIPE}, func(c net.Conn) { _, _ = c.Write([]byte("PRI")) }, "certificate required"},
		{"the writer, and the words are lost", ended{nil, io.EOF, syscall.EPIPE}, func(c net.Conn) { _, _ = c.Write([]byte("PRI")) }, "another client certificate?): EOF"},
		{"the reader, and the words are lost", ended{nil, syscall.ECONNRESET, nil}, func(c net.Conn) { _, _ = c.Read(make([]byte, 9)) }, "another client certificate?): connection reset"},
	} {
		kept := new(connecting)
		c.use(&answers{Conn: c.ended, c: kept})
		require.NotNil(t, kept.last.Load(), c.name)
		require.ErrorContains(t, *kept.last.Load(), c.want, c.name)
	}

	kept := new(connecting)
	_, _ = (&answers{Conn: ended{nil, net.ErrClosed, net.ErrClosed}, c: kept}).Read(nil)
	require.Nil(t, kept.last.Load(), "the end of a connection that this side closed says nothing")
}
