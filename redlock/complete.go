package redlock

import (
	"errors"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// A lease that stands on a quorum is valid, and one death from being lost. So a node that
// lags is brought up soon after the lease's grant, and after each extend: not half a ttl
// later. Nothing here decides who holds. A vote that is asked for again is to the node
// what the first one is that arrived late or twice, and an extend is as well: the
// algorithm allows both, and counts neither.

const (
	// completions bounds how often a node is asked again after one grant or extend, and
	// completePause is before the first time; it doubles from one to the next.
	completions   = 8
	completePause = 5 * time.Millisecond
	// maxPausing is about how many requests may be in such a pause at one node: leases that
	// look at the same moment may go beyond it. A node that fails for more leases than that
	// at once is asked by their next extends.
	maxPausing = 128
)

// completeGrant gives what a node with this answer is to be asked after the lease was
// granted. tries is how many times it has been asked again so far.
func completeGrant(tries int) func(*hold, int, reply) *round {
	return func(h *hold, i int, rep reply) *round {
		if h.releasing {
			return nil
		}
		switch rep.Kind {
		case script.Granted:
			if h.stood != nil && h.grown { // the node keeps it for the claim, and the lease is for longer
				r := h.newRound(opConfirm)
				r.token, r.ttl, r.until = h.token, h.ttl, h.until
				r.followUp = completeGrant(tries + 1)
				return r
			}
			if rep.Count >= h.token {
				return nil
			}
			// Its counter goes up to the token, so that next time the nodes count alike and
			// one round is enough.
			r := h.newRound(opCommit)
			r.token, r.until = h.token, h.until
			return r
		case script.Held, script.Recovering, script.NotMine:
			if h.stood != nil {
				// Its request stands there, and is granted by whatever frees the lock; but where
				// no notification arrives, only when it asks.
				return h.askAgain(i, opStand, rep, tries)
			}
		}
		return h.askAgain(i, opAcquire, rep, tries)
	}
}

// completeExtend is completeGrant after an extend that a quorum has confirmed.
func completeExtend(tries int) func(*hold, int, reply) *round {
	return func(h *hold, i int, rep reply) *round {
		if h.releasing {
			return nil
		}
		if rep.Kind == script.Missing && !h.raising { // it lost the lock, and gets it for the ttl that was just confirmed
			h.repaired = true
			r := h.newRound(opRepair)
			r.ttl, r.token, r.until = h.ttl, h.token, h.until
			r.followUp = func(h *hold, i int, rep reply) *round { return h.askAgain(i, opExtend, rep, tries) }
			return r
		}
		return h.askAgain(i, opExtend, rep, tries)
	}
}

// askAgain asks a node once more, after a pause, if it refused or failed. A node that may
// not vote for a while is left to the next extends. mu is held.
func (h *hold) askAgain(i int, do *op, rep reply, tries int) *round {
	most, pause := completions, completePause<<tries
	if rep.Kind == script.Failed { // it may be down: seldom
		most, pause = completions/2, completePause<<(2*tries)
	}
	switch {
	case h.releasing, tries >= most, errors.Is(rep.err, lock.ErrClosed):
		return nil
	case rep.Kind != script.Held && rep.Kind != script.Taken && rep.Kind != script.NotMine && rep.Kind != script.Failed:
		return nil
	case h.l.nodes[i].Pausing() >= maxPausing:
		return nil
	}
	r := h.newRound(do)
	r.ttl, r.until, r.pause = h.ttl, h.until, pause
	if node.Now()+r.pause > r.until {
		return nil
	}
	if r.followUp = completeGrant(tries + 1); do == opExtend {
		r.followUp = completeExtend(tries + 1)
	}
	return r
}
