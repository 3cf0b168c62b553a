package redlock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/node"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

var _ lock.Locker = (*Locker)(nil)

// TryAcquire makes one attempt. It returns at the first moment that the outcome is
// certain: usually when the first majority has answered, and at the latest after
// the node timeout, once for the votes and, if the votes' counts differ, once for
// the token.
//
// Where so many nodes refuse the user or the password, or a permission that the lock needs,
// that the others are no quorum, the error matches [lock.ErrRefused] until this Locker's
// first vote has been decided, and [lock.ErrUnavailable] after that.
func (l *Locker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lock.Lease, error) {
	h, err := l.newHold(ctx, key, ttl)
	if err == nil {
		err = l.begin(1)
	}
	if err != nil {
		return nil, fmt.Errorf("redlock: acquire: %w", err)
	}
	defer l.wg.Done()
	if err := l.agreement.mayAsk(ctx, ttl); err != nil {
		return nil, fmt.Errorf("redlock: acquire %q: %w", key, err)
	}
	start, suspended := time.Now(), l.suspended() // both from before the requests
	err = h.acquire(ctx, ttl)
	if err == nil || errors.Is(err, lock.ErrHeld) && ctx.Err() == nil {
		l.served.Store(true)
		// Not held before it is certain that the clients whose votes these could be agree.
		if differs := l.agreement.wait(ctx, ttl); differs != nil && (err == nil || errors.Is(differs, lock.ErrRefused)) {
			if err == nil {
				h.abandon()
			}
			return nil, fmt.Errorf("redlock: acquire %q: %w", key, differs)
		}
	}
	if err != nil {
		return nil, err
	}
	// The hold is certain until every node of the quorum, its clock running faster
	// by at most the drift, may have expired the key: ttl after the requests, and
	// they were not sent before start.
	drift := l.opts.drift(ttl)
	validity := ttl - time.Since(start) - suspended() - drift
	if validity < minValidity {
		h.abandon()
		return nil, fmt.Errorf("redlock: acquire %q: %w: a quorum granted it, but took %v of the ttl of %v (drift %v)",
			key, lock.ErrUnavailable, time.Since(start).Round(time.Microsecond), ttl, drift)
	}
	if ctx.Err() != nil { // cancellation beats a simultaneous grant
		h.abandon()
		return nil, fmt.Errorf("redlock: acquire %q: %w", key, ended(ctx))
	}
	return lock.NewLease(lock.Grant{
		Key: key, Token: h.token, Expiry: start.Add(ttl - drift), Term: h,
		Start: start, MaxReleaseAfter: l.MaxReleaseAfter(),
		ReleaseTimeout: -1, // each wait is bounded by the node timeout
		Suspended:      suspended,
	}), nil
}

// minValidity is the least time that a lease has left when it is returned.
const minValidity = time.Millisecond

func (l *Locker) newHold(ctx context.Context, key string, ttl time.Duration) (*hold, error) {
	k, err := l.checked(ctx, key, ttl)
	if err != nil {
		return nil, err
	}
	return l.emptyHold(key, k, newValue(l.opts.Owner)), nil
}

// checked is what precedes every request: key and ttl are good, and ctx goes on.
func (l *Locker) checked(ctx context.Context, key string, ttl time.Duration) (script.Keys, error) {
	if err := lock.Check(key, ttl); err != nil {
		return script.Keys{}, err
	}
	if err := l.checkTTL(ttl); err != nil {
		return script.Keys{}, fmt.Errorf("%w (key %q)", err, key)
	}
	k, err := l.keysOf(key)
	if err != nil {
		return script.Keys{}, err
	}
	if err := ended(ctx); err != nil {
		return script.Keys{}, fmt.Errorf("%q: %w", key, err)
	}
	return k, nil
}

func (l *Locker) emptyHold(key string, k script.Keys, value string) *hold {
	h := &hold{l: l, key: key, keys: k, value: value}
	if h.slots = h.few[:]; len(l.nodes) > len(h.few) {
		h.slots = make([]slot, len(l.nodes))
	}
	h.slots = h.slots[:len(l.nodes)]
	return h
}

func (l *Locker) checkTTL(ttl time.Duration) error {
	if l.opts.RestartGuard != -1 && ttl > l.opts.RestartGuard {
		return fmt.Errorf("%w: ttl is %v, want at most Options.RestartGuard, which is %v: a node that restarted empty would vote while the lease stands", lock.ErrInvalid, ttl, l.opts.RestartGuard)
	}
	if drift := l.opts.drift(ttl); ttl-drift < minValidity {
		return fmt.Errorf("%w: ttl is %v, want at least %v more than the clock drift allowed for it, %v", lock.ErrInvalid, ttl, minValidity, drift)
	}
	return nil
}

// full marks the nodes without room, which an attempt leaves out: requests of attempts
// that the others decide would pile up there without end. If fewer than a quorum have
// room, it waits at all of them.
func (l *Locker) full() (full []bool) {
	room := len(l.nodes)
	for i, n := range l.nodes {
		if n.HasRoom() {
			continue
		}
		if full == nil {
			full = make([]bool, len(l.nodes))
		}
		full[i] = true
		room--
	}
	if room < l.opts.Quorum {
		return nil
	}
	return full
}

// acquire gets the lock's body and its token, or leaves nothing held.
func (h *hold) acquire(ctx context.Context, ttl time.Duration) error {
	votes := h.newRound(opAcquire)
	votes.ttl, votes.until = script.ToMillis(ttl), node.Now()+ttl
	votes.full = h.l.full()
	h.send(votes)
	h.l.agreement.keep(ttl)
	start := node.Now()
	var token, highest uint64
	var refused error
	err := h.wait(ctx, votes, func(last bool) bool {
		token, highest, refused = h.countVotes(votes, last)
		return token != 0 || highest != 0 || refused != nil
	})
	if err == nil && highest != 0 {
		// A quorum granted, and its counts differ. A vote that is on its way most often
		// agrees with one of them, and saves the second round. It is waited for as long as
		// a second round would take, which is as long as these votes took.
		err = h.waitFor(ctx, votes, node.Now()-start, func(last bool) bool {
			token, highest, refused = h.countVotes(votes, false)
			return token != 0 || last
		})
	}
	if err == nil && refused != nil {
		err = refused
	}
	if err != nil { // refused, or ctx ended
		h.rollBack(ctx, votes)
		return fmt.Errorf("redlock: acquire %q: %w", h.key, err)
	}
	if token != 0 {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.token, h.ttl, h.until = token, votes.ttl, votes.until
		h.conclude(votes, completeGrant(0))
		return nil
	}
	if err = h.agree(ctx, votes.ttl, votes.until, highest); err != nil {
		h.abandon()
		return fmt.Errorf("redlock: acquire %q: %w", h.key, err)
	}
	return nil
}

var (
	opAcquire = &op{parse: script.ParseAcquire, sets: true, attempt: true, votes: true, class: node.Voting,
		request: func(h *hold, n *node.Node, r *round, _ reply) script.Request {
			return script.Acquire(h.keys, h.value, r.ttl, h.l.opts.retention, n.Guard())
		}}
	opCommit = &op{parse: script.ParseCommit, class: node.Renewing,
		request: func(h *hold, n *node.Node, r *round, _ reply) script.Request {
			return script.Commit(h.keys, h.value, r.token, h.l.opts.retention)
		}}
	// opConfirm is a commit and an extend in one step.
	opConfirm = &op{parse: script.ParseConfirm, class: node.Renewing,
		request: func(h *hold, n *node.Node, r *round, _ reply) script.Request {
			return script.Confirm(h.keys, h.value, r.ttl, h.l.opts.retention, n.Guard(), r.token)
		}}
	// opStand asks for the vote of a node where the lease's request stands.
	opStand = &op{parse: parseStand, sets: true, attempt: true, votes: true, class: node.Voting,
		request: func(h *hold, n *node.Node, r *round, _ reply) script.Request {
			return h.stood.again(n, h.value, r.ttl)
		}}
)

// countVotes gives the outcome of phase 1, if it is certain: the token, or the
// highest count if a quorum granted but its counts differ, or why it failed. mu is
// held.
func (h *hold) countVotes(r *round, last bool) (token, highest uint64, refused error) {
	n, q := len(r.replies), h.l.opts.Quorum
	grants, refusals, open := 0, 0, 0
	for i := range r.replies {
		switch rep := &r.replies[i]; rep.Kind {
		case script.Granted:
			grants++
			highest = max(highest, rep.Count)
			same := 0
			for j := range r.replies {
				if r.replies[j].Kind == script.Granted && r.replies[j].Count == rep.Count {
					same++
				}
			}
			if same >= q {
				token = rep.Count // Q nodes endorse it: no later lease can have it or less
			}
		case script.Held:
			refusals++
		case script.Silent:
			open++
		}
	}
	if last {
		open = 0
	}
	switch {
	case token != 0:
		return token, 0, nil
	case grants >= q:
		return 0, highest, nil
	case refusals > n-q: // others have so many votes that a quorum is out of reach
		return 0, 0, h.heldError(r)
	case grants+open < q && refusals+open <= n-q:
		return 0, 0, h.unavailable(r, "granted it", grants, last)
	}
	return 0, 0, nil // open
}

// heldError names the holder with the most votes, and when at the latest a quorum
// could be free. mu is held.
func (h *hold) heldError(r *round) *lock.HeldError {
	votes := map[string]int{}
	var best string
	free := make([]time.Duration, 0, len(r.replies)) // when each node can vote for us
	for _, rep := range r.replies {
		switch rep.Kind {
		case script.Held:
			votes[rep.Value]++
			// At a tie another owner's value is named: one of this owner's is left by an
			// attempt that is being rolled back.
			if votes[rep.Value] > votes[best] || votes[rep.Value] == votes[best] && holderName(best) == h.l.opts.Owner {
				best = rep.Value
			}
			if rep.Left >= 0 {
				free = append(free, rep.Left)
			}
		case script.Granted:
			free = append(free, 0)
		case script.Recovering:
			free = append(free, rep.Left)
		}
	}
	e := &lock.HeldError{Key: h.key, Holder: holderName(best)}
	if slices.Sort(free); len(free) >= h.l.opts.Quorum {
		e.RetryAfter = max(free[h.l.opts.Quorum-1], time.Millisecond)
	}
	return e
}

// agree is phase 2: it raises the counts to the lease's token, and starts again if it
// meets a higher one. While a node has my value, its count rises by my own commits
// only, so that each node can show a higher one once.
func (h *hold) agree(ctx context.Context, ttl script.Millis, until time.Duration, token uint64) error {
	for range len(h.slots) + 1 {
		commit := h.newRound(opCommit)
		commit.token, commit.until = token, until
		h.send(commit)
		var agreed, highest uint64
		var failed error
		err := h.wait(ctx, commit, func(last bool) bool {
			same, open := 0, 0
			for _, rep := range commit.replies {
				switch {
				case rep.Kind == script.Counted && rep.Count == token:
					same++
				case rep.Kind == script.Counted:
					highest = max(highest, rep.Count)
				case rep.Kind == script.Silent && !last:
					open++
				}
			}
			switch {
			case highest > token:
			case same >= h.l.opts.Quorum:
				agreed = token // only answers of this round and equal to it count
			case same+open < h.l.opts.Quorum:
				failed = h.unavailable(commit, "agreed on its token", same, last)
			default:
				return false
			}
			return true
		})
		switch {
		case err != nil || failed != nil:
			return cmp.Or(err, failed)
		case agreed != 0:
			h.mu.Lock()
			defer h.mu.Unlock()
			h.token, h.ttl, h.until = agreed, ttl, until
			h.conclude(commit, completeGrant(0))
			return nil
		}
		token = highest
	}
	return fmt.Errorf("%w: a node answers ever higher counts, now %d", lock.ErrUnavailable, token)
}
