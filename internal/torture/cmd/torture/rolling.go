package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/torture/history"
	"github.com/tonsurance/lockkeeper/redlock"
)

// roll restarts every node in turn under a lease that stands on all of them: each with
// its data, empty or with a truncated file, as its kind allows. Then the others stop
// working and waiting, and every node is flushed in turn: a lease that stands on all
// nodes with nothing under way survives one node's forgetting. It must be the same
// lease from beginning to end.
//
// Others wait for it all the while that nodes are restarted. A node that votes without
// having the lock (late, or durable and down for longer than the ttl) grants it to them
// for a moment and counts on; it must be repaired for this lease all the same.
func (t *torture) roll() error {
	if err := t.allVote(); err != nil {
		return err
	}
	from := mono()
	order := t.rng.Perm(len(t.clients))
	keeper := t.clients[order[0]]
	for _, p := range t.clients {
		if err := t.within("client is ready", p.now().ready); err != nil {
			return fmt.Errorf("%w: %w", err, p.alive())
		}
	}
	keeper.give(directive{Order: orderHold, Key: rollingKey})
	var lease history.Lease
	if err := t.until("somebody holds "+rollingKey, func() (ok bool, err error) {
		lease, ok = t.ledger.holding(rollingKey)
		return ok, keeper.alive()
	}); err != nil {
		return err
	}
	queue := func() error {
		behind := order[1:min(3, len(order))]
		for _, i := range behind {
			t.clients[i].give(directive{Order: orderQueue, Key: rollingKey})
		}
		return t.until("others wait for "+rollingKey, func() (bool, error) { return t.ledger.waiting(rollingKey) >= len(behind), nil })
	}
	lost, err := t.stands(lease, "the beginning")
	if err == nil && lost == "" {
		lost, err = t.rollUnder(lease, queue)
	}
	if err != nil {
		return err
	}
	t.rolls++
	switch worst := t.ledger.stalled(from); {
	case lost == "":
		t.survived++
	case worst.Length() > maxTTL/8:
		// Nothing can be renewed on a machine that does not run.
		t.spoiled++
		fmt.Fprintf(t.out, "a rolling restart was spoiled: a process did not run for %v\n", worst.Length())
	default:
		t.ledger.violation("a held lease survives the restart and the forgetting of one node after another", "%s; %s", lost, lease)
	}
	if err := queue(); err != nil {
		return err
	}
	keeper.give(directive{Order: orderFree})
	if err := t.until("who waits for "+rollingKey+" gets it", func() (bool, error) { return t.ledger.waiting(rollingKey) == 0, nil }); err != nil {
		if t.ctx.Err() != nil {
			return t.ctx.Err()
		}
		t.ledger.violation("once healed, somebody acquires", "%v", err)
	}
	t.tellAll(orderContend)
	return nil
}

// rollUnder says at which step the lease was gone; "" if it survived.
func (t *torture) rollUnder(lease history.Lease, queue func() error) (lost string, err error) {
	stands := func(after string) (string, error) {
		return t.stands(lease, after)
	}
	if err := queue(); err != nil {
		return "", err
	}
	for _, i := range t.rng.Perm(len(t.nodes)) {
		n := t.nodes[i]
		var fits []*kind
		for i := range t.kinds {
			if k := &t.kinds[i]; k.restarts && k.target == aNode && !k.unsafe && slices.Contains(k.on, n.keeping) {
				fits = append(fits, k)
			}
		}
		f := planned{kind: fits[t.rng.IntN(len(fits))], node: i, client: -1, length: time.Duration(t.rng.Int64N(int64(time.Second))), amount: t.rng.IntN(1 << 20)}
		if err := t.perform(f); err != nil {
			return "", err
		}
		if err := t.votes(n); err != nil {
			return "", err
		}
		// It may have the lease from its file while its holder still has to connect: to go on
		// with the next node now would take two of them away at once.
		if lost, err = t.renewed(lease, n, fmt.Sprintf("node %d: %s", i, f.kind.name)); lost != "" || err != nil {
			return lost, err
		}
		if lost, err = stands(fmt.Sprintf("node %d: %s", i, f.kind.name)); lost != "" || err != nil {
			return lost, err
		}
	}
	if err := t.drainAll(); err != nil {
		return "", err
	}
	for _, i := range t.rng.Perm(len(t.nodes)) {
		// Every node has it now, and none has anything under way but its renewal.
		if lost, err = stands(fmt.Sprintf("before the flush of node %d", i)); lost != "" || err != nil {
			return lost, err
		}
		f := planned{kind: t.kindNamed("node: FLUSHALL"), node: i, client: -1}
		if err := t.perform(f); err != nil {
			return "", err
		}
		t.flushes++
		if lost, err = stands(fmt.Sprintf("after the flush of node %d", i)); lost != "" || err != nil {
			return lost, err
		}
	}
	return "", nil
}

func (t *torture) kindNamed(name string) *kind {
	for i := range t.kinds {
		if t.kinds[i].name == name {
			return &t.kinds[i]
		}
	}
	panic("no kind of fault is named " + name)
}

// stands waits until lease is on every node, repaired where it had been forgotten, and
// says if it is over instead.
func (t *torture) stands(lease history.Lease, after string) (lost string, err error) {
	owner := fmt.Sprintf("client-%d.%d/", lease.Client, lease.Run)
	where := make([]string, len(t.nodes))
	err = t.until("repair", func() (bool, error) {
		if now, ok := t.ledger.holding(rollingKey); !ok || now.Token != lease.Token {
			lost = after
			return true, nil
		}
		everywhere := true
		for i, n := range t.nodes {
			if where[i], err = n.redis.Try("GET", "redlock:"+rollingKey); err != nil {
				return false, fmt.Errorf("node %d: %w", i, err)
			}
			everywhere = everywhere && strings.HasPrefix(where[i], owner)
		}
		return everywhere, nil
	})
	if err != nil && t.ctx.Err() == nil && lost == "" {
		for i, n := range t.nodes {
			count, _ := n.redis.Try("HMGET", redlock.FencePrefix+"{redlock:"+rollingKey+"}redlock:"+rollingKey, "count", "run")
			where[i] += " count " + strings.ReplaceAll(count, "\n", " of run ")
		}
		return fmt.Sprintf("%s: %v; the nodes have %q", after, err, where), nil
	}
	return lost, err
}

// renewed waits until the lease is renewed on a node, and says if it is over instead.
func (t *torture) renewed(lease history.Lease, n *node, after string) (lost string, err error) {
	last := 0
	err = t.until("renewal", func() (bool, error) {
		if now, ok := t.ledger.holding(rollingKey); !ok || now.Token != lease.Token {
			lost = after
			return true, nil
		}
		text, err := n.redis.Try("PTTL", "redlock:"+rollingKey)
		if err != nil {
			return false, err
		}
		left, err := strconv.Atoi(text)
		before := last
		last = left
		return before > 0 && left > before, err
	})
	if err != nil && t.ctx.Err() == nil && lost == "" {
		return fmt.Sprintf("%s: %v", after, err), nil
	}
	return lost, err
}

// drainAll returns when nobody holds any of the contended keys.
func (t *torture) drainAll() error {
	for _, p := range t.clients {
		if l := p.now(); l != nil {
			select {
			case <-l.idle: // of an earlier drain
			default:
			}
		}
	}
	t.tellAll(orderDrain)
	for _, p := range t.clients {
		if err := t.within("client is idle", p.now().idle); err != nil {
			return fmt.Errorf("%w: %w", err, p.alive())
		}
	}
	t.sleep(maxTTL) // for those that nobody released
	return nil
}
