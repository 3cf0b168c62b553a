package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func (a *app) showCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show KEY",
		Short: "Show who holds a lock, what each node has of it, and who waits",
		Long: `Show tells who holds a lock, with which token, and for how long without renewal. Of a
quorum of Redis nodes it also shows what each node has, its fence count, the processes
that wait (one that died may stand there until its turn), and one of these states:

` + statesHelp + `
Of a key that is held with run --slots it shows who has which slot. Slot 1 is the key
itself; lockkeeper show "KEY;slot=2" tells as much of another.
A store of files also tells since when it is held; Redis does not know that.

Exit status 0 also if it is free.`,
		Example: `  lockkeeper show pricing-oracle-keeper
  lockkeeper show pricing-oracle-keeper --output json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			return a.withAnyway(cmd.Context(), func(ctx context.Context, l lock.Locker) error {
				k, err := lookAt(ctx, l, args[0])
				if err != nil {
					return err
				}
				k.withSlots(ctx, l)
				if err := a.printLook(k); err != nil {
					return err
				}
				return k.unavailable()
			})
		},
	}
	a.outputFlag(c)
	return c
}

// unavailable is the error where too few nodes answered to tell.
func (k look) unavailable() error {
	if k.view == nil || k.view.State != redlock.StateUnknown {
		return nil
	}
	var why []string
	for _, n := range k.unasked() {
		why = append(why, fmt.Sprintf("node %s: %s", n.Node, oneLine(n.Err)))
	}
	return fmt.Errorf("%w: %d of %d nodes answered, too few to tell who holds %q: %s", lock.ErrUnavailable, len(k.view.Nodes)-len(why), len(k.view.Nodes), k.Key, strings.Join(why, "; "))
}

// untilText is the time left of what may be renewed; what never ends need not be.
func untilText(left time.Duration) string {
	if left < 0 {
		return leftText(left)
	}
	return leftText(left) + " unless renewed"
}

func (a *app) printLook(k look) error {
	if a.output == "json" {
		return a.printJSON(k.report())
	}
	var b strings.Builder
	if err := a.writeLook(&b, k); err != nil {
		return err
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err
}

func (a *app) writeLook(b *strings.Builder, k look) error {
	if err := a.writeSlots(b, k); err != nil {
		return err
	}
	unasked := k.unasked()
	if k.free() {
		what := "is free"
		switch {
		case len(k.slots) > 0:
			what = "itself, slot 1, is free"
		case k.slotsErr != nil:
			what = "is free, but whether it is held in slots (run --slots) is not known: " + printable(oneLine(k.slotsErr))
		}
		fmt.Fprintf(b, "%s %s\n", printable(k.Key), what)
		if k.view != nil && len(k.view.Waiters) > 0 {
			fmt.Fprintf(b, "waiting  %s\n", printable(strings.Join(k.view.Waiters, ", ")))
		}
		if len(unasked) == 0 {
			return nil
		}
	} else {
		var t table
		t.add("key", k.Key)
		if k.view != nil {
			t.add("state", k.story())
		}
		if k.Holder != "" {
			t.add("holder", k.Holder)
			token := tokenText(k.Token)
			if k.Token == 0 && k.view != nil && k.state() == string(redlock.StateHeld) {
				token += " (too few of the nodes that answer have counted the same)"
			}
			t.add("token", token)
			if k.Held > 0 {
				// The clock on the wall is for people: the store counted the time.
				t.add("since", fmt.Sprintf("%s (%s ago)", time.Now().Add(-k.Held).Format("2006-01-02 15:04:05"), short(k.Held)))
			}
			t.add("left", untilText(k.TTL))
		}
		if k.view != nil && len(k.view.Waiters) > 0 {
			t.add("waiting", strings.Join(k.view.Waiters, ", "))
		}
		if err := t.print(a, b); err != nil {
			return err
		}
	}
	if k.view == nil {
		return nil
	}
	b.WriteByte('\n')
	if err := k.nodesTable().print(a, b); err != nil {
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
