package redlock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeconn"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
	"github.com/tonsurance/lockkeeper/redlock/internal/server"
)

// Dial connects to the nodes and returns once a quorum has answered; the others
// are found as soon as they come up. The locker owns the connections and closes
// them.
//
// Each URL is one vote: redis://[user:password@]host[:port][/db], rediss:// for
// TLS, unix:///path/to.sock[?db=n]. Parameters: master_set=name (the addresses are
// Sentinels; more with addr=host:port), sentinel_tls=true or false (where only one of
// Sentinels and servers has TLS), cluster=true (a Redis Cluster counts as one node),
// password_file=path and sentinel_password_file=path, and those of rueidis.ParseURL.
// A file with a password is read for each connection, up to the end of its first
// line; so are [Options.Credentials] and [Options.GetTLS] asked.
//
// A connection is used for about a minute, and then replaced beside the requests that
// are under way, so that a name that has moved is found; one that leads to a replica,
// or to a server that is of no use, at once. Servers and proxies with EVALSHA but
// without HELLO or CLIENT will do; what waits for a lock then polls. Servers of a
// Redis Cluster are refused without cluster=true.
//
// Other parameters are refused, and so are two URLs of one server, whose databases
// fail together: by their addresses, or by the run_id of those that have answered
// when Dial returns. In user, password and parameters, / ? # @ must be percent-encoded.
//
// ctx bounds dialing only. With a deadline, nodes that can't be reached are tried
// again until then; without one, each is tried once, where a name server that is slow gets
// up to 15s (dial_timeout in the URL), and a server that has accepted the connection three
// times [Options].NodeTimeout for its first answers, that of TLS included. Without a quorum the error
// matches [lock.ErrUnavailable], and that of ctx if it has ended. Where that is because nodes
// refuse the user or the password, it matches [lock.ErrRefused], and Dial does not wait for
// them. With [Options.Lazy] none is tried.
func Dial(ctx context.Context, urls []string, o *Options) (*Locker, error) {
	opts, err := o.withDefaults(len(urls))
	if err != nil {
		return nil, err
	}
	if ctx == nil {
		return nil, fmt.Errorf("redlock: dial: %w", ended(ctx))
	}
	l := newLocker(opts)
	l.owned = true
	seen := map[string]int{}
	for i, raw := range urls {
		u, err := nodeURL(raw)
		if err != nil {
			return nil, fmt.Errorf("redlock: %w: node %d of %d: %w", lock.ErrInvalid, i+1, len(urls), err)
		}
		n := l.addNode(u.Name(), nodeconn.Dial(u, l.connOptions()))
		for _, server := range u.Servers() {
			if j, ok := seen[server]; ok && j != i {
				return nil, fmt.Errorf("redlock: %w: nodes %d (%s) and %d (%s) are the same server, want an independent one for each vote",
					lock.ErrInvalid, j+1, l.nodes[j].Name, i+1, n.Name)
			}
			seen[server] = i
		}
	}
	if opts.Lazy {
		return l, nil
	}
	if err := l.connect(ctx); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func nodeURL(raw string) (*nodeconn.URL, error) {
	_, query, _ := strings.Cut(raw, "?")
	if err := urlparams.ExpandedFiles(query); err != nil {
		return nil, err
	}
	return nodeconn.ParseURL(raw)
}

// connOptions are how the nodes' connections are made.
func (l *Locker) connOptions() *nodeconn.Options {
	return &nodeconn.Options{
		NodeTimeout: l.opts.NodeTimeout, TLS: l.opts.TLS, GetTLS: l.opts.GetTLS, Credentials: l.opts.Credentials,
		Begin: l.begin, Group: &l.wg,
	}
}

// connect returns when a quorum has answered a PING.
func (l *Locker) connect(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("redlock: dial: %w: %w", lock.ErrUnavailable, ended(ctx))
	}
	type answer struct {
		i   int
		run string
		err error
	}
	dialing, stop := context.WithCancel(ctx)
	defer stop()
	answers := make(chan answer, len(l.nodes))
	_, again := ctx.Deadline()
	for i, n := range l.nodes {
		if err := l.begin(1); err != nil {
			return err
		}
		go func() {
			defer l.wg.Done()
			run, err := l.reach(dialing, n, again)
			answers <- answer{i, run, err}
		}()
	}
	up, reached, failures, runs := 0, make([]bool, len(l.nodes)), make([]error, len(l.nodes)), map[string]int{}
	denied := 0
	most := len(l.nodes) - l.opts.Quorum // as many may fail
	for got := 0; got < len(l.nodes) && up < l.opts.Quorum && denied <= most; got++ {
		select {
		case a := <-answers:
			if failures[a.i] = a.err; a.err == nil {
				reached[a.i] = true
				up++
			} else if nodeerr.Denied(a.err) {
				denied++
			}
			if errors.Is(a.err, lock.ErrInvalid) {
				return fmt.Errorf("redlock: node %d of %d (%s): %w", a.i+1, len(l.nodes), l.nodes[a.i].Name, a.err)
			}
			if j, ok := runs[a.run]; ok && a.run != "" {
				i, j := max(a.i, j), min(a.i, j)
				return fmt.Errorf("redlock: %w: nodes %d (%s) and %d (%s) are the same server by their run_id, want an independent one for each vote",
					lock.ErrInvalid, j+1, l.nodes[j].Name, i+1, l.nodes[i].Name)
			}
			runs[a.run] = a.i
		case <-ctx.Done():
			got = len(l.nodes)
		}
	}
	if up >= l.opts.Quorum {
		return nil
	}
	for draining := true; draining; { // what came at the same moment as the end of ctx
		select {
		case a := <-answers:
			failures[a.i] = a.err
		default:
			draining = false
		}
	}
	nodes := &multierror.Error{ErrorFormat: oneLine}
	for i, n := range l.nodes {
		if reached[i] {
			continue
		}
		err := cmp.Or(failures[i], n.Conn.Last(), errNoAnswer)
		nodes = multierror.Append(nodes, fmt.Errorf("node %s: %w", n.Name, nodeerr.Shown(err)))
	}
	kind := lock.ErrUnavailable
	if denied > most {
		kind = lock.ErrRefused
	}
	err := fmt.Errorf("redlock: dial: %w: %d of %d nodes answered, want %d: %w", kind, up, len(l.nodes), l.opts.Quorum, nodes)
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", err, ended(ctx)) // the nodes' reasons say more, so they come first
	}
	return err
}

var errNoAnswer = errors.New("no answer yet")

// reach asks the node for a sign of life, again and again until ctx ends or, if
// not again, once. A node that refuses this user is not asked again, either. It gives the server's run_id, "" where it does not report one.
func (l *Locker) reach(ctx context.Context, n *node.Node, again bool) (run string, err error) {
	var reason error // the last error that was more than silence
	for {
		run, err := l.ping(ctx, n)
		switch {
		case err == nil, errors.Is(err, lock.ErrInvalid), nodeerr.Denied(err), !again && !nodeconn.Slow(err, l.opts.NodeTimeout):
			return run, err
		case !nodeerr.Silence(err) && ctx.Err() == nil: // the end of ctx says nothing of the node
			reason = nodeerr.Shown(err)
		case reason != nil:
			err = fmt.Errorf("%w; before that: %w", nodeerr.Shown(err), reason)
		}
		n.Conn.Note(err)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return "", err
		}
	}
}

func (l *Locker) ping(ctx context.Context, n *node.Node) (run string, err error) {
	n.Conn.Connect()
	c, err := n.Conn.Client()
	if err != nil {
		return "", err
	}
	// To connect, and to answer: the connection's own limits, which say more, come first.
	ctx, cancel := context.WithTimeout(ctx, 2*l.opts.NodeTimeout)
	defer cancel()
	if err := c.Do(ctx, c.B().Ping().Build()).Error(); err != nil && !nodeerr.UnknownCommand(err) {
		return "", err
	}
	if c.Mode() == rueidis.ClientModeCluster {
		return "", nil // many servers, with a run each
	}
	text, _ := c.Do(ctx, c.B().Info().Section("server").Build()).ToString()
	info := server.ParseInfo(text)
	if err := l.misplaced(ctx, n, c, info["redis_mode"]); err != nil {
		return "", fmt.Errorf("%w: %w", lock.ErrInvalid, err)
	}
	return info["run_id"], nil
}

// misplaced is why a server of this mode can't be a node by itself; nil if it can. A server
// that is a whole Cluster alone, or not part of one yet, can.
func (l *Locker) misplaced(ctx context.Context, n *node.Node, c rueidis.Client, mode string) error {
	switch cmp.Or(mode, n.Conn.Said("mode")) {
	case "sentinel":
		if c.Mode() == rueidis.ClientModeSentinel {
			return nil
		}
		return errors.New("it is a Sentinel: write redis://host:port?master_set=name for the primary that it watches")
	case "cluster":
		if whole := l.wholeCluster(ctx, c); whole != "" {
			return fmt.Errorf("it is one of %sservers of a Redis Cluster, each of which has some of the keys only: write redis://host:port?cluster=true once, for the whole Cluster as one vote, or name servers with cluster-enabled no", whole)
		}
	}
	return nil
}

// wholeCluster is how many servers the Redis Cluster of this server has, as text with a
// space after it; "" if it is in none, or alone.
func (l *Locker) wholeCluster(ctx context.Context, c rueidis.Client) string {
	text, err := c.Do(ctx, c.B().Arbitrary("CLUSTER", "INFO").Build()).ToString()
	if err == nil {
		if known, _ := strconv.Atoi(server.ParseInfo(text)["cluster_known_nodes"]); known > 1 {
			return strconv.Itoa(known) + " "
		}
		return ""
	}
	// The user may not ask that. Of 16 keys, another server most probably has one.
	for i := range 16 {
		k, _ := script.NewKeys(l.opts.Prefix, "lockkeeper:probe:"+strconv.Itoa(i))
		q := script.Inspect(k, 0)
		err := q.Eval(ctx, c).Error()
		if nodeerr.Code(err) == "MOVED" {
			return "several "
		} else if err != nil {
			return ""
		}
	}
	return ""
}

// closeNodes ends all connections, and with them the requests that wait on them.
// A node that hangs takes the client a second, so they are closed side by side.
func (l *Locker) closeNodes() {
	var wg sync.WaitGroup
	for _, n := range l.nodes {
		wg.Go(n.Conn.Close)
	}
	wg.Wait()
}
