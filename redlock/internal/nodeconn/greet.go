package nodeconn

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// greeter makes one connection and says who we are on it. The client library would do
// that, too, but only with servers that have HELLO and CLIENT, with one password for
// all time, and it would not say why a server hangs up at once.
type greeter struct {
	open          OpenFunc
	name          string // of the connection; "" for none
	db            int
	first         manner // that is tried
	login         login
	sentinelLogin login
	// getTLS is asked for each connection with TLS; nil: the client's option stands.
	getTLS func(context.Context) (*tls.Config, error)
	lost   func() // a connection has ended by itself
	// silence is after what time without an answer a connection is dead.
	silence time.Duration

	// greeting is the last server's reply to HELLO.
	greeting atomic.Pointer[[]byte]
	// plain: the last server spoke RESP2 only, so that there are no notifications.
	plain atomic.Bool
	// barred is until when a server that hangs up at HELLO is not tried without HELLO, as
	// time since epoch. Most servers that hang up do so whatever they are asked.
	barred atomic.Int64
}

// login gives the user and the password of a new connection.
type login func(context.Context) (user, password string, err error)

// forSentinel knows the connections to Sentinels: the client library gives them the
// dialer that was made for them, and that is all that sets them apart.
func forSentinel(d *net.Dialer) bool { return d.FallbackDelay == sentinelMark }

// sentinelMark is the delay that package net takes for 0, and a nanosecond, by which it is
// known.
const sentinelMark = 300*time.Millisecond + 1

// manner is how much of the protocol a server is asked to know.
type manner int

const (
	full  manner = iota // HELLO 3
	older               // no HELLO: RESP2
	bare                // no CLIENT either
)

// epoch makes monotonic readings fit an atomic integer.
var epoch = time.Now()

// connect is a connector's try.
func (g *greeter) connect(ctx context.Context, addr string, d *net.Dialer, conf *tls.Config) (net.Conn, error) {
	conn, err := g.greeted(ctx, addr, d, conf, g.first)
	if err == nil || !hungUp(err) || ctx.Err() != nil {
		return conn, err
	}
	// Some proxies hang up where others answer that they don't know a command.
	now := int64(time.Since(epoch))
	if until := g.barred.Load(); until != 0 && now < until {
		return nil, err
	}
	for how := g.first + 1; how <= bare; how++ {
		conn, err := g.greeted(ctx, addr, d, conf, how)
		if err != nil && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		// A server that had only just started must not be taken for such a proxy.
		if better, err := g.greeted(ctx, addr, d, conf, g.first); err == nil {
			_ = conn.Close()
			return better, nil
		}
		return conn, nil
	}
	g.barred.Store(now + int64(5*time.Second))
	return nil, err
}

func (g *greeter) greeted(ctx context.Context, addr string, d *net.Dialer, conf *tls.Config, how manner) (net.Conn, error) {
	if conf != nil && g.getTLS != nil {
		fresh, err := g.getTLS(ctx)
		if err != nil {
			return nil, fmt.Errorf("TLS configuration: %w", err)
		}
		conf = mergeTLS(fresh, conf)
	}
	conn, err := g.open(ctx, addr, d, conf)
	if err != nil {
		return nil, err
	}
	stageOf(ctx).enter(stepServer, "")
	guarded := &protocolGuard{Conn: conn}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	reply, err := g.greet(ctx, guarded, how, forSentinel(d))
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	guarded.silence = g.silence
	if !forSentinel(d) {
		guarded.lost = g.lost
	}
	return &greeted{Conn: guarded, reply: reply}, nil
}

// noHello is what the client library takes for the answer of a server without HELLO. It
// asks it nothing else then.
const noHello = "-ERR unknown command 'HELLO'\r\n"

// greet gives what the client library is to read as the reply to its HELLO. That can be a
// refusal: the client library makes an error of it.
func (g *greeter) greet(ctx context.Context, c net.Conn, how manner, sentinel bool) (reply []byte, err error) {
	login, db := g.login, g.db
	if sentinel {
		login, db = g.sentinelLogin, 0
	}
	user, password, err := login(ctx)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	known := user != "" || password != ""
	if how == full {
		hello := []string{"HELLO", "3"}
		if known {
			hello = append(hello, "AUTH", cmp.Or(user, "default"), password)
		}
		if g.name != "" {
			hello = append(hello, "SETNAME", g.name)
		}
		reply, err = exchange(c, hello...)
		switch {
		case err != nil || reply[0] == '-' && !withoutHello(reply):
			return reply, err
		case reply[0] == '-':
			how = older
		}
	}
	if how != full {
		reply = []byte(noHello)
		first := []string{"PING"}
		switch {
		case known && user == "":
			first = []string{"AUTH", password}
		case known:
			first = []string{"AUTH", user, password}
		}
		if said, err := exchange(c, first...); err != nil || said[0] == '-' && (known || shutOut(said)) {
			return said, err
		}
		if how == older && g.name != "" {
			if _, err := exchange(c, "CLIENT", "SETNAME", g.name); err != nil { // a refusal does no harm
				return nil, err
			}
		}
	}
	if db != 0 {
		if said, err := exchange(c, "SELECT", strconv.Itoa(db)); err != nil || said[0] == '-' {
			return said, err
		}
	}
	if !sentinel {
		g.plain.Store(how != full)
		g.greeting.Store(&reply)
	}
	return reply, nil
}

// said is what the last server said of itself in its greeting: of its mode (standalone,
// sentinel, cluster) or role (master, replica); "" if it did not.
func (g *greeter) said(name string) string {
	reply := g.greeting.Load()
	if reply == nil {
		return ""
	}
	_, after, _ := bytes.Cut(*reply, []byte("\r\n"+name+"\r\n"))
	_, after, _ = bytes.Cut(after, []byte("\r\n")) // its length
	value, _, _ := bytes.Cut(after, []byte("\r\n"))
	return string(value)
}

// withoutHello: the refusal is of the command, not of us.
func withoutHello(reply []byte) bool {
	for _, code := range []string{"-ERR ", "-NOPERM ", "-NOPROTO "} {
		if bytes.HasPrefix(reply, []byte(code)) {
			return !shutOut(reply)
		}
	}
	return false
}

// shutOut: the server answers nothing of use on this connection.
func shutOut(reply []byte) bool {
	return bytes.HasPrefix(reply, []byte("-NOAUTH")) || bytes.HasPrefix(reply, []byte("-DENIED")) ||
		bytes.Contains(reply, []byte("max number of clients"))
}

// exchange asks for one thing, and gives the whole reply as it came.
func exchange(c net.Conn, args ...string) ([]byte, error) {
	var ask strings.Builder
	fmt.Fprintf(&ask, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&ask, "$%d\r\n%s\r\n", len(arg), arg)
	}
	// A server that hangs up at once may have said why: those words can be read even if
	// nothing can be sent any more.
	_, unsent := c.Write([]byte(ask.String()))
	var s scanner
	var reply []byte
	buf, got := make([]byte, 4<<10), 0
	for got == 0 {
		n, err := c.Read(buf)
		reply = append(reply, buf[:n]...)
		if wrong := s.scan(buf[:n], func(byte, []byte) error { got++; return nil }); wrong != nil {
			return nil, fmt.Errorf("%w: %w", nodeerr.ErrReply, wrong)
		}
		if err != nil && got == 0 {
			return nil, cmp.Or(unsent, err)
		}
	}
	return reply, nil
}

// greeted is a connection on which the server has been greeted: the client library's
// HELLO stays here, and gets the reply that came.
type greeted struct {
	net.Conn
	reply  []byte
	over   atomic.Bool // the client library has asked for something else
	unread []byte      // of reply; not used once over is set
}

func (g *greeted) Write(b []byte) (int, error) {
	const hello = "*2\r\n$5\r\nHELLO\r\n$1\r\n"
	if !g.over.Load() && len(b) == len(hello)+3 && bytes.HasPrefix(b, []byte(hello)) {
		g.unread = g.reply
		return len(b), nil
	}
	g.over.Store(true)
	return g.Conn.Write(b)
}

func (g *greeted) Read(b []byte) (int, error) {
	if !g.over.Load() && len(g.unread) > 0 {
		n := copy(b, g.unread)
		g.unread = g.unread[n:]
		return n, nil
	}
	return g.Conn.Read(b)
}
