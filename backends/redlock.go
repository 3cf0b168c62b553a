package backends

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/tlsfile"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func openRedlock(ctx context.Context, scheme, rest string) (lock.Locker, error) {
	urls, opts, err := parseRedlock(scheme, rest)
	if err != nil {
		return nil, err
	}
	l, err := redlock.Dial(ctx, urls, opts)
	if err != nil {
		return nil, err // not l: a nil *redlock.Locker is no nil Locker
	}
	return l, nil
}

// parseRedlock splits //user:password@h1:1,h2:2?query, which url.Parse takes for
// one host with a bad port, into one URL a node.
func parseRedlock(scheme, rest string) (urls []string, opts *redlock.Options, err error) {
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return nil, nil, fmt.Errorf("%w: want %s://host:port[,host:port]", lock.ErrInvalid, scheme)
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	if strings.Contains(tail, "@") {
		// The head may be half a password: nothing of it may be quoted below.
		return nil, nil, fmt.Errorf("%w: an @ after the hosts; write / ? # @ percent-encoded in user, password and parameters", lock.ErrInvalid)
	}

	node := url.URL{Scheme: "redis"}
	if scheme == "redlocks" {
		node.Scheme = "rediss"
	}
	user, authority, has := cutLast(authority, "@")
	path, query, _ := strings.Cut(tail, "?")
	if path != "" && path != "/" || strings.Contains(tail, "#") {
		return nil, nil, fmt.Errorf("%w: a path or fragment after the hosts, want at most parameters; the database is db=n", lock.ErrInvalid)
	}
	p, err := urlparams.Parse(query, "")
	if err != nil {
		return nil, nil, err
	}
	db, opts := p.Int("db"), redlockOptions(p)
	if db < 0 {
		p.Fail("db", "0 or more")
	}
	file := p.Text("password-file")
	if has {
		if node.User, err = parseUser(user, file != ""); err != nil {
			return nil, nil, err
		}
	}
	ca, cert, key := p.Text("tls-ca"), p.Text("tls-cert"), p.Text("tls-key")
	if err := p.Done(); err != nil {
		return nil, nil, err
	}
	if opts.GetTLS, err = tlsfile.Source(ca, cert, key); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", lock.ErrInvalid, err)
	}
	if opts.GetTLS != nil && scheme != "redlocks" {
		return nil, nil, fmt.Errorf("%w: files for TLS with %s://, want redlocks://", lock.ErrInvalid, scheme)
	}
	if db > 0 {
		node.Path = "/" + strconv.Itoa(db)
	}
	if file != "" {
		node.RawQuery = url.Values{"password_file": {file}}.Encode()
	}
	for i, host := range strings.Split(authority, ",") {
		if err := checkHost(host); err != nil {
			return nil, nil, fmt.Errorf("%w: host %d, %q: %w", lock.ErrInvalid, i+1, host, err)
		}
		node.Host = host
		urls = append(urls, node.String())
	}
	return urls, opts, nil
}

func redlockOptions(p *urlparams.Params) *redlock.Options {
	opts := &redlock.Options{
		Prefix:        p.Text("prefix"),
		NoPrefix:      p.Has("prefix") && p.Text("prefix") == "",
		Owner:         p.Text("owner"),
		Quorum:        p.Int("quorum"),
		NodeTimeout:   p.Duration("node-timeout"),
		Retention:     p.Duration("retention"),
		DriftFactor:   p.Float("drift-factor"),
		AssumeDurable: p.Flag("assume-durable"),
		Lazy:          p.Flag("lazy"),
	}
	opts.RestartGuard = urlparams.Read(p, "restart-guard", "a duration such as 60s, or off", func(s string) (time.Duration, error) {
		if s == "off" {
			return -1, nil
		}
		return time.ParseDuration(s)
	})
	return opts
}

// cutLast cuts s around the last sep. Without one, all of it is after.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}

// parseUser quotes nothing in its errors. file: the password stands in one.
func parseUser(info string, file bool) (*url.Userinfo, error) {
	name, password, has := strings.Cut(info, ":")
	name, err1 := url.PathUnescape(name)
	password, err2 := url.PathUnescape(password)
	switch {
	case err1 != nil || err2 != nil:
		return nil, fmt.Errorf("%w: user or password is not percent-encoded rightly", lock.ErrInvalid)
	case has && file:
		return nil, fmt.Errorf("%w: a password and a password-file, want one of them", lock.ErrInvalid)
	case file:
		return url.User(name), nil
	case !has:
		return nil, fmt.Errorf("%w: a user without password, want user:password@ or :password@", lock.ErrInvalid)
	}
	return url.UserPassword(name, password), nil
}

func checkHost(host string) error {
	u, err := url.Parse("redis://" + host)
	if err != nil || u.Host != host || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("want host or host:port")
	}
	if !strings.HasPrefix(host, "[") && strings.Contains(u.Hostname(), ":") {
		return fmt.Errorf("want an address of IPv6 in brackets, such as [::1]:6379")
	}
	if strings.HasSuffix(host, ":") {
		return fmt.Errorf("want a port after the colon")
	}
	if s := u.Port(); s != "" {
		if port, err := strconv.Atoi(s); err != nil || port < 1 || port > 65535 {
			return fmt.Errorf("want a port from 1 to 65535")
		}
	}
	return nil
}
