package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
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

// explained asks until the error says why, because a busy machine may not get to connecting
// within the time of one request.
func explained(why string, ask func() error) (err error) {
	for range 5 {
		if err = ask(); err == nil || strings.Contains(err.Error(), why) {
			break
		}
	}
	return err
}

func TestTheWrongKindOfServerIsNamed(t *testing.T) {
	c, a := storetest.StartEtcd(t, 1), storetest.NewAuthority(t)
	a.Issue(t, storetest.Certificate{Name: "client"})
	secure := storetest.StartEtcdTLS(t, a)
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	var asking sync.WaitGroup
	for _, with := range []struct{ scheme, addr, want string }{
		{"http", secure.Addr(), "etcds://"},
		{"http", strings.TrimPrefix(web.URL, "http://"), "no etcd"},
		{"https", c.Members[0].Addr(), "etcd:// is without"},
	} {
		asking.Go(func() {
			l, err := openURL(t.Context(), with.scheme, "//"+with.addr)
			if !assert.NoError(t, err) {
				return
			}
			err = explained(with.want, func() error {
				_, err := l.TryAcquire(t.Context(), "k", time.Minute)
				return err
			})
			assert.ErrorIs(t, err, lock.ErrUnavailable, with.addr)
			assert.ErrorContains(t, err, with.want)
			assert.NoError(t, l.(*Locker).Close())
			// With a password, opening asks.
			err = explained(with.want, func() error {
				_, err := openURL(t.Context(), with.scheme, "//u:s3cret@"+with.addr)
				return err
			})
			assert.ErrorIs(t, err, lock.ErrUnavailable, with.addr)
			assert.ErrorContains(t, err, with.want)
			assert.NotContains(t, fmt.Sprint(err), "s3cret")
		})
	}
	asking.Wait()
}

func TestAClusterThatIsAwayWhenItIsOpenedIsAnOutage(t *testing.T) {
	addr := fmt.Sprint("127.0.0.1:", redistest.FreePort(t))
	err := explained("connection refused", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := openURL(ctx, "http", "//u:s3cret@"+addr)
		return err
	})
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "s3cret")
}

// The time of ctx ends with the opening; the client lives on.
func TestTheContextOfOpeningDoesNotBoundTheLocker(t *testing.T) {
	c := storetest.StartEtcd(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	l, err := openURL(ctx, "http", "//u:s3cret@"+c.Members[0].Addr())
	require.NoError(t, err)
	cancel()
	release(t.Context(), t, acquire(t, l, "k", time.Minute))
	require.NoError(t, l.(*Locker).Close())
}
