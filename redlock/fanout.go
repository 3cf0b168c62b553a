package redlock

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeerr"
)

// each asks all nodes at once and returns when all have answered, or failed, or
// ctx or the node timeout has ended. ask must not touch what its caller reads
// after that: its result goes through the channel.
func each[T any](ctx context.Context, l *Locker, timeout time.Duration, ask func(ctx context.Context, n *node.Node, c rueidis.Client) (T, error)) ([]T, []error, error) {
	if ctx == nil {
		return nil, nil, ended(ctx)
	}
	if err := l.begin(len(l.nodes)); err != nil {
		return nil, nil, err
	}
	deadline, ok := ctx.Deadline()
	// The errors of nodes name the time that was really waited: up to the caller's own
	// deadline, if that comes first. (A caller sees by its own ctx that it has ended.)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if ok {
		timeout = min(timeout, max(0, time.Until(deadline).Round(time.Millisecond)))
	}
	type answer struct {
		i   int
		t   T
		err error
	}
	answers := make(chan answer, len(l.nodes))
	for i, n := range l.nodes {
		go func() {
			defer l.wg.Done()
			a := answer{i: i}
			if c, err := n.Conn.Client(); err != nil {
				a.err = err
			} else {
				a.t, a.err = ask(ctx, n, c)
			}
			if nodeerr.Silence(a.err) { // cut off, or ctx has ended
				a.err = fmt.Errorf("%w within %v", nodeerr.ErrNoAnswer, min(timeout, l.opts.NodeTimeout))
			} else {
				a.err = nodeerr.Shown(a.err)
			}
			answers <- a
		}()
	}
	all, errs := make([]T, len(l.nodes)), make([]error, len(l.nodes))
	for i := range errs {
		errs[i] = fmt.Errorf("%w within %v", nodeerr.ErrNoAnswer, timeout)
	}
	answered := make([]bool, len(l.nodes))
	for range l.nodes {
		select {
		case a := <-answers:
			all[a.i], errs[a.i], answered[a.i] = a.t, a.err, true
		case <-ctx.Done():
			for i, n := range l.nodes {
				if err := n.Conn.Pending(); err != nil && !answered[i] {
					errs[i] = err
				}
			}
			return all, errs, nil
		}
	}
	return all, errs, nil
}

// ended is the error of a ctx that has ended, or is nil. nil while it is alive.
func ended(ctx context.Context) error { return lock.ContextError(ctx) }

// oneLine is the format of the errors of several nodes.
func oneLine(errs []error) string {
	s := ""
	for i, err := range errs {
		if i > 0 {
			s += "; "
		}
		s += err.Error()
	}
	return s
}
