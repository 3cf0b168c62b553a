package redlock

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// hedge is after what time without an answer a connection is tried beside the one that
// is under way. A connection that began in a black-out would else hold up its node
// for the whole dial timeout after the network is back.
const hedge = 200 * time.Millisecond

// reconnector opens the connections to a node. The first is made as it comes. Those
// after it are handed out once the server has answered a PING on them, the quickest
// of up to dial timeout / hedge.
type reconnector struct {
	open func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)
	been atomic.Bool // there was a connection
}

// hedged makes option's connections come from a reconnector.
func hedged(option *rueidis.ClientOption) {
	option.DialCtxFn = (&reconnector{open: option.DialCtxFn}).dial
}

func (r *reconnector) dial(ctx context.Context, addr string, d *net.Dialer, conf *tls.Config) (net.Conn, error) {
	if !r.been.Load() {
		conn, err := r.open(ctx, addr, d, conf)
		if err == nil {
			r.been.Store(true)
		}
		return conn, err
	}
	ctx, stop := context.WithTimeout(ctx, d.Timeout)
	var tries sync.WaitGroup
	defer tries.Wait()
	defer stop() // ends those that are not needed
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	try := func() {
		conn, err := r.answering(ctx, addr, d, conf)
		select {
		case results <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				_ = conn.Close()
			}
		}
	}
	tries.Go(try)
	more := time.NewTicker(hedge)
	defer more.Stop()
	for {
		select {
		case res := <-results: // also a refusal: it is an answer
			return res.conn, res.err
		case <-more.C:
			tries.Go(try)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// answering opens a connection, and waits until the server has said something on it.
func (r *reconnector) answering(ctx context.Context, addr string, d *net.Dialer, conf *tls.Config) (net.Conn, error) {
	conn, err := r.open(ctx, addr, d, conf)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = ping(conn)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// ping takes any line for an answer: that a password is wanted, or that data is being
// loaded, is for others to find out.
func ping(conn net.Conn) error {
	if _, err := conn.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return err
	}
	for b := make([]byte, 1); b[0] != '\n'; { // and not a byte beyond
		if _, err := conn.Read(b); err != nil {
			return err
		}
	}
	return nil
}
