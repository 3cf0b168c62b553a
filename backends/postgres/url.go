package postgres

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
)

func init() {
	for _, scheme := range []string{"postgres", "postgresql"} {
		registry.Register(scheme, open)
	}
}

// own are the parameters of a URL that are not the driver's.
var own = []string{"table", "owner", "poll", "head-start", "tls-ca", "tls-cert", "tls-key"}

// open takes postgres://user:password@host/database?table=&sslmode=...; sslmode and what else
// the driver knows go to it.
func open(_ context.Context, rest string) (lock.Locker, error) {
	address, query, _ := strings.Cut(rest, "?")
	if !strings.HasPrefix(address, "//") || strings.Contains(rest, "#") {
		return nil, fmt.Errorf("%w: want postgres://user:password@host/database; characters that mean something in a URL must be percent-encoded", lock.ErrInvalid)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, urlparams.ErrNoURL
	}
	ours, theirs := url.Values{}, url.Values{}
	for name, v := range values {
		if slices.Contains(own, name) {
			ours[name] = v
		} else {
			theirs[name] = v
		}
	}
	p, err := urlparams.Parse(ours.Encode(), "")
	if err != nil {
		return nil, err
	}
	o := &Options{Table: p.Text("table"), Record: record.Options{Owner: p.Text("owner"), Poll: p.Duration("poll"), HeadStart: p.Duration("head-start")}}
	for _, name := range []string{"tls-ca", "tls-cert", "tls-key"} {
		p.Text(name)
	}
	if err := p.Done(); err != nil {
		return nil, err
	}
	// As every store here takes them; sslrootcert and its like work as well.
	for name, driver := range map[string]string{"tls-ca": "sslrootcert", "tls-cert": "sslcert", "tls-key": "sslkey"} {
		if file := ours.Get(name); file != "" {
			theirs.Set(driver, file)
			if !theirs.Has("sslmode") {
				theirs.Set("sslmode", "verify-full")
			}
		}
	}
	for name := range theirs {
		if !known[name] {
			return nil, fmt.Errorf("%w: unknown parameter%s, want some of: %s, or one of Postgres' own", lock.ErrInvalid, urlparams.Unknown(name), strings.Join(own, ", "))
		}
	}
	// The driver takes a + as it stands.
	l, err := New("postgres:"+address+"?"+strings.ReplaceAll(theirs.Encode(), "+", "%20"), o)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// known are the parameters of Postgres' own URLs that make sense here. The driver would take
// any other for a setting of the server.
var known = map[string]bool{
	"host": true, "port": true, "dbname": true, "user": true, "password": true, "passfile": true, "service": true, "servicefile": true,
	"sslmode": true, "sslrootcert": true, "sslcert": true, "sslkey": true, "sslpassword": true, "sslsni": true, "sslnegotiation": true, "sslcertmode": true,
	"connect_timeout": true, "target_session_attrs": true, "application_name": true, "options": true, "search_path": true,
	"channel_binding": true, "require_auth": true, "krbsrvname": true, "krbspn": true, "min_protocol_version": true, "max_protocol_version": true,
}

// parse reads a DSN or URL. The driver's error may quote a password, so it is passed on only
// where it is about a parameter.
func parse(dsn string) (*pgx.ConnConfig, error) {
	if _, rest, ok := strings.Cut(dsn, "://"); ok && strings.HasPrefix(dsn, "postgres") {
		// The driver takes what follows the first @ for the host, and errors name the host.
		if authority, _, _ := strings.Cut(rest, "/"); strings.Count(authority, "@") > 1 {
			return nil, fmt.Errorf("%w: user and password have an @ in the URL, want %%40 in its place", lock.ErrInvalid)
		}
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err == nil {
		return cfg, nil
	}
	text := err.Error()
	text = text[strings.LastIndex(text, "`: ")+1:]
	for _, about := range []string{"failed to configure TLS", "invalid connect_timeout", "failed to read service", "unknown target_session_attrs", "sslmode is invalid"} {
		if what, ok := strings.CutPrefix(text, ": "); ok && strings.HasPrefix(what, about) {
			return nil, fmt.Errorf("%w: %s", lock.ErrInvalid, what)
		}
	}
	return nil, fmt.Errorf("%w: not a URL such as postgres://user:password@host/database, or a parameter of it is wrong", lock.ErrInvalid)
}
