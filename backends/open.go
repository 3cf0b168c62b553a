// Package backends opens lock stores by URL, for programs that let their user
// choose one:
//
//	locker, err := backends.Open(ctx, os.Getenv("LOCKS")) // file:///run/keeper/locks, redlock://h1,h2,h3
//	if err != nil {
//		return err
//	}
//	defer lock.Close(locker) // most stores have connections
//
// What a store guarantees, its own package says. Open adds nothing to that. It links
// every backend of this module: a program with a fixed backend is smaller if it makes
// that one itself.
package backends

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/tonsurance/lockkeeper/backends/file"
	_ "github.com/tonsurance/lockkeeper/backends/kubernetes" // registers its scheme
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
)

// Opener makes a locker of a URL with its scheme. It must refuse what it does not
// understand with an error that matches [lock.ErrInvalid], and must not quote a
// password in any error.
type Opener func(ctx context.Context, u *url.URL) (lock.Locker, error)

// Register makes Open know another scheme. Call it from an init function or
// early in main. It panics if scheme is not a URL scheme in lower case, is taken,
// or if open is nil: these are mistakes in the program.
func Register(scheme string, open Opener) {
	if open == nil {
		registry.Register(scheme, nil) // which says so
	}
	registry.Register(scheme, ofURL(scheme, open))
}

func init() {
	Register("memory", openMemory)
	Register("file", openFile)
	for _, scheme := range []string{"redlock", "redlocks"} {
		// Lists of hosts are no URLs to package url.
		registry.Register(scheme, func(ctx context.Context, rest string) (lock.Locker, error) {
			return openRedlock(ctx, scheme, rest)
		})
	}
}

// Open makes the locker that rawURL names. ctx bounds the opening only: the locker
// outlives it, and each of its calls has a ctx of its own. Stores that ask their server
// first (all but memory, and those opened with lazy) wait for it until ctx ends or their
// own timeout, whichever is earlier; without an answer the error matches
// [lock.ErrUnavailable], and calling Open again may help. What Open returns may hold
// connections: end them by [lock.Close].
//
//	memory:                   a new store in this process, at each call; owner
//	file:///run/locks         one machine; owner, lock-timeout, trust-file-system,
//	                          until-expiry, lazy
//	redlock://h1:6379,h2,h3   a quorum of Redis nodes, each one vote; 6379 is the
//	                          default port
//	redlocks://...            the same over TLS
//	kubernetes:///namespace   the Leases of a namespace, in a pod; elsewhere
//	                          kubernetes://host:port/namespace
//
// Others register when they are imported: sqlite:, mysql:, postgres:, etcd:, etcds:, nats:, natss:
// and s3: by the packages below this one, which are modules of their own.
//
// redlock takes user:password@ before the first host, for all nodes, and these
// parameters, each as the option of its name in [redlock.Options] and with its
// default: prefix (empty: none), owner, quorum, node-timeout, restart-guard ("off"
// for none), retention, drift-factor, assume-durable, lazy; and db, the number of the
// database. In place of the password it takes password-file, the path of a file whose
// first line is the password. redlocks takes tls-ca, tls-cert and tls-key, too: PEM
// files with the authorities to trust in place of the system's, and the client's own
// certificate and key. All these files are read for each connection, so that what they
// have can be changed at any time. kubernetes takes owner, head-start, grace and clock-skew,
// and with a host token-file, tls-ca, tls-cert and tls-key, or plain (true for
// kubectl proxy). Characters that mean something in a URL are percent-encoded, in a
// password above all.
//
// The path of a file or sqlite URL, and that of a file in a parameter, is taken as it stands. One
// with a $NAME, a ${NAME} or a leading ~ in it, which a shell was to expand and did not, is
// refused; percent-encoded (%24, %7E) it is meant.
//
// A URL or parameter that can't be used gives an error matching
// [lock.ErrInvalid], which never quotes a password.
//
// [redlock.Options]: https://pkg.go.dev/github.com/tonsurance/lockkeeper/redlock#Options
func Open(ctx context.Context, rawURL string) (lock.Locker, error) {
	if err := urlparams.Whole(rawURL); err != nil {
		return nil, fmt.Errorf("backends: open: %w", err)
	}
	scheme, rest, ok := strings.Cut(rawURL, ":")
	scheme = strings.ToLower(scheme)
	open, known := registry.Lookup(scheme)
	if !ok || !known {
		return nil, fmt.Errorf("backends: open: %w: %s", lock.ErrInvalid, wanted(rawURL, scheme, registry.Schemes()))
	}
	if ctx == nil {
		return nil, fmt.Errorf("backends: open %s: %w", scheme, lock.ContextError(ctx))
	}
	l, err := open(ctx, rest)
	if err != nil {
		return nil, fmt.Errorf("backends: open %s: %w", scheme, err)
	}
	return l, nil
}

// modules are the stores that have a module of their own, by their schemes: a program that
// wants one imports it, and so registers it.
var modules = map[string]string{
	"sqlite": "sqlite", "mysql": "mysql", "postgres": "postgres", "postgresql": "postgres", "etcd": "etcd", "etcds": "etcd",
	"nats": "nats", "natss": "nats", "s3": "s3",
}

// wanted says what to write in place of a URL that names no store. It is not quoted:
// what comes before a colon may be anything, a password too.
func wanted(rawURL, scheme string, schemes []string) string {
	const examples = "such as file:///run/locks or redlock://host1:6379,host2:6379,host3:6379"
	switch {
	case strings.TrimSpace(rawURL) == "":
		return fmt.Sprintf("the URL is empty (is the variable set that it comes from?), want one that starts with %s:, %s", strings.Join(schemes, ": or "), examples)
	case scheme == "redis" || scheme == "valkey" || scheme == "redis-socket" || scheme == "unix":
		return fmt.Sprintf("a %s: URL is that of one server, want redlock://host:6379 for one or redlock://host1:6379,host2:6379,host3:6379 for a quorum; user:password@ stands before the first, and the database is ?db=n", scheme)
	case scheme == "rediss" || scheme == "valkeys":
		return fmt.Sprintf("a %s: URL is that of one server, want redlocks://host:6379 for one or redlocks://host1:6379,host2:6379,host3:6379 for a quorum; user:password@ stands before the first, and the database is ?db=n", scheme)
	}
	if module := modules[scheme]; module != "" {
		return fmt.Sprintf("this program does not have the store for %s: URLs, want it imported: _ %q", scheme, "github.com/tonsurance/lockkeeper/backends/"+module)
	}
	return fmt.Sprintf("want a URL that starts with %s: and what that scheme wants, %s", strings.Join(schemes, ": or "), examples)
}

// ofURL makes an opener of URLs one of what follows a scheme.
func ofURL(scheme string, open Opener) registry.Opener {
	return func(ctx context.Context, rest string) (lock.Locker, error) {
		u, err := url.Parse(scheme + ":" + rest)
		if err != nil {
			return nil, urlparams.ErrNoURL // url's own error quotes it
		}
		l, err := open(ctx, u)
		if err != nil {
			return nil, err
		}
		if l == nil {
			return nil, errors.New("its opener returned nothing")
		}
		return l, nil
	}
}

func openMemory(_ context.Context, u *url.URL) (lock.Locker, error) {
	if u.Opaque != "" || u.Host != "" || u.Path != "" || u.User != nil {
		return nil, fmt.Errorf("%w: want memory: and nothing after it", lock.ErrInvalid)
	}
	p, err := urlparams.Parse(u.RawQuery, u.Fragment)
	if err != nil {
		return nil, err
	}
	owner := p.Text("owner")
	if err := p.Done(); err != nil {
		return nil, err
	}
	return memory.New().Client(owner), nil
}

func openFile(_ context.Context, u *url.URL) (lock.Locker, error) {
	if u.Opaque != "" || u.Path == "" || u.User != nil || (u.Host != "" && u.Host != "localhost") {
		return nil, fmt.Errorf("%w: want an absolute path on this machine, as in file:///run/locks", lock.ErrInvalid)
	}
	p, err := urlparams.Parse(u.RawQuery, u.Fragment)
	if err != nil {
		return nil, err
	}
	opts := &file.Options{
		Owner:           p.Text("owner"),
		LockTimeout:     p.Duration("lock-timeout"),
		TrustFileSystem: p.Flag("trust-file-system"),
		UntilExpiry:     p.Flag("until-expiry"),
		Lazy:            p.Flag("lazy"),
	}
	if err := p.Done(); err != nil {
		return nil, err
	}
	l, err := file.New(u.Path, opts)
	if err != nil {
		return nil, err // not l: a nil *file.Locker is no nil Locker
	}
	return l, nil
}
