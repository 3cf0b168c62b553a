package redlock

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

var _ lock.Inspector = (*Locker)(nil)

// nodeReading is what one node shows of a key.
type nodeReading struct {
	script.Inspected
	err error
}

// unlisted are the nodes that a listing could not list, and why: they are not asked for
// each of its keys, which would take a node timeout a key.
type unlisted map[*node.Node]error

// read asks all nodes but the unlisted ones for key, and for up to waiters of those who
// wait for it.
func (l *Locker) read(ctx context.Context, k script.Keys, waiters int, skip unlisted) ([]nodeReading, error) {
	all, errs, err := each(ctx, l, l.opts.NodeTimeout, func(ctx context.Context, n *node.Node, c rueidis.Client) (nodeReading, error) {
		if err := skip[n]; err != nil {
			return nodeReading{}, err
		}
		q := script.Inspect(k, waiters)
		msg, err := q.Eval(ctx, c).ToMessage()
		if err != nil {
			return nodeReading{}, err
		}
		shown, err := script.ParseInspect(msg)
		return nodeReading{Inspected: shown}, err
	})
	for i := range all {
		all[i].err = errs[i]
	}
	return all, err
}

// Inspect reports who has a quorum of key's votes. Values on fewer nodes (leftovers
// of attempts, split votes) are no holder. If too few nodes answer to tell, the
// error matches [lock.ErrUnavailable].
func (l *Locker) Inspect(ctx context.Context, key string) (lock.Info, error) {
	info, _, err := l.inspect(ctx, key, nil)
	if err != nil {
		return lock.Info{}, fmt.Errorf("redlock: inspect %q: %w", key, err)
	}
	return info, nil
}

func (l *Locker) inspect(ctx context.Context, key string, skip unlisted) (lock.Info, string, error) {
	if err := lock.Check(key, lock.MinTTL); err != nil {
		return lock.Info{}, "", err
	}
	k, err := l.keysOf(key)
	if err != nil {
		return lock.Info{}, "", err
	}
	readings, err := l.read(ctx, k, mostWaiters, skip)
	if err != nil {
		return lock.Info{}, "", err
	}
	switch state, value := judge(readings, l.opts.Quorum); state {
	case StateUnknown:
		return lock.Info{}, "", l.noQuorum(ctx, "answered", readings)
	default:
		if votes(readings, value) >= l.opts.Quorum {
			return l.describe(key, value, readings), value, nil
		}
		return lock.Info{Key: key, Waiting: len(waitersOf(readings, ""))}, "", nil // no value can have a quorum
	}
}

// noQuorum reports why, node by node, unless it is because ctx has ended.
func (l *Locker) noQuorum(ctx context.Context, what string, readings []nodeReading) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	nodes := &multierror.Error{ErrorFormat: oneLine}
	n := 0
	for i, s := range readings {
		if s.err != nil {
			nodes = multierror.Append(nodes, fmt.Errorf("node %s: %w", l.nodes[i].Name, s.err))
		} else {
			n++
		}
	}
	return fmt.Errorf("%w: %d of %d nodes %s: %w", lock.ErrUnavailable, n, len(readings), what, nodes)
}

// describe is what is shown of the holder whose value a quorum has: its time left is until
// a quorum no longer has the value, its token the count that a quorum endorses.
func (l *Locker) describe(key, value string, readings []nodeReading) lock.Info {
	info := lock.Info{Key: key, Holder: holderName(value)}
	info.Waiting = len(waitersOf(readings, info.Holder))
	counts := map[uint64]int{}
	var left []time.Duration
	for _, s := range readings {
		if s.err != nil || !s.Held || s.Value != value {
			continue
		}
		if counts[s.Count]++; counts[s.Count] >= l.opts.Quorum {
			info.Token = s.Count
		}
		if s.Left == -1 {
			s.Left = script.MaxLeft
		}
		left = append(left, s.Left)
	}
	slices.Sort(left)
	if info.Holder == foreign {
		info.Token = 0 // another library counts nothing: the count is an earlier holder's
	}
	if info.TTL = left[len(left)-l.opts.Quorum]; info.TTL == script.MaxLeft {
		info.TTL = -1
	}
	return info
}

// List walks the nodes' keys with SCAN, which does not block them, and yields each
// key that starts with prefix and has a holder. Nodes that can't be listed are
// passed over as long as a quorum can.
func (l *Locker) List(ctx context.Context, prefix string) iter.Seq2[lock.Info, error] {
	return func(yield func(lock.Info, error) bool) {
		names, skip, err := l.names(ctx, prefix)
		for _, name := range names {
			var info lock.Info
			if info, _, err = l.inspect(ctx, name, skip); err != nil {
				err = fmt.Errorf("%q: %w", name, err)
				break
			}
			if info.Holder != "" && !yield(info, nil) {
				return
			}
		}
		if err != nil {
			yield(lock.Info{}, fmt.Errorf("redlock: list %q: %w", prefix, err))
		}
	}
}

// listTimeout bounds the SCANs of one node.
const listTimeout = 30 * time.Second

// names gathers the keys of all nodes: a lock stands on a quorum, so that a quorum
// of nodes shows each.
func (l *Locker) names(ctx context.Context, prefix string) ([]string, unlisted, error) {
	pattern := escapeGlob(l.opts.Prefix+prefix) + "*"
	lists, errs, err := each(ctx, l, listTimeout, func(ctx context.Context, _ *node.Node, c rueidis.Client) ([]string, error) {
		return scan(ctx, c, pattern)
	})
	if err != nil {
		return nil, nil, err
	}
	seen, skip := map[string]bool{}, unlisted{}
	readings := make([]nodeReading, len(errs))
	answered := 0
	for i, list := range lists {
		if readings[i].err = errs[i]; errs[i] != nil {
			skip[l.nodes[i]] = errs[i]
			continue
		}
		answered++
		for _, lockKey := range list {
			seen[strings.TrimPrefix(lockKey, l.opts.Prefix)] = true
		}
	}
	if answered < l.opts.Quorum {
		return nil, nil, l.noQuorum(ctx, "could be listed", readings)
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		// What no client can lock is no lock.
		if _, err := l.keysOf(name); err == nil && lock.Check(name, lock.MinTTL) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, skip, nil
}

// scan lists a node's strings that match pattern; a Redis Cluster's, of all its
// servers.
func scan(ctx context.Context, c rueidis.Client, pattern string) ([]string, error) {
	var names []string
	for _, server := range c.Nodes() {
		for cursor := uint64(0); ; {
			// Arbitrary, not Scan: a caller's client would try that again and again while a node is down.
			page, err := server.Do(ctx, server.B().Arbitrary("SCAN", strconv.FormatUint(cursor, 10),
				"MATCH", pattern, "COUNT", "1000", "TYPE", "string").Build()).AsScanEntry()
			if err != nil {
				return nil, err
			}
			names = append(names, page.Elements...)
			if cursor = page.Cursor; cursor == 0 {
				break
			}
			if ctx.Err() != nil {
				return nil, ended(ctx)
			}
		}
	}
	return names, nil
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
