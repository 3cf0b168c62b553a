package redlock

import (
	"context"
	"fmt"

	"github.com/tonsurance/lockkeeper/lock"
)

var _ lock.TermTokenRaiser = (*hold)(nil)

// maxRaise leaves room below the largest count of a node, for more leases than a key will
// ever have.
const maxRaise = 1<<53 - 1<<40

// errRepaired: a repair makes the lock this hold's again on a node where another may have
// been granted a count meanwhile, the very one that is to be raised to. A commit that comes
// after it would endorse that count for both.
var errRepaired = fmt.Errorf("%w: a node lost the lock, and was given it back: a token can't be raised after that, acquire the key anew", lock.ErrUnavailable)

// RaiseTermToken implements [lock.TermTokenRaiser]: it is phase 2 again, with a larger token
// than a quorum counts. A quorum that has my value by its grant endorses it, and the next
// holder's has a node of that quorum, which counts on from there: what holds for the highest
// count holds for any above it. A node that has lost my value, or whose count is not of its
// present run, takes no part, whenever the request arrives. Nothing is repaired before it
// has succeeded. (internal/model searches this: Tokens.Raises, and the rules RaiseAlone and
// RaiseRepaired.)
func (h *hold) RaiseTermToken(ctx context.Context, _ string, _, least uint64) (uint64, error) {
	if least > maxRaise {
		return 0, fmt.Errorf("%w: token %d, want at most %d: nodes count to 2^53", lock.ErrInvalid, least, uint64(maxRaise))
	}
	if err := h.l.begin(1); err != nil {
		return 0, err
	}
	defer h.l.wg.Done()
	h.mu.Lock()
	token, ttl, until, repaired := h.token, h.ttl, h.until, h.repaired
	h.raising = token < least && !repaired
	h.mu.Unlock()
	switch {
	case token >= least:
		return token, nil
	case repaired:
		return 0, errRepaired
	}
	err := h.agree(ctx, ttl, until, least)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.raising = false
	return h.token, err
}
