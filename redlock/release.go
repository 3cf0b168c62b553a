package redlock

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

var opRelease = &op{parse: script.ParseRelease, class: node.Freeing,
	request: func(h *hold, n *node.Node, r *round, _ reply) script.Request {
		waiter := ""
		if h.stood != nil && h.stood.queued.Load() {
			waiter = h.stood.id // what was granted at once was never in the queue
		}
		return script.Release(h.keys, h.value, waiter, r.leaves, h.l.opts.retention, n.Guard())
	}}

// retryRelease sends a release again to a node where it failed, or where it found
// nothing although something may still arrive: a connection that died says nothing
// of its last request, and the network can deliver it after a release on another
// connection. After the last try the ttl ends what is left.
func retryRelease(tries int) func(*hold, int, reply) *round {
	return func(h *hold, _ int, rep reply) *round {
		if tries == 0 || rep.Kind != script.Failed && !rep.doubt || errors.Is(rep.err, lock.ErrClosed) {
			return nil
		}
		r := h.newRelease()
		r.pause = h.l.opts.NodeTimeout / 2
		r.followUp = retryRelease(tries - 1)
		return r
	}
}

const releaseRetries = 3

// newRelease is a round that frees the lock, and is tried again where it failed. It brings
// nodes that lag up to the token: a lease that is released right after its grant has no
// time for a commit. mu is held.
func (h *hold) newRelease() *round {
	r := h.newRound(opRelease)
	r.frees, r.leaves = true, script.ToToken(h.token)
	r.followUp = retryRelease(releaseRetries)
	return r
}

// ReleaseTerm implements [lock.Term]: it frees the lock on every node, on each
// after what this hold has under way there, and returns when a quorum is seen
// without it. The rest is finished in the background.
func (h *hold) ReleaseTerm(ctx context.Context, _ string, _ uint64) error {
	ctx, cancel := releaseContext(ctx)
	defer cancel()
	if err := h.l.begin(1); err != nil {
		return err
	}
	defer h.l.wg.Done()
	r, again := h.sendRelease()
	n, q := len(h.l.nodes), h.l.opts.Quorum
	var failed error
	err := h.wait(ctx, r, func(last bool) bool {
		freed, empty, others := r.count(script.Freed), r.count(script.Missing), r.count(script.NotMine)
		gone := empty + others
		open := r.count(script.Silent)
		if last {
			open = 0
		}
		switch {
		case gone > n-q && !again:
			// So many nodes did not have it that no quorum did: the term ended before
			// (by an operator, or by nodes that forgot). A second release can't tell,
			// since the first may have been applied with its reply lost.
			failed = fmt.Errorf("%w: gone from %d of %d nodes before it was released", lock.ErrLost, gone, n)
		case freed+empty >= q:
			// A quorum was free, for the next in its queue, or the next to ask.
		case freed+gone >= q && open == 0:
			// A quorum is without my value. Nodes with another's (it may be on its way
			// out) count only now: with a majority that still has some value, the next
			// one would be refused after a release that said nil.
		case freed+gone+open < q:
			failed = h.unavailable(r, "confirmed the release", freed+gone, last)
		default:
			return false
		}
		return true
	})
	return cmp.Or(err, failed)
}

// releaseContext is for a release: programs release when their ctx has ended, so its
// end ends nothing, and the node timeout bounds the wait; but the deadline of a ctx
// that is alive bounds it as well. The release itself goes on in the background.
func releaseContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); !ok || ctx.Err() != nil {
		return context.Background(), func() {} // the usual case, without an allocation
	}
	return lock.ReleaseContext(ctx, lock.DefaultReleaseTimeout)
}

func (h *hold) sendRelease() (r *round, again bool) {
	again = h.ends(true)
	h.mu.Lock()
	defer h.unlock()
	r = h.newRelease()
	h.sendAll(r)
	return r, again
}

// ends notes that this hold is not extended or repaired any more, and reports whether that
// was noted before. frees says that nothing of it is wanted on any node: then the wait that
// it came of frees what is granted to it late. A hold that ends by itself later is still
// wanted where it is: to free a vote of it would let another holder in too early.
func (h *hold) ends(frees bool) (again bool) {
	h.mu.Lock()
	again = h.released
	h.releasing, h.released = true, true
	frees = frees && !h.freed
	h.freed = h.freed || frees
	h.mu.Unlock()
	if h.stood != nil && frees {
		h.stood.released()
	}
	return again
}

// abandon frees whatever this hold has or may still get, on every node and in the
// background: the cleanup of an attempt that failed or was cancelled.
func (h *hold) abandon() { h.sendRelease() }

// rollBack cleans up after an attempt that got no quorum: it frees every node that
// granted, failed, or answers late, each after its answer. A node that refused has
// nothing of this attempt. Grants that are already here are taken back before it
// returns, bounded: contenders that split the votes must let go before any of them
// tries again.
func (h *hold) rollBack(ctx context.Context, votes *round) {
	h.mu.Lock()
	h.releasing = true
	r := h.newRelease()
	r.enough = 1
	h.conclude(votes, func(_ *hold, _ int, rep reply) *round {
		if rep.Kind == script.Silent || rep.Kind == script.Held || rep.Kind == script.Recovering {
			return nil // silent: not before it has answered
		}
		return r
	})
	for i := range h.slots {
		if h.slots[i].round == votes {
			h.recall(i) // it was not sent: nothing will be there
		}
	}
	grants := votes.count(script.Granted)
	h.mu.Unlock()
	if grants == 0 {
		return
	}
	_ = h.wait(ctx, r, func(last bool) bool {
		for i := range r.replies {
			if votes.replies[i].Kind == script.Granted && r.replies[i].Kind == script.Silent {
				return last
			}
		}
		return true
	})
}
