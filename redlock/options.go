package redlock

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// Options change how a [Locker] works. All clients of the same locks must have the
// same Prefix, nodes, Quorum and RestartGuard: otherwise two of them could hold one lock.
//
// The nodes remember these for the clients of a prefix, in a key of their own that
// begins with [AgreedPrefix], for RestartGuard after they were last used (a second at
// least; without a guard for the longest ttl in use, 15s at least). A client that has
// others gets an error that matches [lock.ErrRefused] and names both; a held lease is
// never ended for it. To change them, stop all clients, wait for that time, and start
// the new ones. Nodes are known by their names (as a client has them) and by what the
// servers say of themselves; where both are in doubt, as with a Sentinel's or a Cluster's,
// only their number is compared. Clients that do not take part, such as those of other
// libraries, are not noticed.
type Options struct {
	// Prefix stands before every key in Redis. Defaults to "redlock:", as
	// node-redlock's users have it.
	Prefix string
	// NoPrefix leaves keys as they are.
	NoPrefix bool

	// Owner is the readable part of a lock's value: what other clients and
	// operators see as the holder. Defaults to "<host>:<pid>".
	Owner string

	// Quorum is how many nodes must agree, more than half of them. Defaults to
	// N/2 + 1.
	Quorum int

	// NodeTimeout bounds the wait for a node's answer in each round. A node that
	// is slower takes no part in the decision. A connection that takes longer to be
	// made goes on in the background, and the next round finds it. Defaults to 1s.
	NodeTimeout time.Duration

	// DriftFactor is how much faster than this process's clock a node's may run,
	// as a fraction of the ttl; 2ms come on top. -1 means 0. Defaults to 0.01.
	DriftFactor float64

	// RestartGuard is how long a node that restarted, and may have forgotten what
	// it promised, does not vote: at least the longest ttl that any client uses. A
	// longer ttl is refused. -1 switches the guard off, for tests and throw-away
	// servers: then a node that restarts empty can hand a held lock to a second
	// holder. Defaults to 60s.
	RestartGuard time.Duration

	// AssumeDurable declares that no node ever forgets a write that it answered,
	// so that none sits out the guard. Where that is not so, a node that restarts can
	// hand a held lock to a second holder. Without it, a node shows that it is durable
	// by its configuration (appendonly yes, appendfsync always,
	// no-appendfsync-on-rewrite no) and by its statistics, which show that nothing
	// changed this since it started.
	AssumeDurable bool

	// Retention is how long a fence counter outlives the last use of its key.
	// Tokens keep rising after that too, from the node's clock. Defaults to 7
	// days.
	Retention time.Duration

	// TLS is used by Dial for rediss:// nodes: a private CA, client certificates.
	// Without a ServerName, each node's host is used.
	TLS *tls.Config

	// GetTLS is asked in place of TLS for each connection that Dial's nodes need, so
	// that a renewed certificate or authority is used without a restart. It may be
	// called from many goroutines at once, and gets a ctx that ends with the attempt to
	// connect. With an error there is no connection; one that stands goes on.
	GetTLS func(ctx context.Context) (*tls.Config, error)

	// Credentials is asked for each connection of Dial to a node whose URL has no
	// password: for passwords that change, or tokens that expire. node is the address,
	// as errors and Health name it. user may be "": that of the URL, or the server's
	// default user. It may be called from many goroutines at once, and gets a ctx that
	// ends with the attempt to connect. Its errors are shown: they must not quote a
	// password. Sentinels have credentials of their own, in the URL. Defaults to none.
	Credentials func(ctx context.Context, node string) (user, password string, err error)

	// Lazy lets Dial return without a look at the nodes, whose connections are made
	// when they are first asked: to start while the store is down, or to ask a store
	// without a quorum for its Health.
	Lazy bool

	// OnRequest receives each request about a lock to a node, for metrics: the
	// node's address without credentials, how long its answer took (its wait for a
	// batch included), and an error if there was no answer of use, which no context
	// error matches. It is not called for a request that is withdrawn before it was sent,
	// or left out because the node hangs or is slow. It is called from many goroutines at
	// once, before the answer is used, and must not block or panic.
	OnRequest func(node string, took time.Duration, err error)

	// OnRefresh is called, for metrics, whenever a request that stands in the queue of a
	// node is sent to it once more, so that it keeps its position and finds what no
	// notification has reported: about every 0.4s for each key that this process waits
	// for, and seldom else. node is its address without credentials. It is called from
	// many goroutines at once while the wait goes on, and must not block, panic or use
	// the locker.
	OnRefresh func(node string)

	// Logger receives a line when a node stops answering or refuses to vote (Warn), and
	// one when it answers or votes again (Info), however many leases and requests that
	// concerns. Further: that it has restarted and does not vote yet (Warn), can't be
	// guarded (Warn), can't vote on a key for what is in it (Warn), and that it notifies
	// nobody or keeps no queue of those who wait (Debug). A node that comes and goes is
	// reported once a minute at most. The lines come in the order in which things
	// happened, each with the time of that, from one goroutine that holds no lock: a
	// Logger may use the locker. nil is silent.
	Logger *slog.Logger
}

// settings are Options with all defaults, and those that scripts take as text.
type settings struct {
	Options
	least     string // the uptime in seconds that a node needs for a vote: see leastUptime
	retention script.Millis
}

// drift that does not depend on the ttl: the granularity of Redis' expiry (1ms)
// and its rounding, as in the Redlock description.
const fixedDrift = 2 * time.Millisecond

func (o *Options) withDefaults(nodes int) (settings, error) {
	var opts settings
	if o != nil {
		opts.Options = *o
	}
	if nodes == 0 {
		return opts, fmt.Errorf("redlock: %w: no nodes, want at least 1", lock.ErrInvalid)
	}
	if opts.Prefix != "" && opts.NoPrefix {
		return opts, fmt.Errorf("redlock: %w: Options.Prefix is %q and NoPrefix is set, want one of them", lock.ErrInvalid, opts.Prefix)
	}
	if opts.Prefix == "" && !opts.NoPrefix {
		opts.Prefix = "redlock:"
	}
	if opts.Owner == "" {
		host, err := os.Hostname()
		if err != nil || host == "" {
			host = "unknown"
		}
		opts.Owner = host + ":" + strconv.Itoa(os.Getpid())
	}
	if opts.Quorum == 0 {
		opts.Quorum = nodes/2 + 1
	}
	setDefault(&opts.NodeTimeout, time.Second)
	setDefault(&opts.RestartGuard, time.Minute)
	setDefault(&opts.Retention, 7*24*time.Hour)
	switch opts.DriftFactor {
	case 0:
		opts.DriftFactor = 0.01
	case -1:
		opts.DriftFactor = 0
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.least, opts.retention = opts.leastUptime(), script.ToMillis(opts.Retention)
	return opts, opts.validate(nodes)
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

func (o *Options) validate(nodes int) error {
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("redlock: %w: Options."+format, append([]any{lock.ErrInvalid}, args...)...))
	}
	if 2*o.Quorum <= nodes || o.Quorum > nodes {
		refuse("Quorum is %d of %d nodes, want more than half and at most all", o.Quorum, nodes)
	}
	if o.NodeTimeout < time.Millisecond || o.NodeTimeout > lock.MaxTTL {
		refuse("NodeTimeout is %v, want 1ms to %v", o.NodeTimeout, lock.MaxTTL)
	}
	if !(o.DriftFactor >= 0 && o.DriftFactor < 1) || math.IsNaN(o.DriftFactor) {
		refuse("DriftFactor is %v, want 0 to below 1, or -1", o.DriftFactor)
	}
	if o.RestartGuard != -1 && (o.RestartGuard < lock.MinTTL || o.RestartGuard > lock.MaxTTL) {
		refuse("RestartGuard is %v, want %v to %v, or -1 for none", o.RestartGuard, lock.MinTTL, lock.MaxTTL)
	}
	if o.TLS != nil && o.GetTLS != nil {
		refuse("TLS and GetTLS are both set, want one of them")
	}
	if o.Retention < o.RestartGuard || o.Retention < time.Minute {
		refuse("Retention is %v, want at least a minute and at least RestartGuard (%v)", o.Retention, o.RestartGuard)
	}
	if len(o.Owner) > 256 || strings.ContainsFunc(o.Owner, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		refuse("Owner is %.64q, want up to 256 bytes without control characters", o.Owner)
	}
	return errors.Join(errs...)
}

// drift is what a node's clock may gain on ours during ttl.
func (o *Options) drift(ttl time.Duration) time.Duration {
	return time.Duration(float64(ttl)*o.DriftFactor) + fixedDrift
}

// leastUptime is the restart guard as scripts take it: the guard time in seconds, rounded
// up, plus one because uptime_in_seconds is rounded down. 0 switches the guard off.
func (o *Options) leastUptime() string {
	if o.RestartGuard == -1 || o.AssumeDurable {
		return node.NoGuard
	}
	return strconv.FormatInt(roundUp(o.RestartGuard, time.Second)+1, 10)
}

// roundUp is how many units d, 0 or more, takes.
func roundUp(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit > 0 {
		n++
	}
	return n
}
