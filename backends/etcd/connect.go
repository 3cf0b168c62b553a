package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/tonsurance/lockkeeper/lock"
)

// connecting keeps why the last connection could not be made. The client asks again and
// again until a call's time is over, and then says only that: a certificate that is not
// trusted would look like a server that is slow.
type connecting struct{ last atomic.Pointer[error] }

func (c *connecting) note(err error) error {
	if err != nil && !errors.Is(err, context.Canceled) {
		c.last.Store(&err)
	}
	return err
}

// dial makes a client, for which it asks the cluster if there is a password. ctx bounds that and
// not the client.
func (c *connecting) dial(ctx context.Context, cfg clientv3.Config) (*clientv3.Client, error) {
	c.watch(&cfg)
	living, cancel := context.WithCancel(context.Background())
	cfg.Context = living
	stop := context.AfterFunc(ctx, cancel)
	client, err := clientv3.New(cfg)
	stopped := stop()
	if err == nil && stopped {
		return client, nil // its Close ends what is below living
	}
	cancel()
	if err == nil {
		_ = client.Close()
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", lock.ErrUnavailable, lock.ContextError(ctx))
		if why := c.last.Load(); why != nil {
			err = fmt.Errorf("%w: can't connect: %v", err, *why)
		}
		return nil, err
	}
	if err = judge(c.explain(err)); errors.Is(err, lock.ErrRefused) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %v", lock.ErrUnavailable, err)
}

// explain adds it to the error of a call whose time is over.
func (c *connecting) explain(err error) error {
	if c == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if why := c.last.Load(); why != nil {
		return fmt.Errorf("can't connect: %v", *why)
	}
	return err
}

// watch has a client's connections noted.
func (c *connecting) watch(cfg *clientv3.Config) {
	cfg.DialOptions = append(cfg.DialOptions, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return conn, c.note(err)
		}
		if cfg.TLS == nil {
			return &answers{Conn: conn, c: c, plain: true}, nil
		}
		return conn, nil
	}))
	if cfg.TLS != nil {
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithTransportCredentials(&handshakes{credentials.NewTLS(withALPN(cfg.TLS)), c}))
	}
}

// withALPN is a configuration that asks for the protocol which gRPC needs.
func withALPN(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.NextProtos = []string{"h2"}
	return c
}

// handshakes are credentials whose failures are noted.
type handshakes struct {
	credentials.TransportCredentials
	c *connecting
}

func (h *handshakes) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if _, other := errors.AsType[tls.RecordHeaderError](err); other || errors.Is(err, io.EOF) {
		err = fmt.Errorf("TLS handshake: %w (does the server take TLS? etcd:// is without)", err)
	}
	if err != nil {
		return conn, info, h.c.note(err)
	}
	return &answers{Conn: conn, c: h.c}, info, nil
}

// answers is a connection whose server may still refuse the client's certificate: it says so
// in place of its first answer, and ends the connection. Without TLS, it may be a server that
// wants it, or no etcd at all.
type answers struct {
	net.Conn
	c        *connecting
	plain    bool // without TLS
	answered atomic.Bool
}

// What a server begins with that does not speak HTTP/2 without TLS.
const (
	tlsAlert = "\x15\x03"
	http1    = "HTTP/1"
)

func (a *answers) Read(b []byte) (int, error) {
	n, err := a.Conn.Read(b)
	switch first := !a.answered.Load() && n > 0; {
	case first && a.plain && strings.HasPrefix(string(b[:n]), tlsAlert):
		_ = a.c.note(errors.New("the server wants TLS: etcds://"))
	case first && a.plain && strings.HasPrefix(string(b[:n]), http1):
		_ = a.c.note(errors.New("what answers there is no etcd, or wants TLS: etcds://"))
	case n > 0:
		a.c.last.Store(nil)
	}
	if n > 0 {
		a.answered.Store(true)
	} else if !a.answered.Load() {
		a.refused(err)
	}
	return n, err
}

// Write may find the connection ended before its reader has read why. The client closes the
// connection then, so the reason is read here.
func (a *answers) Write(b []byte) (int, error) {
	n, err := a.Conn.Write(b)
	if err != nil && !a.answered.Load() && !errors.Is(err, net.ErrClosed) {
		_ = a.SetReadDeadline(time.Now().Add(time.Second))
		_, why := a.Conn.Read(make([]byte, 1))
		a.refused(cmp.Or(why, err))
	}
	return n, err
}

// refused notes why a connection ended before the first answer. The server's own words are
// best. They can be lost where it resets the connection, and then the likely reason is said.
func (a *answers) refused(err error) {
	switch alert, ok := errors.AsType[*net.OpError](err); {
	case ok && alert.Op == "remote error":
		_ = a.c.note(err)
	case !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) && a.c.last.Load() == nil:
		why := "after the handshake (does it want another client certificate?)"
		if a.plain {
			why = "at once (does it want TLS: etcds://?)"
		}
		_ = a.c.note(fmt.Errorf("the server ended the connection %s: %w", why, err))
	}
}

func (h *handshakes) Clone() credentials.TransportCredentials {
	return &handshakes{h.TransportCredentials.Clone(), h.c}
}
