package nodeconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// open makes a node's connections, and says what was wrong with one that the server ends
// before its first word: it gives no reason there.
func open(network string) func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	return func(ctx context.Context, addr string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
		if d.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, d.Timeout)
			defer cancel()
		}
		dialer := *d
		if dialer.Resolver == nil { // one of its own, so that a look-up that began before does not hold this one up
			r := net.DefaultResolver
			dialer.Resolver = &net.Resolver{PreferGo: r.PreferGo, StrictErrors: r.StrictErrors, Dial: r.Dial}
		}
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if config == nil {
			return &wire{Conn: conn, hint: "it may want TLS (rediss://)"}, nil
		}
		if config.ServerName == "" { // each of a Cluster's servers by its own name
			config = config.Clone()
			config.ServerName, _, _ = net.SplitHostPort(addr)
		}
		stageOf(ctx).enter(stepTLS, "")
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, handshakeError(err)
		}
		return &wire{Conn: secure, hint: "it may want another client certificate (Options.TLS)"}, nil
	}
}

const noHandshake = "it accepted the connection but did not answer the TLS handshake: it may not speak TLS on this port (redis://)"

func handshakeError(err error) error {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout(): // a context's, too
		return errors.New(noHandshake)
	case errors.As(err, new(tls.RecordHeaderError)):
		return fmt.Errorf("TLS handshake: %w: it may not speak TLS on this port (redis://)", err)
	case hungUp(err):
		return fmt.Errorf("TLS handshake: %w: it may not speak TLS on this port (redis://)", err)
	}
	return fmt.Errorf("TLS handshake: %w", err)
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// wire is a connection that explains why the server may have ended it before its first word.
type wire struct {
	net.Conn
	hint  string
	spoke atomic.Bool

	mu     sync.Mutex // guards unread
	unread []byte     // what Write read of the server's words when nothing could be written any more
}

func (w *wire) Read(b []byte) (int, error) {
	w.mu.Lock()
	n := copy(b, w.unread)
	w.unread = w.unread[n:]
	w.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	n, err := w.Conn.Read(b)
	if n > 0 && !w.spoke.Load() {
		w.spoke.Store(true)
	}
	return n, w.explain(err)
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if err == nil || w.spoke.Load() || !hungUp(err) {
		return n, err
	}
	// The reason, a TLS alert or the server's own words, can lie there unread.
	_ = w.SetReadDeadline(time.Now().Add(lastWords))
	var words [512]byte
	m, why := w.Conn.Read(words[:])
	if m > 0 {
		w.spoke.Store(true)
		w.mu.Lock()
		w.unread = append(w.unread, words[:m]...)
		w.mu.Unlock()
		return n, err
	}
	if why != nil && !hungUp(why) && !errors.Is(why, os.ErrDeadlineExceeded) {
		err = why
	}
	return n, w.explain(err)
}

// lastWords is how long a connection on which nothing can be written any more is read.
const lastWords = 50 * time.Millisecond

func (w *wire) explain(err error) error {
	if err == nil || w.spoke.Load() || !hungUp(err) {
		return err
	}
	return fmt.Errorf("the server hung up before it said anything, %s: %w", w.hint, err)
}
