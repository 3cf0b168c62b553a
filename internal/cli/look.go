package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// look is what a store shows of one key: its holder and, of a quorum of Redis nodes,
// what each node has.
type look struct {
	lock.Info
	view *redlock.View

	slots    []look // further slots of the key that are not free, where it was asked for them
	slotsErr error  // why they could not all be listed
}

// lookAt asks for one key.
func lookAt(ctx context.Context, l lock.Locker, key string) (look, error) {
	if r, ok := lock.As[*redlock.Locker](l); ok {
		v, err := r.View(ctx, key)
		return look{Info: v.Info, view: &v}, err
	}
	i, err := inspectorOf(l)
	if err != nil {
		return look{}, err
	}
	info, err := i.Inspect(ctx, key)
	return look{Info: info}, err
}

// looks asks for all keys that start with prefix and are not free, by name.
func looks(ctx context.Context, l lock.Locker, prefix string) ([]look, error) {
	var all []look
	if r, ok := lock.As[*redlock.Locker](l); ok {
		for v, err := range r.Views(ctx, prefix) {
			if err != nil {
				return all, err
			}
			all = append(all, look{Info: v.Info, view: &v})
		}
		return all, nil
	}
	i, err := inspectorOf(l)
	if err != nil {
		return nil, err
	}
	infos, err := held(ctx, i, prefix)
	for _, info := range infos {
		all = append(all, look{Info: info})
	}
	return all, err
}

const statesHelp = `  held       a quorum of nodes has the holder's value
  foreign    the value is not lockkeeper's: another library's, or set by hand
  split      nodes have several values, none of them a quorum: attempts that met, for
             a moment; else what is left of some, which ends by itself
  orphaned   fewer nodes than a quorum have a value, and nobody holds the lock: left
             over, or an attempt under way; it ends by itself
  unknown    too few nodes answer to tell
`

func (k look) state() string {
	switch {
	case k.view != nil:
		return string(k.view.State)
	case k.Holder == "":
		return string(redlock.StateFree)
	}
	return string(redlock.StateHeld)
}

// plain: held, and nothing more to say.
func (k look) plain() bool { return k.state() == string(redlock.StateHeld) }

// holders names the holder, or else whose values stand on some nodes.
func (k look) holders() string {
	if k.Holder != "" || k.view == nil {
		return k.Holder
	}
	var names []string
	for _, n := range k.view.Nodes {
		if n.Term > 0 && !slices.Contains(names, n.Holder) {
			names = append(names, n.Holder)
		}
	}
	return strings.Join(names, ", ")
}

// left is until the holder's time is up, or else the last value's.
func (k look) left() time.Duration {
	if k.Holder != "" || k.view == nil {
		return k.TTL
	}
	var longest time.Duration
	for _, n := range k.view.Nodes {
		switch {
		case n.Term > 0 && n.TTL < 0:
			return -1
		case n.Term > 0:
			longest = max(longest, n.TTL)
		}
	}
	return longest
}

func (k look) tokenText() string {
	if k.Holder == "" {
		return "-"
	}
	return tokenText(k.Token)
}

// story is the state in words.
func (k look) story() string {
	if k.view == nil {
		return k.state()
	}
	v := k.view
	on := fmt.Sprintf("on %d of %d nodes, %d needed", v.Votes(), len(v.Nodes), v.Quorum)
	end := ", and ends by itself"
	if k.left() < 0 {
		end = fmt.Sprintf(", and never ends: lockkeeper release %s --force removes it (make sure first that nobody works under it)", k.Key)
	}
	switch v.State {
	case redlock.StateHeld:
		return "held, " + on
	case redlock.StateForeign:
		if k.Holder != "" {
			return "held, but not by lockkeeper, " + on
		}
		return "foreign: nobody holds the lock; a value that is not lockkeeper's is " + on + end
	case redlock.StateSplit:
		return "split: nobody holds the lock; nodes have different values, the most frequent " + on + end
	case redlock.StateOrphaned:
		return "orphaned: nobody holds the lock; a value is " + on + end
	case redlock.StateUnknown:
		return "unknown: too few nodes answer to tell"
	}
	return k.state()
}

// unasked are the nodes that could not be asked.
func (k look) unasked() []redlock.NodeView {
	if k.view == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(k.view.Nodes), func(n redlock.NodeView) bool { return n.Err == nil })
}

// viewReport is what --output json prints of one node's part of a key.
type viewReport struct {
	Node    string `json:"node"`
	Error   string `json:"error,omitempty"`
	Holder  string `json:"holder,omitempty"`
	Term    int    `json:"term,omitempty"` // the same number is the same hold
	Foreign bool   `json:"foreign,omitempty"`
	LeftMS  *int64 `json:"left_ms,omitempty"`
	Count   string `json:"count,omitempty"`
}

func (k look) report() lockReport {
	r := lockReportOf(k.Info)
	if key, slot := lock.SlotOf(k.Key); slot > 1 {
		r.SlotOf, r.Slot = key, slot
	}
	if k.slotsErr != nil {
		r.SlotsError = oneLine(k.slotsErr)
	}
	for _, s := range k.slots {
		r.Slots = append(r.Slots, s.report())
	}
	if k.view == nil {
		return r
	}
	r.State, r.Votes, r.Quorum, r.Waiting = k.state(), k.view.Votes(), k.view.Quorum, k.view.Waiters
	for _, n := range k.view.Nodes {
		node := viewReport{Node: n.Node, Holder: n.Holder, Term: n.Term, Foreign: n.Foreign}
		if n.Err != nil {
			node.Error = oneLine(n.Err)
		}
		if n.Term > 0 && n.TTL >= 0 {
			ms := n.TTL.Milliseconds()
			node.LeftMS = &ms
		}
		if n.Count > 0 {
			node.Count = countText(n.Count)
		}
		r.Nodes = append(r.Nodes, node)
	}
	return r
}

// nodesTable has a row a node. Where there are several values, a column tells which
// are the same.
func (k look) nodesTable() *table {
	t := &table{}
	several := slices.ContainsFunc(k.view.Nodes, func(n redlock.NodeView) bool { return n.Term > 1 })
	for i, n := range append([]redlock.NodeView{{}}, k.view.Nodes...) {
		row := []string{"NODE", "HAS", "LEFT", "COUNT", "HOLD"}
		if i > 0 {
			row = []string{n.Node, "nothing", "-", countText(n.Count), "-"}
		}
		switch {
		case n.Err != nil:
			row[1], row[3] = "unknown", "-"
		case n.Term > 0:
			row[1], row[2], row[4] = n.Holder, leftText(n.TTL), string(rune('A'+(n.Term-1)%26))
		}
		if !several {
			row = row[:4]
		}
		t.add(row...)
	}
	return t
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func countText(n uint64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}
