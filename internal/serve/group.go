package serve

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
)

// readersMark ends the name of the semaphore of a key's readers: see lock/rwlock.
const readersMark = ";readers"

// group is a key with the names in the store that belong to it: its own, its further
// slots (lock.Semaphore), and the places of its readers (lock/rwlock).
type group struct {
	Key     string
	Own     *lockState // the key itself, which is slot 1, or the gate; nil: it is free
	Slots   []lockState
	Readers []lockState
}

// groupKey is the key that a name in the store belongs to.
func groupKey(name string) string {
	key, _ := lock.SlotOf(name)
	if base, ok := strings.CutSuffix(key, readersMark); ok && base != "" {
		return base
	}
	return key
}

// groupsOf are the groups of locks, by key.
func groupsOf(locks []lockState) []group {
	var groups []group
	at := map[string]int{}
	of := func(key string) *group {
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key] = i
			groups = append(groups, group{Key: key})
		}
		return &groups[i]
	}
	for i := range locks {
		g := of(groupKey(locks[i].Key))
		key, slot := lock.SlotOf(locks[i].Key)
		switch {
		case key != g.Key:
			g.Readers = append(g.Readers, locks[i])
		case slot > 1:
			g.Slots = append(g.Slots, locks[i])
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

func bySlot(a, b lockState) int {
	_, x := lock.SlotOf(a.Key)
	_, y := lock.SlotOf(b.Key)
	return x - y
}

// writer reports whether the key is held by a writer: it has the gate and all places of
// readers.
func (g group) writer() bool {
	return g.Own != nil && len(g.Readers) == rwlock.MaxReaders &&
		!slices.ContainsFunc(g.Readers, func(r lockState) bool { return r.Holder != g.Own.Holder })
}

// kind is how the key is held, "" if by one holder as usual.
func (g group) kind() string {
	switch {
	case g.writer():
		return "writer"
	case len(g.Readers) > 0 && g.Own != nil:
		return plural(len(g.Readers), "reader") + ", 1 at the gate"
	case len(g.Readers) > 0:
		return plural(len(g.Readers), "reader")
	case len(g.Slots) > 0:
		return plural(len(g.holds()), "slot")
	}
	return ""
}

// holds are the locks of which each has a holder of its own.
func (g group) holds() []lockState {
	var all []lockState
	if g.Own != nil {
		all = append(all, *g.Own)
	}
	if g.writer() {
		return all
	}
	return append(append(all, g.Slots...), g.Readers...)
}

// role names a hold among those of its group.
func (g group) role(l lockState) string {
	_, slot := lock.SlotOf(l.Key)
	switch {
	case g.writer():
		return "writer"
	case len(g.Readers) > 0 && l.Key == g.Key:
		return "at the gate"
	case len(g.Readers) > 0:
		return fmt.Sprintf("reader, place %d", slot)
	}
	return fmt.Sprintf("slot %d", slot)
}

// waiters are who waits for any of the group; ok is false if the store can't tell.
func (g group) waiters() (names []string, ok bool) {
	for _, l := range g.holds() {
		names = append(names, l.Waiters...)
		ok = ok || l.Queued
	}
	return names, ok
}

// state is that of the hold that is not plainly held, if there is one.
func (g group) state() string {
	for _, l := range g.holds() {
		if l.State != stateHeld {
			return l.State
		}
	}
	return stateHeld
}

const stateHeld = "held"

// last is the hold that has the most time left, which is the group's.
func (g group) last(now time.Time) lockState {
	return slices.MaxFunc(g.holds(), func(a, b lockState) int {
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
