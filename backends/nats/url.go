package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/tlsfile"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
)

func init() {
	registry.Register("nats", func(_ context.Context, rest string) (lock.Locker, error) { return openURL("nats", rest) })
	registry.Register("natss", func(_ context.Context, rest string) (lock.Locker, error) { return openURL("natss", rest) })
}

// A server that hangs is noticed by pings, and another one is used.
const (
	pingInterval = 2 * time.Second
	pingsOut     = 2
	dialTimeout  = 2 * time.Second // for each server
	redial       = 250 * time.Millisecond
)

// openURL takes //user:password@h1:4222,h2,h3?bucket=&... A user without a password is a token,
// as NATS has it. natss requires TLS, nats uses it where the server does.
func openURL(scheme, rest string) (lock.Locker, error) {
	h, err := urlparams.ReadHosts("nats", rest, "4222",
		scheme+"://host:4222[,host:4222] and parameters; user:password@ or a token and @ before the first host, percent-encoded")
	if err != nil {
		return nil, err
	}
	p := h.Params
	options := options()
	if h.Named {
		options, err = withCredentials(options, h.Credentials)
		if err != nil {
			return nil, err
		}
	}
	o := &Options{Bucket: p.Text("bucket"), Record: record.Options{Owner: p.Text("owner"), HeadStart: p.Duration("head-start"), Grace: p.Duration("grace")}}
	o.Replicas = urlparams.Read(p, "replicas", "1 to 5", func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if n < 1 || n > 5 {
			err = errors.New("out of range")
		}
		return n, err
	})
	domain, inbox, creds, nkey := p.Text("domain"), p.Text("inbox"), p.Text("creds"), p.Text("nkey")
	ca, cert, key := p.Text("tls-ca"), p.Text("tls-cert"), p.Text("tls-key")
	if err := p.Done(); err != nil {
		return nil, err
	}
	if strings.ContainsFunc(domain, func(r rune) bool { return r >= 0x80 || !word(byte(r)) }) {
		return nil, fmt.Errorf("%w: domain is %.64q, want letters, digits, - and _", lock.ErrInvalid, domain)
	}
	if creds != "" && nkey != "" {
		return nil, fmt.Errorf("%w: creds and nkey are given, want one of them", lock.ErrInvalid)
	}
	if creds != "" {
		if err := checkCredentials(creds); err != nil {
			return nil, err
		}
		options = append(options, natsgo.UserCredentials(creds))
	}
	if nkey != "" {
		if _, err := os.Stat(nkey); err != nil {
			return nil, fmt.Errorf("%w: the credentials: %w", lock.ErrInvalid, err)
		}
		seed, err := natsgo.NkeyOptionFromSeed(nkey)
		if err != nil {
			return nil, fmt.Errorf("%w: nkey=%s has no seed of a user in it", lock.ErrInvalid, nkey)
		}
		options = append(options, seed)
	}
	if inbox != "" {
		prefix := natsgo.CustomInboxPrefix(inbox)
		if prefix(&natsgo.Options{}) != nil {
			return nil, fmt.Errorf("%w: inbox is %.64q, want a subject without wildcards and without a dot at its end", lock.ErrInvalid, inbox)
		}
		options = append(options, prefix)
	}
	secure, err := tlsfile.Load(ca, cert, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", lock.ErrInvalid, err)
	}
	if secure == nil && scheme == "natss" {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if secure != nil {
		options = append(options, natsgo.Secure(secure))
	}
	l, err := newLocker(dialing(strings.Join(h.URLs, ","), options, domain), o)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// checkCredentials refuses a file that has no credentials in it. It is read again for each
// connection, since it may be replaced.
func checkCredentials(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%w: the credentials: %w", lock.ErrInvalid, err)
	}
	defer clear(text)
	_, err = nkeys.ParseDecoratedJWT(text)
	if seed, noSeed := nkeys.ParseDecoratedUserNKey(text); noSeed != nil {
		err = noSeed
	} else {
		seed.Wipe()
	}
	if err != nil {
		return fmt.Errorf("%w: creds=%s has no JWT and seed of a user in it", lock.ErrInvalid, file)
	}
	return nil
}

// options are those of each connection that is made here.
func options() []natsgo.Option {
	return []natsgo.Option{
		natsgo.Name("lockkeeper"), natsgo.Timeout(dialTimeout), natsgo.PingInterval(pingInterval), natsgo.MaxPingsOutstanding(pingsOut),
		natsgo.RetryOnFailedConnect(true), natsgo.MaxReconnects(-1), natsgo.ReconnectWait(redial), natsgo.ReconnectJitter(redial, redial),
		natsgo.ReconnectBufSize(-1),   // a request fails without a connection, instead of being sent late
		natsgo.IgnoreAuthErrorAbort(), // a password that is mended in the servers works again
	}
}

func withCredentials(options []natsgo.Option, credentials string) ([]natsgo.Option, error) {
	name, password, both := strings.Cut(credentials, ":")
	name, err1 := url.PathUnescape(name)
	password, err2 := url.PathUnescape(password)
	switch {
	case err1 != nil || err2 != nil:
		return nil, urlparams.ErrNoURL
	case both:
		return append(options, natsgo.UserInfo(name, password)), nil
	}
	return append(options, natsgo.Token(name)), nil
}

// dialing is a connection that it makes itself, when it is first used.
func dialing(servers string, options []natsgo.Option, domain string) *connection {
	var c *connection
	dial := func(ctx context.Context) (jetstream.JetStream, error) {
		options := append(options,
			natsgo.SetCustomDialer(&dialer{ctx, net.Dialer{Timeout: dialTimeout}, c.noteFailure}),
			natsgo.ReconnectErrHandler(func(_ *natsgo.Conn, err error) { c.noteFailure(err) }),
			natsgo.DisconnectErrHandler(func(_ *natsgo.Conn, err error) {
				if err != nil {
					c.noteFailure(err)
				}
			}),
			natsgo.ConnectHandler(func(*natsgo.Conn) { c.noteFailure(nil) }),
			natsgo.ReconnectHandler(func(*natsgo.Conn) { c.noteFailure(nil) }),
			natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { c.deny(err) }),
		)
		conn, err := natsgo.Connect(servers, options...)
		if err != nil {
			return nil, fmt.Errorf("%w: the connection's settings: %v", lock.ErrRefused, err) // it goes on trying after any other
		}
		if !conn.IsConnected() {
			// It goes on trying. Why the first attempt failed comes a moment later.
			select {
			case <-c.noted:
			case <-time.After(dialTimeout):
			case <-ctx.Done():
			}
		}
		if domain != "" {
			return jetstream.NewWithDomain(conn, domain)
		}
		return jetstream.New(conn)
	}
	c = newConnection(dial, func(js jetstream.JetStream) { js.Conn().Close() })
	c.own = true
	return c
}

// dialer ends with its ctx.
type dialer struct {
	ctx context.Context
	net.Dialer
	failed func(error) // gets why it could not
}

func (d *dialer) Dial(network, addr string) (net.Conn, error) {
	conn, err := d.DialContext(d.ctx, network, addr)
	if errors.Is(err, context.Canceled) {
		return nil, lock.ErrClosed
	}
	if err != nil {
		d.failed(err)
	}
	return conn, err
}
