package redlock

import (
	"context"
	"fmt"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
)

var _ lock.TermTokenRaiser = (*hold)(nil)

// maxRaise is below where a node's count ends, by as many leases of a key as there will
// ever be.
const maxRaise = 1<<53 - 1<<40

// RaiseTermToken implements [lock.TermTokenRaiser]: it is phase 2 again, with a larger token
// than a quorum counts. A quorum that has my value endorses it, and the next holder's has a
// node of that quorum, which counts on from there: what holds for the highest count holds
// for any above it. (internal/model has it: Tokens.Raises.) A node that has lost my value,
// or whose count is not of its present run, takes no part, whenever the request arrives.
func (h *hold) RaiseTermToken(ctx context.Context, _ string, _, least uint64) (uint64, error) {
	if least > maxRaise {
		return 0, fmt.Errorf("%w: token %d, want at most %d: nodes count to 2^53", lock.ErrInvalid, least, uint64(maxRaise))
	}
	if err := h.l.begin(1); err != nil {
		return 0, err
	}
	defer h.l.wg.Done()
	h.mu.Lock()
	token, ttl, until := h.token, h.ttl, h.until
	h.mu.Unlock()
	if token >= least {
		return token, nil
	}
	if node.Now() >= until {
		return 0, fmt.Errorf("%w: expired", lock.ErrLost)
	}
	if err := h.agree(ctx, ttl, until, least); err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.token, nil
}
