// Package inspect reads who holds what, and how the nodes are, from any store, and gives it
// the form that the command and its page show: JSON whose measures are numbers, with the
// unit in their names, and nothing that takes reading prose.
//
// It changes nothing in a store. What a store can't say is left out, and not shown as zero.
package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// Reading is what a store shows of one key at one moment: its holder and, of a quorum of
// Redis nodes, what each node has.
type Reading struct {
	lock.Info
	View   *redlock.View // nil: another store
	Queues bool          // the store queues who waits, so that Waiting is known
	At     time.Time     // when the store's answer was there

	// What the names of other keys say of this one: see Fold and Group.
	Writer   bool   // of a key with readers and writers (package rwlock): the holder is a writer
	AtGate   bool   // the same: the holder has the gate and not all places: it comes in
	ReaderOf string // this is a reader's place, of this key
	ResignOf string // this is a request to the holder of this key to resign
	ResignBy string // who has asked the holder to resign

	Slots    []Reading // further slots of the key that are not free, where Group was asked for them
	Readers  []Reading // places of its readers that are not free, the same
	GroupErr error     // why Slots and Readers may not be all, or Meant is not known
	Part     *Part     // what the name stands for, where Group was asked for it; nil: an ordinary lock
	Meant    *Reading  // where such a name is free: the lock that it may be taken for
}

// inspectorOf is the store's Inspector.
func inspectorOf(l lock.Locker) (lock.Inspector, error) {
	i, ok := lock.As[lock.Inspector](l)
	if !ok {
		return nil, fmt.Errorf("this store can't tell who holds what: %w", errors.ErrUnsupported)
	}
	return i, nil
}

// Key reads one key.
func Key(ctx context.Context, l lock.Locker, key string) (Reading, error) {
	if r, ok := lock.As[*redlock.Locker](l); ok {
		v, err := r.View(ctx, key)
		return viewed(v), err
	}
	i, err := inspectorOf(l)
	if err != nil {
		return Reading{}, err
	}
	info, err := i.Inspect(ctx, key)
	return Reading{Info: info, Queues: queues(l), At: time.Now()}, err
}

// Keys reads all keys that start with prefix and are not free, by name. With an error
// there may be some all the same. A store that shows nothing further for [Stall] ends it.
func Keys(ctx context.Context, l lock.Locker, prefix string) ([]Reading, error) {
	var all []Reading
	if r, ok := lock.As[*redlock.Locker](l); ok {
		for v, err := range r.Views(ctx, prefix) {
			if err != nil {
				return all, err
			}
			all = append(all, viewed(v))
		}
		return all, nil
	}
	i, err := inspectorOf(l)
	if err != nil {
		return nil, err
	}
	all, err = listed(ctx, i, prefix)
	for n := range all {
		all[n].Queues = queues(l)
	}
	return all, err
}

func viewed(v redlock.View) Reading {
	return Reading{Info: v.Info, View: &v, Queues: true, At: time.Now()}
}

func queues(l lock.Locker) bool {
	_, ok := lock.As[lock.Awaiter](l)
	return ok
}

// Stall is for how long a store may show no further lock before a listing ends.
const Stall = 10 * time.Second

// listed are the locks that start with prefix, by name. A store that hangs ends it with an
// outage: nobody is to wait for what does not come.
func listed(ctx context.Context, i lock.Inspector, prefix string) ([]Reading, error) {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(Stall, cancel)
	defer timer.Stop()
	var all []Reading
	for info, err := range i.List(asking, prefix) {
		if err != nil && asking.Err() != nil && ctx.Err() == nil {
			return all, fmt.Errorf("%w: no answer within %v", lock.ErrUnavailable, Stall)
		}
		if err != nil {
			return all, err
		}
		timer.Reset(Stall)
		all = append(all, Reading{Info: info, At: time.Now()})
	}
	slices.SortFunc(all, func(x, y Reading) int { return cmp.Compare(x.Key, y.Key) })
	return slices.CompactFunc(all, func(x, y Reading) bool { return x.Key == y.Key }), nil
}

// State is a word for how the key stands, one of redlock's for any store.
func (k Reading) State() redlock.State {
	switch {
	case k.View != nil:
		return k.View.State
	case k.Holder == "":
		return redlock.StateFree
	}
	return redlock.StateHeld
}

// Free reports whether nobody has the key itself.
func (k Reading) Free() bool { return k.State() == redlock.StateFree }

// Plain reports that it is held, and nothing more is to be said.
func (k Reading) Plain() bool { return k.State() == redlock.StateHeld }

// Holders names the holder, or else whose values stand on some nodes.
func (k Reading) Holders() string {
	if k.Holder != "" || k.View == nil {
		return k.Holder
	}
	var names []string
	for _, n := range k.View.Nodes {
		if n.Term > 0 && !slices.Contains(names, n.Holder) {
			names = append(names, n.Holder)
		}
	}
	return strings.Join(names, ", ")
}

// Left is until the holder's time is up, or else the last value's; -1: never.
func (k Reading) Left() time.Duration {
	if k.Holder != "" || k.View == nil {
		return k.TTL
	}
	var longest time.Duration
	for _, n := range k.View.Nodes {
		switch {
		case n.Term > 0 && n.TTL < 0:
			return -1
		case n.Term > 0:
			longest = max(longest, n.TTL)
		}
	}
	return longest
}

// Unasked are the nodes that could not be asked.
func (k Reading) Unasked() []redlock.NodeView {
	if k.View == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(k.View.Nodes), func(n redlock.NodeView) bool { return n.Err == nil })
}

// Unavailable is the error where too few nodes answered to tell who holds the key.
func (k Reading) Unavailable() error {
	if k.View == nil || k.View.State != redlock.StateUnknown {
		return nil
	}
	var why []string
	for _, n := range k.Unasked() {
		why = append(why, fmt.Sprintf("node %s: %s", n.Node, plain.OneLine(n.Err)))
	}
	return fmt.Errorf("%w: %d of %d nodes answered, too few to tell who holds %q: %s", lock.ErrUnavailable, len(k.View.Nodes)-len(why), len(k.View.Nodes), k.Key, strings.Join(why, "; "))
}
