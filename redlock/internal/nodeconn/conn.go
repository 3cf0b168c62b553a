// Package nodeconn makes and keeps the connections to one node: it dials, with TLS and
// credentials, reconnects in time, replaces a connection that leads to the wrong server,
// and ends one on which a server breaks the protocol. It knows neither votes nor locks.
package nodeconn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// Options are how the connections of [Dial] are made, and who owns them.
type Options struct {
	// NodeTimeout is how long a caller waits for the node's answer.
	NodeTimeout time.Duration
	TLS         *tls.Config
	GetTLS      func(context.Context) (*tls.Config, error) // in place of TLS, if not nil
	Credentials func(ctx context.Context, node string) (user, password string, err error)
	// Open opens the connections; nil: over the network.
	Open OpenFunc
	// Begin announces goroutines to Group, unless the owner has closed it.
	Begin func(goroutines int) error
	Group *sync.WaitGroup
}

// Conn is the client of one node, whose server or servers may change in the course of
// time. It is safe for concurrent use. A caller of Client, or a user of what it gives, is
// counted in the owner's group meanwhile.
type Conn struct {
	client atomic.Pointer[rueidis.Client] // nil: not connected yet
	group  *sync.WaitGroup
	dialer *dialer // nil: the client is a caller's own
}

// Of is a caller's own client.
func Of(client rueidis.Client, group *sync.WaitGroup) *Conn {
	c := &Conn{group: group}
	c.use(client)
	return c
}

// Dial gives the node of a URL. It does no I/O: that begins when somebody asks.
func Dial(u *URL, o *Options) *Conn {
	c := &Conn{group: o.Group}
	c.dialer = newDialer(u, o, c.use)
	return c
}

func (c *Conn) use(client rueidis.Client) {
	client = detached{client, c.group} // what it leads to can be replaced, see current
	c.client.Store(&client)
}

// Client gives the client. If there is none, it makes it first, unless that was tried a moment
// ago.
func (c *Conn) Client() (rueidis.Client, error) {
	if client := c.client.Load(); client != nil {
		return *client, nil
	}
	c.dialer.ask()
	if client := c.client.Load(); client != nil {
		return *client, nil
	}
	if err := c.dialer.last(); err != nil {
		return nil, err
	}
	return nil, nodeerr.ErrConnecting
}

// Connect makes the client now, if there is none. A caller's own is always there.
func (c *Conn) Connect() {
	if c.dialer != nil {
		c.dialer.connect()
	}
}

// Close ends all connections, and with them the requests that wait on them.
func (c *Conn) Close() {
	if c.dialer != nil {
		c.dialer.close()
	} else {
		(*c.client.Load()).Close()
	}
}

// Cluster reports that the node is a whole Redis Cluster.
func (c *Conn) Cluster() bool {
	client := c.client.Load()
	return client != nil && (*client).Mode() == rueidis.ClientModeCluster || c.dialer != nil && c.dialer.cluster
}

// Single reports that the node is one server, as far as is known: not the present one of
// a Sentinel's set, or a Cluster.
func (c *Conn) Single() bool {
	client := c.client.Load()
	return client != nil && (*client).Mode() == rueidis.ClientModeStandalone
}

// Replied looks at the error of one request: some say that the connection leads to a wrong
// server, and have it replaced. The client does so itself, but not with errors that are
// within the reply to a batch.
func (c *Conn) Replied(err error) {
	if c.dialer != nil {
		c.dialer.replied(nil, err)
	}
}

// Renew replaces the client now, as is done about every MaxAge, and reports whether that was
// done: not if the new one is no better.
func (c *Conn) Renew() bool { return c.dialer != nil && c.dialer.renew(c.dialer.gen.Load()) }

// Replaced is closed when the present client has given way to a newer one; nil: it never
// does.
func (c *Conn) Replaced() <-chan struct{} {
	if c.dialer == nil || c.dialer.gen.Load() == nil {
		return nil
	}
	return c.dialer.gen.Load().retired
}

// NeverSent reports that there was no connection that a request with this error could
// have been sent on. A caller's own client may send a request more than once.
func (c *Conn) NeverSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" && c.dialer != nil
}

// Pending is what a connection waits for that is being made; nil: none is.
func (c *Conn) Pending() error {
	if c.dialer == nil {
		return nil
	}
	return c.dialer.conns.pending()
}

// Took is what the last connection took to be made, if Dial made it.
func (c *Conn) Took() Timing {
	if c.dialer == nil {
		return Timing{}
	}
	return c.dialer.conns.usually()
}

// RESP2Only reports that the last server did not speak RESP3, so that there are no
// notifications.
func (c *Conn) RESP2Only() bool { return c.dialer != nil && c.dialer.greeter.plain.Load() }

// Said is what the last server said of itself when it was greeted: of its mode
// (standalone, sentinel, cluster) or role (master, replica); "" if it did not.
func (c *Conn) Said(name string) string {
	if c.dialer == nil {
		return ""
	}
	return c.dialer.greeter.said(name)
}

// Note keeps err as the reason why the node can't be reached, until there is another one.
func (c *Conn) Note(err error) {
	if c.dialer != nil {
		c.dialer.note(err)
	}
}

// Last is the last reason why the node could not be reached; nil: there was none.
func (c *Conn) Last() error {
	if c.dialer == nil {
		return nil
	}
	return c.dialer.last()
}

// Slow reports that err is of a connection that takes its time, to a server that is
// probably there all the same. An address that does not answer may well be down, and a
// server that accepts the connection and then says nothing, to the TLS handshake or to the
// first request, hangs.
func Slow(err error, nodeTimeout time.Duration) bool {
	slow, ok := errors.AsType[*unconnected](err)
	return ok && slow.going && slow.at != stepTCP && (slow.at == stepDNS || slow.after-slow.named < 3*nodeTimeout)
}
