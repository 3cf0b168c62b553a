package serve

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/plain"
	"github.com/tonsurance/lockkeeper/redlock"
)

// lockModel is all about one key.
type lockModel struct {
	*frame
	Key   string
	group *group // nil: nothing of it is held
	// Doubt is why it is not known whether the key is held, where it is not shown as such.
	Doubt string
}

func (f *frame) lockModel(key string) lockModel {
	m := lockModel{frame: f, Key: key}
	all := f.groups
	i, ok := slices.BinarySearchFunc(all, key, func(g group, key string) int { return cmp.Compare(g.Key, key) })
	switch {
	case ok:
		m.group = &all[i]
	case f.err != nil && !f.read:
		m.Doubt = "the store has not answered yet"
	case !f.read:
		m.Doubt = "the store is being asked"
	case f.err != nil:
		m.Doubt = "it was free at the last answer, " + clock(f.answered)
	case f.partial != nil:
		m.Doubt = "some locks can't be read"
	}
	return m
}

// Holds are who has it: one, or several in slots or as readers.
func (m lockModel) Holds() (all []holdModel) {
	if m.group == nil {
		return nil
	}
	for _, l := range m.group.holds() {
		all = append(all, holdModel{Lock: l, Role: m.group.role(l), HeldFor: m.heldFor(l), Bar: m.bar(l)})
	}
	return all
}

func (m lockModel) Kind() string {
	if m.group == nil {
		return ""
	}
	return m.group.kind()
}

// holdModel is one of the holds of a key.
type holdModel struct {
	Lock
	Role    string
	HeldFor heldFor
	Bar     bar
}

// Since is when the hold began, on this machine's clock, for people.
func (h holdModel) Since() time.Time { return h.Read.Add(-h.Info.Held) }

// Waiters are the names of who waits, first come first, as far as the store reports them.
func (h holdModel) Waiters() []string {
	if h.View == nil {
		return nil
	}
	return h.View.Waiters
}

func (h holdModel) Token() uint64 { return h.token() }

// Several reports whether nodes have different values.
func (h holdModel) Several() bool {
	return slices.ContainsFunc(h.View.Nodes, func(n redlock.NodeView) bool { return n.Term > 1 })
}

// Resigns reports whether one holder has the key, whom others can ask to resign.
func (m lockModel) Resigns() bool {
	return m.group != nil && m.group.Own != nil && m.group.Own.Holder != ""
}

// Shell is the key as a shell takes it, "" if it can't be shown as such.
func (m lockModel) Shell() string {
	if plain.Printable(m.Key) != m.Key {
		return ""
	}
	return "'" + strings.ReplaceAll(m.Key, "'", `'\''`) + "'"
}
