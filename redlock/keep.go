package redlock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
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
	opKeep = &op{script: extendScript, parse: parseExtend, votes: true, class: freeing,
		args: func(h *hold, n *node, r *round, _ reply, c *call) {
			least, durable := n.mayVote()
			c.put(h.value, h.l.keepTTL(r.kept), n.opts.retention, least, durable, "exact")
		}}
	opKeepRepair = &op{script: repairScript, parse: parseRepair, sets: true, class: freeing,
		args: func(h *hold, n *node, r *round, prev reply, c *call) {
			c.put(h.value, h.l.keepTTL(r.kept), n.opts.retention, strconv.FormatUint(h.token, 10), prev.run)
		}}
)

// keepTTL is what a node is asked for, in ms, to have the lock until then. It is counted
// when the request is made, so that one that arrives late, or is made again, ends the
// hold no earlier. The node's clock may be faster by the drift. Never is more promised
// than the guard allows for.
func (l *Locker) keepTTL(until time.Time) string {
	left := max(time.Until(until), 0)
	return ms(max(time.Millisecond, min(left+l.opts.drift(left), l.MaxReleaseAfter())))
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
	h.mu.Lock()
	h.releasing, h.released = true, true // a release after it finds what is left, or nothing
	h.mu.Unlock()
	r := h.newRound(opKeep)
	r.kept = until
	h.send(r)
	n, q := len(h.l.nodes), h.l.opts.Quorum
	var failed error
	err := h.wait(ctx, r, func(last bool) bool {
		yes, no, open := r.count(confirmed), r.count(missing)+r.count(taken), r.count(silent)
		if last {
			open = 0
		}
		switch {
		case yes >= q:
			h.settle(r, completeKeep(until, releaseRetries))
		case no > n-q: // no quorum can have my value: another may hold the key
			failed = fmt.Errorf("%w: the lock is gone from or taken on more than %d of %d nodes", lock.ErrLost, n-q, n)
		case yes+open < q && no+open <= n-q:
			failed = h.unavailable(r, "confirmed it", yes, last)
		default:
			return false
		}
		return true
	})
	if errors.Is(failed, lock.ErrLost) {
		h.abandon()
	}
	return cmp.Or(err, failed)
}

// completeKeep gives what a node is owed when a quorum keeps the lock until then.
func completeKeep(until time.Time, tries int) func(*hold, int, reply) *round {
	return func(h *hold, _ int, rep reply) *round {
		var next *round
		switch {
		case tries == 0, errors.Is(rep.err, lock.ErrClosed), !time.Now().Before(until):
			return nil
		case rep.kind == missing:
			next = h.newRound(opKeepRepair)
		case rep.kind == failed: // it may have promised more, and would be late to vote again
			next = h.newRound(opKeep)
			next.pause = h.l.opts.NodeTimeout / 2
		default:
			return nil
		}
		next.kept, next.tend = until, completeKeep(until, tries-1)
		return next
	}
}
