package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/backends/file"
	"github.com/tonsurance/lockkeeper/internal/tlsfile"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// The files of TLS to the store, and of the password.
const (
	passwordFile = "LOCKKEEPER_PASSWORD_FILE"

	tlsCA   = "LOCKKEEPER_TLS_CA"
	tlsCert = "LOCKKEEPER_TLS_CERT"
	tlsKey  = "LOCKKEEPER_TLS_KEY"
)

// secretEnv are the variables that may hold what it takes to reach the store. The
// command under a lock does not get them.
var secretEnv = []string{"LOCKKEEPER_URL", "REDIS_NODES", "REDIS_USER", "REDISCLI_AUTH", passwordFile, tlsCA, tlsCert, tlsKey}

// secretNames are these for a help text, which is not too wide.
func secretNames() string {
	return strings.Join(secretEnv[:4], " ") + "\n  " + strings.Join(secretEnv[4:7], " ") + "\n  " + strings.Join(secretEnv[7:], " ")
}

// store is what the flags and the environment name.
type store struct {
	url   string          // for backends.Open
	nodes []string        // in place of url: one URL a Redis node
	opts  redlock.Options // for nodes
	named bool            // false: nobody said which, it is the default
	from  string          // the flag or the variable that named it
	given string          // what was given there, or the default: without what is added to url
}

// store finds the store: a flag before the environment, and in each the URL before
// the nodes.
func (a *app) store() (store, error) {
	switch {
	// An empty one is a variable that is not set: another store than was meant would lock
	// without those that it is to exclude.
	case a.urlGiven && a.url == "":
		return store{}, usage("--url is empty, want the URL of a store, such as file:///run/locks")
	case a.nodesGiven && a.nodes == "":
		return store{}, usage("--nodes is empty, want host:port, such as 10.0.0.1:6379")
	case a.url != "" && a.nodes != "":
		return store{}, usage("--url and --nodes are given, want one of them")
	case a.url != "":
		return a.storeURL("--url", a.url)
	case a.nodes != "":
		return a.redisNodes("--nodes", a.nodes)
	}
	if u := a.getenv("LOCKKEEPER_URL"); u != "" {
		return a.storeURL("LOCKKEEPER_URL", u)
	}
	if list := a.getenv("REDIS_NODES"); list != "" {
		return a.redisNodes("REDIS_NODES", list)
	}
	if err := a.refuseAnother(); err != nil {
		return store{}, err
	}
	dir, err := file.DefaultDir()
	if err != nil {
		return store{}, fmt.Errorf("%w; or name a store, as in --url file:///a/directory", err)
	}
	given := (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()
	return store{url: given, given: given}, nil
}

// storeURL is raw, the value of name, with the environment's files, which
// backends.Open reads.
func (a *app) storeURL(name, raw string) (store, error) {
	if err := a.expandedFiles(); err != nil {
		return store{}, err
	}
	switch scheme, _, _ := strings.Cut(raw, "://"); strings.ToLower(scheme) {
	case "redis", "rediss", "valkey", "valkeys", "unix":
		return store{}, usage("%s is a %s:// URL, which is one node's: give it with --nodes or REDIS_NODES, or say redlock://host:port (redlocks:// for TLS)", name, strings.ToLower(scheme))
	}
	if err := urlparams.Whole(raw); err != nil { // before anything is added to it
		return store{}, usage("%s: %w", name, err)
	}
	if strings.HasPrefix(raw, "/") {
		return store{}, usage("%s is a path, want a URL, such as %s", name, &url.URL{Scheme: "file", Path: raw})
	}
	if !slices.ContainsFunc(strings.Split(raw, ","), func(node string) bool { return !isHostPort(node) }) {
		return store{}, usage("%s is host:port, want a URL, such as redlock://%s for Redis", name, raw)
	}
	s := store{url: raw, named: true, from: name, given: raw}
	for _, tls := range [][2]string{{"tls-ca", tlsCA}, {"tls-cert", tlsCert}, {"tls-key", tlsKey}} {
		if path := a.getenv(tls[1]); path != "" {
			s.param(tls[0], path, "redlock", "redlocks", "mysql", "postgres", "postgresql", "etcd", "etcds", "nats", "natss", "s3")
			if u, err := url.Parse(raw); err == nil && u.Host != "" && !u.Query().Has("plain") { // in a pod they are known
				s.param(tls[0], path, "kubernetes")
			}
		}
	}
	if file := a.getenv(passwordFile); file != "" && !hasPassword(raw) {
		switch scheme, rest, _ := strings.Cut(raw, ":"); strings.ToLower(scheme) {
		case "redlock", "redlocks":
			s.param("password-file", file, "redlock", "redlocks")
		case "mysql", "postgres", "postgresql", "etcd", "etcds", "nats", "natss":
			if !strings.Contains(rest, "passfile=") { // Postgres' own
				return store{}, usage("%s is set, which %s: URLs do not take: want the password in %s", passwordFile, strings.ToLower(scheme), name)
			}
		case "s3":
			return store{}, usage("%s is set, which s3: URLs do not take: credentials are those of the AWS SDK, as in AWS_SHARED_CREDENTIALS_FILE", passwordFile)
		}
	}
	return s, nil
}

// expandedFiles refuses variables in the environment's names of files: see urlparams.Expanded.
func (a *app) expandedFiles() error {
	for _, name := range []string{passwordFile, tlsCA, tlsCert, tlsKey} {
		if err := urlparams.ExpandedPath(name, a.getenv(name)); err != nil {
			return usage("%w", err)
		}
	}
	return nil
}

// hasPassword reports that a quorum's URL has one, or something that may be one.
func hasPassword(raw string) bool {
	_, rest, _ := strings.Cut(raw, "://")
	at := strings.LastIndex(rest, "@")
	return at >= 0 && strings.Contains(rest[:at], ":")
}

// param sets a parameter of a URL of one of these schemes, unless it is there.
func (s *store) param(name, value string, schemes ...string) {
	if scheme, _, _ := strings.Cut(s.url, ":"); slices.Contains(schemes, strings.ToLower(scheme)) {
		s.setParam(name, value)
	}
}

// hasParam reports whether the URL has a parameter. The hosts before it, which may be several, are
// no matter of [url.Parse].
func (s *store) hasParam(name string) bool {
	_, query, _ := strings.Cut(s.url, "?")
	values, err := url.ParseQuery(query)
	return err == nil && values.Has(name)
}

// setParam sets a parameter of the URL, and reports false if it is there already.
func (s *store) setParam(name, value string) bool {
	sep := "?"
	if _, query, ok := strings.Cut(s.url, "?"); ok {
		sep = "&"
		if values, err := url.ParseQuery(query); err != nil || values.Has(name) {
			return false
		}
	}
	s.url += sep + name + "=" + url.QueryEscape(value)
	return true
}

// maxHolder is how long a name may be: with host and pid it fits every store.
const maxHolder = 64 // bytes

// checkHolder checks the value of --holder or LOCKKEEPER_HOLDER.
func checkHolder(name, holder string) error {
	if holder != "" && len(holder) <= maxHolder && utf8.ValidString(holder) && !strings.ContainsFunc(holder, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil
	}
	return usage("%s is %.70q (%d bytes), want 1 to %d bytes of printable text", name, holder, len(holder), maxHolder)
}

// setHolder makes the store show holder in front of this host and process.
func (s *store) setHolder(name, holder string) error {
	host, err := os.Hostname()
	if err != nil || checkHolder("", host) != nil {
		host = "unknown"
	}
	owner := fmt.Sprintf("%s (%.48s:%d)", holder, host, os.Getpid())
	s.opts.Owner = owner
	if s.nodes == nil && !s.setParam("owner", owner) {
		return usage("%s is given, and the URL of the store has an owner, want one of them", name)
	}
	return nil
}

// redisNodes turns a list of host:port into URLs; what is one already stays so, and
// is checked by redlock.Dial, whose errors show no password.
func (a *app) redisNodes(name, list string) (store, error) {
	s := store{named: true, from: name, given: list}
	err := a.expandedFiles()
	if err != nil {
		return s, err
	}
	if s.opts.GetTLS, err = tlsfile.Source(a.getenv(tlsCA), a.getenv(tlsCert), a.getenv(tlsKey)); err != nil {
		return s, usage("%s, %s, %s: %w", tlsCA, tlsCert, tlsKey, err)
	}
	user, file := (*url.Userinfo)(nil), a.getenv(passwordFile)
	switch password := a.getenv("REDISCLI_AUTH"); {
	case password != "" && file != "":
		return s, usage("REDISCLI_AUTH and %s are set, want one of them", passwordFile)
	case password != "":
		user = url.UserPassword(a.getenv("REDIS_USER"), password)
	case file != "" && a.getenv("REDIS_USER") != "":
		user = url.User(a.getenv("REDIS_USER"))
	}
	withFile := func(u *url.URL) {
		if q := u.Query(); file != "" && !q.Has("password_file") {
			q.Set("password_file", file)
			u.RawQuery = q.Encode()
		}
	}
	for i, node := range strings.Split(list, ",") {
		node = strings.TrimSpace(node)
		if scheme, _, ok := strings.Cut(node, "://"); ok {
			u, err := url.Parse(node)
			if plain := scheme == "redis" || scheme == "valkey"; s.opts.GetTLS != nil && plain && (err != nil || u.Query().Get("sentinel_tls") != "true") {
				return s, usage("%s: node %d is %s:// and files for TLS are given (%s), want rediss://", name, i+1, scheme, tlsCA)
			}
			if err == nil && u.User == nil && !strings.Contains(node, "@") && (user != nil || file != "") {
				u.User = user
				withFile(u)
				node = u.String()
			}
			s.nodes = append(s.nodes, node)
			continue
		}
		if !isHostPort(node) {
			switch {
			case strings.Contains(list, "@"):
				node = "..." // it may be a piece of a password, one with a comma too
			case hostName.MatchString(node):
				return s, usage("%s: node %d is %q, want host:port, such as %s:6379", name, i+1, node, node)
			}
			return s, usage("%s: node %d is %q, want host:port or a redis:// URL", name, i+1, node)
		}
		u := url.URL{Scheme: "redis", User: user, Host: node}
		if s.opts.GetTLS != nil {
			u.Scheme = "rediss"
		}
		withFile(&u)
		s.nodes = append(s.nodes, u.String())
	}
	return s, nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// isHostPort: a name or an address, that of IPv6 in brackets, and a port.
func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && n > 0 && (hostName.MatchString(host) || strings.Contains(host, ":") && net.ParseIP(host) != nil)
}

// sqlitePath is the file of a sqlite: URL. It and its name are no secret.
func sqlitePath(raw string) (path string, ok bool) {
	scheme, rest, found := strings.Cut(raw, ":")
	if !found || !strings.EqualFold(scheme, "sqlite") {
		return "", false
	}
	rest, _, _ = strings.Cut(rest, "?")
	path, err := url.PathUnescape(strings.TrimPrefix(rest, "//"))
	return path, err == nil
}

// open connects. ctx bounds that, and with a deadline a store that is away is tried
// again until then.
func (s store) open(ctx context.Context) (lock.Locker, error) {
	if s.nodes == nil {
		l, err := backends.Open(ctx, s.url)
		return l, s.mistaken(err)
	}
	l, err := redlock.Dial(ctx, s.nodes, &s.opts)
	if err != nil {
		return nil, s.mistaken(err) // not l: a nil *redlock.Locker is no nil Locker
	}
	return l, nil
}

// mistaken says of a mistake in a URL where that was given: a variable of a profile or of a
// service is not in sight.
func (s store) mistaken(err error) error {
	if s.from == "" || !errors.Is(err, lock.ErrInvalid) {
		return err
	}
	return fmt.Errorf("%s: %w", s.from, err)
}

// sayDefault says, for those who look for locks, that they may be elsewhere.
func (a *app) sayDefault(s store) {
	if !s.named {
		fmt.Fprintf(a.err, "lockkeeper: looking at %s, since no store is named: see --url, --nodes, LOCKKEEPER_URL, REDIS_NODES\n", s.url)
	}
}

// openAnyway opens a store that can't decide, too: its nodes are connected to when
// they are asked. A directory or a database file that was named must be there: else a mistake in
// its name would look like a store without locks.
func (s store) openAnyway(ctx context.Context) (lock.Locker, error) {
	if dir := s.dir(); dir != "" && s.named {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil, usage("%s: no such directory: no lock was ever taken there", s.url)
		}
	}
	if path, ok := sqlitePath(s.url); ok {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, usage("sqlite:%s: no such file: no lock was ever taken there", path)
		}
	}
	s.opts.Lazy = true
	s.param("lazy", "true", "redlock", "redlocks", "file")
	return s.open(ctx)
}

func closeLocker(l lock.Locker) {
	if c, ok := lock.As[io.Closer](l); ok {
		_ = c.Close()
	}
}

// millisEnv is a duration of a REDIS_ variable, in milliseconds, or def.
func (a *app) millisEnv(name string, def time.Duration) (time.Duration, error) {
	s := a.getenv(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > int64(lock.MaxTTL/time.Millisecond) {
		return 0, usage("%s is %q, want milliseconds, 1 or more", name, s)
	}
	return time.Duration(n) * time.Millisecond, nil
}
