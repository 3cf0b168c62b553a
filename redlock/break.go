package redlock

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

var _ lock.ForceReleaser = (*Locker)(nil)

// Outcome is what a break did on one node.
type Outcome struct {
	Node string // address, without credentials
	Did  Did
	Err  error // why the node could not be asked; Did is then ""
}

// Did is what a node answered.
type Did string

const (
	Freed    Did = "freed"     // it had the value, and has not any more
	WasFree  Did = "was free"  // it had no value
	Anothers Did = "another's" // it has another value, which was left alone
)

// ForceRelease implements [lock.ForceReleaser]. With token 0 it deletes whatever
// value each node has, another library's and leftovers included.
func (l *Locker) ForceRelease(ctx context.Context, key string, token uint64) error {
	if err := l.forceRelease(ctx, key, token); err != nil {
		return fmt.Errorf("redlock: force release %q (token %d): %w", key, token, err)
	}
	return nil
}

func (l *Locker) forceRelease(ctx context.Context, key string, token uint64) error {
	if token == 0 {
		if err := lock.Check(key, lock.MinTTL); err != nil {
			return err
		}
		_, err := l.free(ctx, key, nil)
		return err
	}

	info, holder, err := l.inspect(ctx, key, nil)
	switch {
	case err != nil:
		return err
	case info.Holder == "":
		return nil // nobody's, so not that term's
	case info.Token == 0:
		return fmt.Errorf("%w: too few nodes agree on the token of the present term", lock.ErrUnavailable)
	case info.Token != token:
		return fmt.Errorf("another term has it, token %d: %w", info.Token, &lock.HeldError{Key: key, Holder: info.Holder, RetryAfter: max(0, info.TTL)})
	}
	_, err = l.free(ctx, key, []string{holder}) // its term alone has this value
	return err
}

// Break frees what v shows and nothing that came later: the holder's term on all
// nodes or, where no value has a quorum, every value that a node showed, another
// library's included. It reports what it did on each node, also with an error, which
// matches [lock.ErrUnavailable] if fewer nodes than a quorum are known to be without
// those values now; ask again then.
//
// The broken holder learns of it at its next Extend: until then only the fencing
// token protects a resource.
func (l *Locker) Break(ctx context.Context, v View) ([]Outcome, error) {
	all, err := l.breakView(ctx, v)
	if err != nil {
		return all, fmt.Errorf("redlock: break %q: %w", v.Key, err)
	}
	return all, nil
}

func (l *Locker) breakView(ctx context.Context, v View) ([]Outcome, error) {
	if len(v.Nodes) != len(l.nodes) {
		return nil, fmt.Errorf("%w: a view of %d nodes, want one of this locker, which has %d", lock.ErrInvalid, len(v.Nodes), len(l.nodes))
	}
	values := []string{} // not nil: with none, there is nothing to free
	for _, n := range v.Nodes {
		if n.value != nil && (v.Holder == "" || n.Term == 1) && !slices.Contains(values, *n.value) {
			values = append(values, *n.value)
		}
	}
	return l.free(ctx, v.Key, values)
}

// free deletes key on every node that has one of the values; nil is any. A value is
// compared as it stands: one that another program wrote can be any text.
func (l *Locker) free(ctx context.Context, key string, values []string) ([]Outcome, error) {
	k, err := l.keysOf(key)
	if err != nil {
		return nil, err
	}
	did, errs, err := each(ctx, l, l.opts.NodeTimeout, func(ctx context.Context, n *node.Node, c rueidis.Client) (Did, error) {
		retention, guard := l.opts.retention, n.Guard()
		requests := []script.Request{script.ForceRelease(k, retention, guard)}
		if values != nil {
			requests = nil
			for _, value := range values {
				requests = append(requests, script.Release(k, value, "", "", retention, guard))
			}
		}
		// A request goes on after its caller has given it up. Sent without a connection, it
		// would wait for one, and then free a holder that came meanwhile.
		if err := c.Do(ctx, c.B().Ping().Build()).Error(); err != nil {
			return "", err
		}
		did := WasFree
		for _, q := range requests {
			rep := replyOf(node.AnswerOf(q.Eval(ctx, c)), script.ParseRelease)
			switch rep.Kind {
			case script.Failed:
				return "", rep.err
			case script.Freed:
				return Freed, nil
			case script.NotMine:
				did = Anothers
			case script.Missing:
				return WasFree, nil
			}
		}
		return did, nil
	})
	if err != nil {
		return nil, err
	}
	without, readings, all := 0, make([]nodeReading, len(errs)), make([]Outcome, len(errs))
	for i := range did {
		all[i] = Outcome{Node: l.nodes[i].Name, Did: did[i], Err: errs[i]}
		if readings[i].err = errs[i]; errs[i] == nil {
			without++
		}
	}
	if without < l.opts.Quorum {
		return all, l.noQuorum(ctx, "freed it", readings)
	}
	return all, nil
}
