package redlock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

var _ lock.Watcher = (*Locker)(nil)

// Watch implements [lock.Watcher]. The nodes tell of each release, expiry or DEL,
// by whomever, in the messages of client-side caching (CLIENT TRACKING, RESP3). A
// holder's own writes wake nobody and cost nothing. One connection a node serves
// all keys; it is closed when nobody has waited for 2s.
//
// Whoever watches stands in a queue on the nodes, a hint for whose turn it is. wake
// is sent on when the lock is free and it is this process's turn, when the holder's
// time has run out without news of a renewal, and when the connection to a node was
// lost or is back.
//
// Watch returns once news flow from a quorum or, after the node timeout, from some
// node. Without any, as on a Redis Cluster or where CLIENT TRACKING is not
// permitted, it fails with [lock.ErrUnavailable].
func (l *Locker) Watch(ctx context.Context, key string, wake chan<- struct{}) (stop func(), err error) {
	if err := lock.Check(key, lock.MinTTL); err != nil {
		return nil, fmt.Errorf("redlock: watch: %w", err)
	}
	k, err := l.keysOf(key)
	if err == nil {
		err = l.begin(1)
	}
	if err != nil {
		return nil, fmt.Errorf("redlock: watch: %w", err)
	}
	defer l.wg.Done()
	w := l.desk.add(k, wake)
	if err := l.flowing(ctx, w); err != nil {
		_ = l.desk.remove(w, wake)
		return nil, fmt.Errorf("redlock: watch %q: %w", key, err)
	}
	l.standInLine(ctx, w)
	return func() {
		if places := l.desk.remove(w, wake); places != nil {
			l.leaveLine(k, places)
		}
	}, nil
}

var errNoNews = errors.New("no news of the key yet")

// flowing waits until news of w's key flow from a quorum, or from some node after
// the node timeout.
func (l *Locker) flowing(ctx context.Context, w *watch) error {
	timeout := time.NewTimer(l.opts.NodeTimeout)
	defer timeout.Stop()
	for last := false; ; {
		live, open, changed, why := l.desk.flow(w)
		switch {
		case live >= l.opts.Quorum, live > 0 && (last || open == 0):
			return nil
		case last || open == 0:
			return fmt.Errorf("%w: %w", lock.ErrUnavailable, why)
		}
		select {
		case <-changed:
		case <-timeout.C:
			last = true
		case <-ctx.Done():
			return ended(ctx)
		case <-l.done:
			return lock.ErrClosed
		}
	}
}

// standInLine puts this process into the key's queue on every node, unless it is
// there, and learns how many are before it and whether the lock is free. It returns
// when a quorum has answered, bounded by the node timeout; the rest goes on.
func (l *Locker) standInLine(ctx context.Context, w *watch) {
	views := l.desk.queueing(w)
	if views == nil || l.begin(len(l.nodes)) != nil {
		return
	}
	answers := make(chan struct{}, len(l.nodes))
	for i, n := range l.nodes {
		go func() {
			defer l.wg.Done()
			defer func() { answers <- struct{}{} }()
			at, err := script.Waiting{}, n.Hangs()
			if err == nil {
				at, err = parseWait(n.Eval(script.Wait(w.keys, l.id, views[i].place, keepQueue), node.Voting))
			}
			n.KeepsNoQueue(err)
			if waits := l.desk.placed(w, i, at, err, views[i].news); !waits && err == nil {
				n.Eval(script.Dequeue(w.keys, l.id, at.Position), node.Freeing) // it came after the grant or the end of the wait
			}
		}()
	}
	timeout := time.NewTimer(l.opts.NodeTimeout)
	defer timeout.Stop()
	for range l.opts.Quorum {
		select {
		case <-answers:
		case <-timeout.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// keepQueue is how long (ms) a queue outlives the last one who came. Nobody's turn
// is lost by it: who finds nobody before him asks first.
const keepQueue = "3600000"

func parseWait(a node.Answer) (script.Waiting, error) {
	if a.Err != nil {
		return script.Waiting{}, a.Err
	}
	return script.ParseWait(a.Msg)
}

// leaveLine takes this process out of the key's queues, in the background. (Who gets
// the lock is out of them by the grant.)
func (l *Locker) leaveLine(k script.Keys, places []string) {
	if l.begin(len(l.nodes)) != nil {
		return
	}
	for i, n := range l.nodes {
		go func() {
			defer l.wg.Done()
			if places[i] != "" && n.Hangs() == nil { // without one, its answer sees to it
				n.Eval(script.Dequeue(k, l.id, places[i]), node.Freeing)
			}
		}()
	}
}
