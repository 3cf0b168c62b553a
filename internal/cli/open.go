package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// secretEnv are the variables that may hold what it takes to reach the store. The
// command under a lock does not get them.
var secretEnv = []string{"LOCKKEEPER_URL", "REDIS_NODES", "REDIS_USER", "REDISCLI_AUTH"}

// store is what the flags and the environment name.
type store struct {
	url   string   // for backends.Open
	nodes []string // in place of url: one URL a Redis node
}

// store finds the store: a flag before the environment, and in each the URL before
// the nodes.
func (a *app) store() (store, error) {
	switch {
	case a.url != "" && a.nodes != "":
		return store{}, usage("--url and --nodes are given, want one of them")
	case a.url != "":
		return store{url: a.url}, nil
	case a.nodes != "":
		return a.redisNodes("--nodes", a.nodes)
	}
	if u := a.getenv("LOCKKEEPER_URL"); u != "" {
		return store{url: u}, nil
	}
	if list := a.getenv("REDIS_NODES"); list != "" {
		return a.redisNodes("REDIS_NODES", list)
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("lockkeeper-%d", os.Getuid()))
	return store{url: (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()}, nil
}

// redisNodes turns a list of host:port into URLs; what is one already stays so, and
// is checked by redlock.Dial, whose errors show no password.
func (a *app) redisNodes(name, list string) (store, error) {
	var s store
	for i, node := range strings.Split(list, ",") {
		node = strings.TrimSpace(node)
		if strings.Contains(node, "://") {
			s.nodes = append(s.nodes, node)
			continue
		}
		host, port, err := net.SplitHostPort(node)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, "@/ ") {
			if strings.Contains(list, "@") {
				node = "..." // it may be a piece of a password, one with a comma too
			}
			return s, usage("%s: node %d is %q, want host:port or a redis:// URL", name, i+1, node)
		}
		u := url.URL{Scheme: "redis", Host: net.JoinHostPort(host, port)}
		if password := a.getenv("REDISCLI_AUTH"); password != "" {
			u.User = url.UserPassword(a.getenv("REDIS_USER"), password)
		}
		s.nodes = append(s.nodes, u.String())
	}
	return s, nil
}

// open connects. ctx bounds that, and with a deadline a store that is away is tried
// again until then.
func (s store) open(ctx context.Context) (lock.Locker, error) {
	if s.nodes == nil {
		return backends.Open(ctx, s.url)
	}
	l, err := redlock.Dial(ctx, s.nodes, nil)
	if err != nil {
		return nil, err // not l: a nil *redlock.Locker is no nil Locker
	}
	return l, nil
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
