package redlock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

var (
	_ lock.TermAfterReleaser = (*hold)(nil)
	_ lock.MaxReleaseAfterer = (*Locker)(nil)
)

// MaxReleaseAfter implements [lock.MaxReleaseAfterer]: it is Options.RestartGuard, since
// a node that restarted empty would vote while a longer hold stands.
func (l *Locker) MaxReleaseAfter() time.Duration {
	if l.opts.RestartGuard == -1 {
		return lock.MaxTTL
	}
	return l.opts.RestartGuard
}

var (
	// opKeep is an extend that also shortens.
	opKeep = &op{parse: script.ParseExtend, votes: true, class: node.Freeing,
		request: func(h *hold, n *node.Node, r *round, _ reply) script.Request {
			return script.ExtendExactly(h.keys, h.value, h.l.keepTTL(r.kept), h.l.opts.retention, n.Guard())
		}}
	opKeepRepair = &op{parse: script.ParseRepair, sets: true, class: node.Freeing,
		request: func(h *hold, n *node.Node, r *round, prev reply) script.Request {
			return script.Repair(h.keys, h.value, h.l.keepTTL(r.kept), h.l.opts.retention, h.token, prev.Run)
		}}
)

// keepTTL is the ttl with which a node has the lock until that time. It is computed
// when the request is made, so that one that arrives late, or is made again, ends the
// hold no earlier. The node's clock may be faster by the drift. It is never more than
// the restart guard allows for.
func (l *Locker) keepTTL(until time.Time) script.Millis {
	left := max(time.Until(until), 0)
	return script.ToMillis(max(time.Millisecond, min(left+l.opts.drift(left), l.MaxReleaseAfter())))
}

// ReleaseTermAfter implements [lock.TermAfterReleaser]. That no other lease begins before
// until is as certain as after an extend to that moment: a quorum that may vote has
// confirmed it, and the nodes that lost the lock get it back. The nodes' promises may
// become shorter by it, because the holder has given up what they were for.
func (h *hold) ReleaseTermAfter(ctx context.Context, _ string, _ uint64, until time.Time) error {
	ctx, cancel := releaseContext(ctx)
	defer cancel()
	if err := h.l.begin(1); err != nil {
		return err
	}
	defer h.l.wg.Done()
	h.ends(false) // a release after it finds what is left, or nothing
	r := h.newRound(opKeep)
	r.kept = until
	h.send(r)
	n, q := len(h.l.nodes), h.l.opts.Quorum
	var failed error
	err := h.wait(ctx, r, func(last bool) bool {
		yes, no, open := r.count(script.Confirmed), r.count(script.Missing)+r.count(script.Taken), r.count(script.Silent)
		if last {
			open = 0
		}
		switch {
		case yes >= q:
			h.conclude(r, completeKeep(until, releaseRetries))
		case no > n-q: // no quorum can have my value: another may hold the key
			failed = fmt.Errorf("%w: the lock is gone from or taken on more than %d of %d nodes", lock.ErrLost, n-q, n)
		case yes+open < q && no+open <= n-q:
			failed = h.unavailable(r, "confirmed it", yes, last)
		default:
			return false
		}
		return true
	})
	// A loss frees nothing, as one that an extend finds: the nodes that are left keep others
	// out until the promised moment.
	return cmp.Or(err, failed)
}

// completeKeep gives what a node with this answer is to be asked once a quorum keeps the
// lock until that time.
func completeKeep(until time.Time, tries int) func(*hold, int, reply) *round {
	return func(h *hold, _ int, rep reply) *round {
		var next *round
		switch {
		case tries == 0, errors.Is(rep.err, lock.ErrClosed), !time.Now().Before(until):
			return nil
		case rep.Kind == script.Missing:
			next = h.newRound(opKeepRepair)
		case rep.Kind == script.Failed: // it may have promised more, and would be late to vote again
			next = h.newRound(opKeep)
			next.pause = h.l.opts.NodeTimeout / 2
		default:
			return nil
		}
		next.kept, next.followUp = until, completeKeep(until, tries-1)
		return next
	}
}
