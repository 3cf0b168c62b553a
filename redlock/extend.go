package redlock

import (
	"cmp"
	"context"
	"time"

	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

var (
	opExtend = &op{parse: script.ParseExtend, votes: true, class: node.Renewing,
		request: func(h *hold, n *node.Node, r *round, _ reply) script.Request {
			return script.Extend(h.keys, h.value, r.ttl, h.l.opts.retention, n.Guard())
		}}
	// opRepair follows an extend that answered "missing" in the run prev.Run.
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
	r := h.newExtend(start, ttl)
	h.send(r)
	h.l.agreement.keep(ttl) // its outcome is not asked for: it never ends a lease
	var unknown error
	lost := false
	err := h.wait(ctx, r, func(last bool) (certain bool) {
		certain, lost, unknown = h.decideExtend(r, last)
		return certain
	})
	return h.extendedTo(start, ttl, lost, cmp.Or(err, unknown))
}
