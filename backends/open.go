// Package backends opens lock stores by URL, for programs that let their user
// choose one:
//
//	locker, err := backends.Open(ctx, os.Getenv("LOCKS")) // file:///run/keeper/locks, redlock://h1,h2,h3
//	if err != nil {
//		return err
//	}
//	if c, ok := lock.As[io.Closer](locker); ok { // redlock has connections
//		defer c.Close()
//	}
//
// What a store guarantees, its own package says. Open adds nothing to that. It links
// every backend of this module: a program with a fixed backend is smaller if it makes
// that one itself.
package backends

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/tonsurance/lockkeeper/backends/file"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// Opener makes a locker of a URL with its scheme. It must refuse what it does not
// understand with an error that matches [lock.ErrInvalid], and must not quote a
// password in any error.
type Opener func(ctx context.Context, u *url.URL) (lock.Locker, error)

var (
	mu      sync.RWMutex // guards openers
	openers = map[string]Opener{
		"memory": openMemory,
		"file":   openFile,
		// Lists of hosts are no URLs to package url: Open splits these itself.
		"redlock":  nil,
		"redlocks": nil,
	}
)

// Register makes Open know another scheme. Call it from an init function or
// early in main. It panics if scheme is not a URL scheme in lower case, is taken,
// or if open is nil: these are mistakes in the program.
func Register(scheme string, open Opener) {
	if u, err := url.Parse(scheme + ":x"); err != nil || u.Scheme != scheme || scheme == "" {
		panic(fmt.Sprintf("backends: Register: %q is not a URL scheme in lower case", scheme))
	}
	if open == nil {
		panic(fmt.Sprintf("backends: Register: the opener of %q is nil", scheme))
	}
	mu.Lock()
	defer mu.Unlock()
	if _, taken := openers[scheme]; taken {
		panic(fmt.Sprintf("backends: Register: %q is registered already", scheme))
	}
	openers[scheme] = open
}

// Open makes the locker that rawURL names. ctx bounds the opening only. What it
// returns may hold connections: close it with lock.As[io.Closer].
//
//	memory:                   a new store in this process, at each call; owner
//	file:///run/locks         one machine; owner, lock-timeout, trust-file-system, lazy
//	redlock://h1:6379,h2,h3   a quorum of Redis nodes, each one vote; 6379 is the
//	                          default port
//	redlocks://...            the same over TLS
//
// redlock takes user:password@ before the first host, for all nodes, and these
// parameters, each as the option of its name in [redlock.Options] and with its
// default: prefix (empty: none), owner, quorum, node-timeout, restart-guard ("off"
// for none), retention, drift-factor, assume-durable, lazy; and db, the number of the
// database. In place of the password it takes password-file, the path of a file whose
// first line is the password. redlocks takes tls-ca, tls-cert and tls-key, too: PEM
// files with the authorities to trust in place of the system's, and the client's own
// certificate and key. All these files are read for each connection, so that what they
// have can be changed at any time. Characters that mean something in a URL are percent-encoded, in a
// password above all.
//
// A URL or parameter that can't be used gives an error matching
// [lock.ErrInvalid], which never quotes a password.
//
// [redlock.Options]: https://pkg.go.dev/github.com/tonsurance/lockkeeper/redlock#Options
func Open(ctx context.Context, rawURL string) (lock.Locker, error) {
	scheme, rest, ok := strings.Cut(rawURL, ":")
	scheme = strings.ToLower(scheme)
	mu.RLock()
	open, known := openers[scheme]
	schemes := slices.Sorted(maps.Keys(openers))
	mu.RUnlock()
	if !ok || !known {
		return nil, fmt.Errorf("backends: open: %w: %s", lock.ErrInvalid, wanted(rawURL, scheme, schemes))
	}
	l, err := openScheme(ctx, scheme, rest, open)
	if err != nil {
		return nil, fmt.Errorf("backends: open %s: %w", scheme, err)
	}
	return l, nil
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
	return fmt.Sprintf("want a URL that starts with %s: and what that scheme wants, %s", strings.Join(schemes, ": or "), examples)
}

func openScheme(ctx context.Context, scheme, rest string, open Opener) (lock.Locker, error) {
	if open == nil {
		return openRedlock(ctx, scheme, rest)
	}
	u, err := url.Parse(scheme + ":" + rest)
	if err != nil {
		return nil, errNoURL // url's own error quotes it
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

var errNoURL = fmt.Errorf("%w: not a URL; characters that mean something in one must be percent-encoded", lock.ErrInvalid)

func openMemory(_ context.Context, u *url.URL) (lock.Locker, error) {
	if u.Opaque != "" || u.Host != "" || u.Path != "" || u.User != nil {
		return nil, fmt.Errorf("%w: want memory: and nothing after it", lock.ErrInvalid)
	}
	p, err := parseParams(u.RawQuery, u.Fragment)
	if err != nil {
		return nil, err
	}
	owner := p.text("owner")
	if err := p.done(); err != nil {
		return nil, err
	}
	return memory.New().Client(owner), nil
}

func openFile(_ context.Context, u *url.URL) (lock.Locker, error) {
	if u.Opaque != "" || u.Path == "" || u.User != nil || (u.Host != "" && u.Host != "localhost") {
		return nil, fmt.Errorf("%w: want an absolute path on this machine, as in file:///run/locks", lock.ErrInvalid)
	}
	p, err := parseParams(u.RawQuery, u.Fragment)
	if err != nil {
		return nil, err
	}
	opts := &file.Options{
		Owner:           p.text("owner"),
		LockTimeout:     p.duration("lock-timeout"),
		TrustFileSystem: p.flag("trust-file-system"),
		Lazy:            p.flag("lazy"),
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	l, err := file.New(u.Path, opts)
	if err != nil {
		return nil, err // not l: a nil *file.Locker is no nil Locker
	}
	return l, nil
}
