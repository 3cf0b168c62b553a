package redlock

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/script"
)

// State is how a key stands on all nodes together.
type State string

const (
	StateFree State = "free" // no node has a value
	StateHeld State = "held" // a quorum has one value
	// StateForeign: the value that most nodes have is not lockkeeper's. With a quorum it
	// is a holder as any other; with fewer it is in the way there until it ends, if it
	// ever does.
	StateForeign State = "foreign"
	// StateSplit: nodes have several values, none of which has a quorum. Attempts that
	// met look like this for a moment.
	StateSplit State = "split"
	// StateOrphaned: fewer nodes than a quorum have a value, and no other has one. It is
	// left over, or an attempt under way, and ends with its ttl.
	StateOrphaned State = "orphaned"
	// StateUnknown: too few nodes answered to tell.
	StateUnknown State = "unknown"
)

// View is what each node shows of one key, at one moment.
type View struct {
	lock.Info // of the holder, if a quorum has one value; else only Key is set
	State     State
	Quorum    int // how many nodes must agree
	Nodes     []NodeView
	// Waiters names the processes whose requests stand in the nodes' queues, in the order
	// of their positions as most nodes have it, 100 at most. One that died may stand there
	// until the lock is passed on.
	Waiters []string
}

// Votes is how many nodes have the value that most nodes have.
func (v View) Votes() int {
	n := 0
	for _, node := range v.Nodes {
		if node.Term == 1 {
			n++
		}
	}
	return n
}

// NodeView is what one node shows of a key.
type NodeView struct {
	Node string // address, without credentials
	Err  error  // why it could not be asked; then the rest is zero
	// Term numbers the values in the View: the same number is the same value. 1 is
	// what most nodes have, 0 is no value.
	Term    int
	Holder  string        // readable name
	Foreign bool          // the value is not lockkeeper's, and Holder says so
	TTL     time.Duration // until the node frees it unless renewed; -1 means never
	Count   uint64        // the fence counter; 0: never counted

	value *string // a pointer, so that printing a NodeView shows no value
}

const mostWaiters = 100

// View reports what each node shows of key. Nodes that can't be asked are part of the
// answer.
func (l *Locker) View(ctx context.Context, key string) (View, error) {
	v, err := l.view(ctx, key, nil)
	if err != nil {
		return View{}, fmt.Errorf("redlock: view %q: %w", key, err)
	}
	return v, nil
}

func (l *Locker) view(ctx context.Context, key string, skip unlisted) (View, error) {
	if err := lock.Check(key, lock.MinTTL); err != nil {
		return View{}, err
	}
	k, err := l.keysOf(key)
	if err != nil {
		return View{}, err
	}
	readings, err := l.read(ctx, k, mostWaiters, skip)
	switch {
	case err != nil:
		return View{}, err
	case ctx.Err() != nil:
		return View{}, ended(ctx)
	}
	v := View{Info: lock.Info{Key: key}, Quorum: l.opts.Quorum}
	var most string
	if v.State, most = judge(readings, l.opts.Quorum); v.State != StateUnknown && votes(readings, most) >= l.opts.Quorum {
		v.Info = l.describe(key, most, readings)
	}
	v.Waiters = waitersOf(readings, v.Holder)
	v.Waiting = len(v.Waiters)
	terms := map[string]int{most: 1}
	for i, s := range readings {
		n := NodeView{Node: l.nodes[i].Name, Err: s.err, Count: s.Count}
		if s.err == nil && s.Held {
			if terms[s.Value] == 0 {
				terms[s.Value] = len(terms) + 1
			}
			n.value, n.Term, n.TTL = &s.Value, terms[s.Value], s.Left
			n.Holder = holderName(s.Value)
			n.Foreign = n.Holder == foreign
		}
		v.Nodes = append(v.Nodes, n)
	}
	return v, nil
}

// Views yields a View of each key that starts with prefix and has a value on some
// node, in the order of names: unlike List, also of keys without a holder. A node that
// can't be listed is passed over as long as a quorum can; what stands on it alone is missed.
func (l *Locker) Views(ctx context.Context, prefix string) iter.Seq2[View, error] {
	return func(yield func(View, error) bool) {
		names, skip, err := l.names(ctx, prefix)
		for _, name := range names {
			var v View
			if v, err = l.view(ctx, name, skip); err != nil {
				break
			}
			if v.State != StateFree && !yield(v, nil) {
				return
			}
		}
		if err != nil {
			yield(View{}, fmt.Errorf("redlock: list %q: %w", prefix, err))
		}
	}
}

// votes counts the nodes that have value.
func votes(readings []nodeReading, value string) int {
	n := 0
	for _, s := range readings {
		if s.err == nil && s.Held && s.Value == value {
			n++
		}
	}
	return n
}

// judge reports how a key stands, and the value that most nodes have.
func judge(readings []nodeReading, quorum int) (State, string) {
	var most string
	unknown, held, different := 0, 0, false
	for _, s := range readings {
		switch {
		case s.err != nil:
			unknown++
		case s.Held:
			if held++; held == 1 || votes(readings, s.Value) > votes(readings, most) {
				most = s.Value
			}
		}
	}
	for _, s := range readings {
		different = different || s.err == nil && s.Held && s.Value != most
	}
	n := votes(readings, most)
	switch {
	case n < quorum && n+unknown >= quorum:
		return StateUnknown, most
	case held == 0:
		return StateFree, ""
	case n < quorum && different:
		return StateSplit, most
	case holderName(most) == foreign:
		return StateForeign, most
	case n < quorum:
		return StateOrphaned, most
	}
	return StateHeld, most
}

// waitersOf merges the nodes' queues: the waiter that is further ahead on average comes
// first. One that a node does not have counts there as behind all others.
//
// The holder's request left the queue of each node that granted it the lock. A node that
// did not grant it may still have the request. So an entry of the holder's name counts only
// if most of the nodes that answer have it: then it is another waiter of the holder's process.
func waitersOf(readings []nodeReading, holder string) []string {
	ranks, on, names := map[string]int{}, map[string]int{}, map[string]string{}
	var ids []string
	answered := 0
	for _, s := range readings {
		if s.err == nil {
			answered++
		}
		for _, w := range s.Waiters {
			if on[w.ID]++; on[w.ID] == 1 {
				ids = append(ids, w.ID)
				names[w.ID] = holderName(w.Value)
			}
		}
	}
	ids = slices.DeleteFunc(ids, func(id string) bool {
		return holder != "" && names[id] == holder && 2*on[id] <= answered
	})
	for _, id := range ids {
		ranks[id] = 0
	}
	for _, s := range readings {
		for id := range ranks {
			if at := slices.IndexFunc(s.Waiters, func(w script.Waiter) bool { return w.ID == id }); at >= 0 {
				ranks[id] += at
			} else {
				ranks[id] += len(s.Waiters)
			}
		}
	}
	slices.SortStableFunc(ids, func(a, b string) int { return cmp.Compare(ranks[a], ranks[b]) })
	for i, id := range ids {
		ids[i] = names[id]
	}
	return ids
}
