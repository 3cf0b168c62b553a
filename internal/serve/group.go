package serve

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// group is a key with the names in the store that belong to it: its own, its further
// slots (lock.Semaphore), and the places of its readers (lock/rwlock).
type group struct {
	Key     string
	Own     *Lock // the key itself, which is slot 1, or the gate; nil: it is free
	Slots   []Lock
	Readers []Lock
}

// groupKey is the key that a name in the store belongs to.
func groupKey(name string) string {
	if key, ok := rwlock.ReaderOf(name); ok {
		return key
	}
	key, _ := lock.SlotOf(name)
	return key
}

// groupsOf are the groups of locks, by key.
func groupsOf(locks []Lock) []group {
	var groups []group
	at := map[string]int{}
	for i, l := range locks {
		key, slot := lock.SlotOf(l.Name())
		j, ok := at[key]
		if !ok {
			j = len(groups)
			at[key] = j
			groups = append(groups, group{Key: key})
		}
		switch g := &groups[j]; {
		case l.ReaderOf != "":
			g.Readers = append(g.Readers, l)
		case slot > 1:
			g.Slots = append(g.Slots, l)
		default:
			g.Own = &locks[i]
		}
	}
	for _, g := range groups {
		slices.SortFunc(g.Slots, bySlot)
		slices.SortFunc(g.Readers, bySlot)
	}
	slices.SortFunc(groups, func(a, b group) int { return cmp.Compare(a.Key, b.Key) })
	return groups
}

func bySlot(a, b Lock) int {
	_, x := lock.SlotOf(a.Key)
	_, y := lock.SlotOf(b.Key)
	return x - y
}

// kind is how the key is held, "" if by one holder as usual.
func (g group) kind() string {
	switch {
	case g.Own != nil && g.Own.Writer:
		return "writer"
	case len(g.Readers) > 0 && g.Own != nil:
		return plural(len(g.Readers), "reader") + ", 1 at the gate"
	case len(g.Readers) > 0:
		return plural(len(g.Readers), "reader")
	case g.Own != nil && g.Own.AtGate:
		return "at the gate"
	case len(g.Slots) > 0:
		return plural(len(g.holds()), "slot")
	}
	return ""
}

// holds are the locks of which each has a holder of its own.
func (g group) holds() []Lock {
	var all []Lock
	if g.Own != nil {
		all = append(all, *g.Own)
	}
	return append(append(all, g.Slots...), g.Readers...)
}

// role names a hold among those of its group, "" if it is the only one.
func (g group) role(l Lock) string {
	_, slot := lock.SlotOf(l.Key)
	switch {
	case l.Writer:
		return "writer"
	case l.ReaderOf != "":
		return fmt.Sprintf("reader, place %d", slot)
	case l.AtGate || len(g.Readers) > 0:
		return "at the gate"
	case len(g.Slots) > 0:
		return fmt.Sprintf("slot %d", slot)
	}
	return ""
}

// waiting is how many wait for any of the group; ok is false if the store can't tell.
func (g group) waiting() (n int, ok bool) {
	for _, l := range g.holds() {
		n += l.Waiting
		ok = ok || l.Queues
	}
	return n, ok
}

// state is that of the hold that is not plainly held, "" if there is none.
func (g group) state() string {
	for _, l := range g.holds() {
		if !l.Plain() {
			return string(l.State())
		}
	}
	return ""
}

// asked is who has asked a holder to resign.
func (g group) asked() string {
	for _, l := range g.holds() {
		if l.ResignBy != "" {
			return l.ResignBy
		}
	}
	return ""
}

// last is the hold that has the most time left, which is the group's.
func (g group) last(now time.Time) Lock {
	return slices.MaxFunc(g.holds(), func(a, b Lock) int {
		x, y := a.left(now), b.left(now)
		if x < 0 || y < 0 {
			return -cmp.Compare(x, y)
		}
		return cmp.Compare(x, y)
	})
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
