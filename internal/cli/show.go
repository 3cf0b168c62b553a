package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func (a *app) showCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show KEY",
		Short: "Show who holds a lock, what each node has of it, and who waits",
		Long: `Show reports who holds a lock, with which token, and for how long without
renewal. Of a quorum of Redis nodes it also shows what each node has, its fence
count, the processes that wait (one that died may stand there until it is
first), and one of these states:

` + statesHelp + `
Of a key that is held with run --slots it shows who has which slot. Slot 1 is
the key itself; lockkeeper show "KEY;slot=2" shows as much of another. Of a key
with readers and writers (run --shared and --exclusive) it shows the writer, or
each reader; a holder that is at the gate comes in, or is a writer that waits
for the readers that are in. If the holder was asked to resign (lockkeeper
resign), it shows by whom. A store of files also reports since when it is held;
the others do not know that.

Exit status 0 also if it is free.`,
		Example: `  lockkeeper show pricing-oracle-keeper
  lockkeeper show pricing-oracle-keeper --output json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			return a.withAnyway(cmd.Context(), func(ctx context.Context, l lock.Locker) error {
				k, err := inspect.Key(ctx, l, args[0])
				if err != nil {
					return err
				}
				k.Group(ctx, l)
				if err := a.printReading(k); err != nil {
					return err
				}
				return k.Unavailable()
			})
		},
	}
	a.outputFlag(c)
	return c
}

// untilText is the time left of what may be renewed; what never ends need not be.
func untilText(left time.Duration) string {
	if left < 0 {
		return leftText(left)
	}
	return leftText(left) + " unless renewed"
}

func (a *app) printReading(k inspect.Reading) error {
	if a.output == "json" {
		return a.printJSON(k.JSON())
	}
	var b strings.Builder
	if err := a.writeReading(&b, k); err != nil {
		return err
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err
}

func (a *app) writeReading(b *strings.Builder, k inspect.Reading) error {
	if err := a.writeSlots(b, k); err != nil {
		return err
	}
	if err := a.writeReaders(b, k); err != nil {
		return err
	}
	unasked := k.Unasked()
	if k.Free() {
		a.writeFree(b, k)
		if len(unasked) == 0 {
			return nil
		}
	} else if err := a.writeHold(b, k); err != nil {
		return err
	}
	if k.View == nil {
		return nil
	}
	b.WriteByte('\n')
	if err := nodesTable(k).print(a, b); err != nil {
		return err
	}
	for i, n := range unasked {
		if i == 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(b, "%s: %s\n", printable(n.Node), printable(oneLine(n.Err)))
	}
	return nil
}

// writeFree is for a key that nobody has itself.
func (a *app) writeFree(b *strings.Builder, k inspect.Reading) {
	what := "is free"
	switch {
	case k.Part != nil:
		what += partText(k)
	case len(k.Readers) > 0:
		what = "has no writer, and nobody is at its gate"
	case len(k.Slots) > 0:
		what = "itself, slot 1, is free"
	case k.GroupErr != nil:
		what = "is free, but whether it is held in slots (run --slots) or by readers (run --shared) is not known: " + printable(oneLine(k.GroupErr))
	}
	fmt.Fprintf(b, "%s %s\n", printable(k.Key), what)
	if waiting := waitersText(k); waiting != "" {
		fmt.Fprintf(b, "waiting  %s\n", printable(waiting))
	}
}

// partText says of a free name that is like that of a part what it is, and how its key stands.
func partText(k inspect.Reading) string {
	p := k.Part
	name, other := k.StandsFor()
	of := " of " + printable(p.Of)
	text := ": it is " + p.What + of
	switch {
	case other && name == "":
		text = fmt.Sprintf(", and no part%s has this name: want 1 to %d, of which the first is %s", of, p.Most, printable(p.First))
	case other:
		text = ", but no lock has this name: " + p.What + of + " is " + printable(name)
	}
	switch m := k.Meant; {
	case m == nil:
		return text + "; whether that is held is not known: " + printable(oneLine(k.GroupErr))
	case m.Key == p.Of && name != m.Key:
		return text + "\n" + printable(m.Key) + " " + standing(*m)
	default:
		return text + ", which " + standing(*m)
	}
}

// standing is how a key stands, in a few words, and where to see more.
func standing(k inspect.Reading) string {
	more := ": lockkeeper show " + quoted(k.Key)
	switch {
	case !k.Free() && k.Holder != "":
		return "is held by " + printable(k.Holder) + more
	case !k.Free():
		return "is " + string(k.State()) + more
	case len(k.Readers) > 0:
		return "is held by readers" + more
	case len(k.Slots) > 0:
		return "is held in slots" + more
	case k.GroupErr != nil:
		return "itself is free; whether it is held in slots or by readers is not known: " + printable(oneLine(k.GroupErr))
	}
	return "is free, too"
}

// writeHold is for a key that is not free.
func (a *app) writeHold(b *strings.Builder, k inspect.Reading) error {
	var t table
	t.add("key", k.Key)
	if p := k.Part; p != nil {
		if _, other := k.StandsFor(); other {
			t.add("part", fmt.Sprintf("none: a lock of its own, which is not %s of %s", p.What, p.Of))
		} else {
			t.add("part", p.What+" of "+p.Of)
		}
	}
	if k.View != nil {
		t.add("state", stateText(k))
	}
	if k.Holder != "" {
		t.add("holder", k.Holder)
		switch {
		case k.Writer:
			t.add("as", "writer")
		case k.AtGate:
			t.add("as", "at the gate: it comes in, or waits for the readers that are in")
		}
		token := tokenText(k.Token)
		if k.Token == 0 && k.View != nil && k.Plain() {
			token += " (too few of the nodes that answer have counted the same)"
		}
		t.add("token", token)
		if k.Held > 0 {
			// The clock on the wall is for people: the store counted the time.
			t.add("since", fmt.Sprintf("%s (%s ago)", time.Now().Add(-k.Held).Format("2006-01-02 15:04:05"), longText(k.Held)))
		}
		t.add("left", untilText(k.TTL))
		if k.ResignBy != "" {
			t.add("asked to resign", "by "+k.ResignBy)
		}
	}
	if waiting := waitersText(k); waiting != "" {
		t.add("waiting", waiting)
	}
	return t.print(a, b)
}

// waitersText names who waits in the store's queue, or says how many; "" is nobody, or not
// known.
func waitersText(k inspect.Reading) string {
	switch {
	case k.View != nil:
		return strings.Join(k.View.Waiters, ", ")
	case k.Queues && k.Waiting > 0:
		return strconv.Itoa(k.Waiting)
	}
	return ""
}

// writeSlots reports who has which slot.
func (a *app) writeSlots(b *strings.Builder, k inspect.Reading) error {
	if len(k.Slots) == 0 {
		return nil
	}
	all := k.Slots
	if !k.Free() {
		all = append([]inspect.Reading{k}, all...) // the key itself is the first
	}
	fmt.Fprintf(b, "%s is held in slots (run --slots), %d of them now; slot 1 is the key itself\n\n", printable(k.Key), len(all))
	return a.writePlaces(b, "SLOT", all)
}

// writeReaders reports who reads.
func (a *app) writeReaders(b *strings.Builder, k inspect.Reading) error {
	if len(k.Readers) == 0 {
		return nil
	}
	fmt.Fprintf(b, "%s has readers (run --shared), %d of them now\n\n", printable(k.Key), len(k.Readers))
	return a.writePlaces(b, "PLACE", k.Readers)
}

func (a *app) writePlaces(b *strings.Builder, number string, all []inspect.Reading) error {
	t := table{}
	t.add(number, "KEY", "HOLDER", "TOKEN", "LEFT", "HELD FOR", "STATE")
	for _, s := range all {
		_, slot := lock.SlotOf(s.Key)
		token := unknown
		if s.Holder != "" {
			token = tokenText(s.Token) // also a place's own: its key is named
		}
		t.add(strconv.Itoa(slot), s.Key, s.Holders(), token, leftText(s.Left()), heldText(s.Held), string(s.State()))
	}
	if err := t.print(a, b); err != nil {
		return err
	}
	b.WriteByte('\n')
	return nil
}

// nodesTable has a row a node. Where there are several values, a column shows which
// are the same.
func nodesTable(k inspect.Reading) *table {
	t := &table{}
	several := slices.ContainsFunc(k.View.Nodes, func(n redlock.NodeView) bool { return n.Term > 1 })
	for i, n := range append([]redlock.NodeView{{}}, k.View.Nodes...) {
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

func countText(n uint64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}

const statesHelp = `  held       a quorum of nodes has the holder's value
  foreign    the value is not lockkeeper's: another library's, or set by hand
  split      nodes have several values, none of them a quorum: attempts that
             met, for a moment; else what is left of some, which ends by itself
  orphaned   fewer nodes than a quorum have a value, and nobody holds the lock:
             left over, or an attempt under way; it ends by itself
  unknown    too few nodes answer to tell
`

// stateText is the state in words.
func stateText(k inspect.Reading) string {
	if k.View == nil {
		return string(k.State())
	}
	v := k.View
	on := fmt.Sprintf("on %d of %d nodes, %d needed", v.Votes(), len(v.Nodes), v.Quorum)
	end := ", and ends by itself"
	if k.Left() < 0 {
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
	return string(k.State())
}
