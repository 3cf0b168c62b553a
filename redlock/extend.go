package redlock

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

var (
	opExtend = &op{parse: script.ParseExtend, votes: true, class: node.Renewing,
		request: func(h *hold, n *node.Node, r *round, _ reply) script.Request {
			return script.Extend(h.keys, h.value, r.ttl, h.l.opts.retention, n.Guard())
		}}
	// opRepair follows an extend that answered "missing", in prev.run.
	opRepair = &op{parse: script.ParseRepair, sets: true, class: node.Renewing,
		request: func(h *hold, n *node.Node, r *round, prev reply) script.Request {
			return script.Repair(h.keys, h.value, r.ttl, h.l.opts.retention, r.token, prev.Run)
		}}
)

// ExtendTerm implements [lock.Term]. Success needs a quorum of confirmations from
// nodes that may vote; only then are the nodes that lost the lock repaired, and
// their repair never counts in this round.
func (h *hold) ExtendTerm(ctx context.Context, _ string, _ uint64, ttl time.Duration) (time.Time, error) {
	if err := h.l.checkTTL(ttl); err != nil {
		return time.Time{}, err
	}
	if err := h.l.begin(1); err != nil {
		return time.Time{}, err
	}
	defer h.l.wg.Done()
	start := time.Now()
	r := h.newRound(opExtend)
	r.ttl, r.until = script.ToMillis(ttl), node.At(start)+ttl
	h.send(r)
	h.l.agreement.keep(ttl) // whatever that gives: it never ends a lease
	n, q := len(h.l.nodes), h.l.opts.Quorum
	var unknown error
	lost := false
	err := h.wait(ctx, r, func(last bool) bool {
		yes, no, open := r.count(script.Confirmed), r.count(script.Missing)+r.count(script.Taken), r.count(script.Silent)
		if last {
			open = 0
		}
		switch {
		case yes >= q:
			// A quorum has my value until ttl after this round began; the nodes that
			// may have forgotten another's promise are not in it.
			h.ttl, h.until, h.grown = r.ttl, r.until, true
			h.settle(r, completeExtend(0))
		case no > n-q:
			lost = true // no quorum can have my value: another may hold it
		case yes+open < q && no+open <= n-q:
			unknown = h.unavailable(r, "confirmed it", yes, last)
		default:
			return false
		}
		return true
	})
	switch {
	case lost:
		h.abandon()
		return time.Time{}, fmt.Errorf("%w: the lock is gone from or taken on more than %d of %d nodes", lock.ErrLost, n-q, n)
	case err != nil || unknown != nil:
		return time.Time{}, cmp.Or(err, unknown)
	}
	return start.Add(ttl - h.l.opts.drift(ttl)), nil
}
