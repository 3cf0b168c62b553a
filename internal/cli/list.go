package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/lock"
)

// openTimeout bounds connecting for commands that ask once.
const openTimeout = 5 * time.Second

// unknown stands in a table for what a store can't say.
const unknown = "-"

func tokenText(token uint64) string {
	if token == 0 {
		return "unknown"
	}
	return strconv.FormatUint(token, 10)
}

func leftText(left time.Duration) string {
	if left < 0 {
		return "for ever"
	}
	return short(left)
}

// heldText is for how long a key has been held.
func heldText(held time.Duration) string {
	if held <= 0 {
		return unknown
	}
	return longText(held)
}

// longText is a duration that may be long, as people read it.
func longText(d time.Duration) string {
	const day = 24 * time.Hour
	if d < day {
		return short(d)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// waitingText is how many wait for a key.
func waitingText(k inspect.Reading) string {
	if !k.Queues {
		return unknown
	}
	return strconv.Itoa(k.Waiting)
}

// readingToken is the token of a key's hold. A reader's is not that of its place.
func readingToken(k inspect.Reading) string {
	if k.Holder == "" || k.ReaderOf != "" {
		return unknown
	}
	return tokenText(k.Token)
}

// with opens the store for one question.
func (a *app) with(ctx context.Context, fn func(ctx context.Context, l lock.Locker) error) error {
	return a.opened(ctx, store.open, fn)
}

// withAnyway is with, also for a store that can't decide.
func (a *app) withAnyway(ctx context.Context, fn func(ctx context.Context, l lock.Locker) error) error {
	return a.opened(ctx, func(s store, ctx context.Context) (lock.Locker, error) {
		a.sayDefault(s)
		return s.openAnyway(ctx)
	}, fn)
}

func (a *app) opened(ctx context.Context, open func(store, context.Context) (lock.Locker, error), fn func(ctx context.Context, l lock.Locker) error) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	s, err := a.store()
	if err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	l, err := open(s, opening)
	cancel()
	if err == nil {
		defer closeLocker(l)
		err = fn(ctx, l)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func inspectorOf(l lock.Locker) (lock.Inspector, error) {
	i, ok := lock.As[lock.Inspector](l)
	if !ok {
		return nil, fmt.Errorf("this store can't tell who holds what: %w", errors.ErrUnsupported)
	}
	return i, nil
}

func optional(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (a *app) listCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List the locks that are held",
		Long: `List shows the locks that are held, with how much time is left unless they are
renewed, for how long they have been held, and how many wait in the store's
queue; a - is what the store can't tell (files alone know since when a lock is
held). On a quorum of Redis nodes it also shows the keys that are held by
nobody although a node has a value. These have a STATE:

` + statesHelp + `
What run --slots holds is a key a slot: slot 1 is the key itself, slot 3 of
crawl is "crawl;slot=3". Where there are such, they have a SLOT. A key with
readers and writers (run --shared and --exclusive) is shown once for its writer,
or for each reader: AS says which, or that the holder is at the gate, which
readers pass one at a time and a writer holds while it waits for the readers
that are in. Lockkeeper show KEY shows more.`,
		Example: `  lockkeeper list
  lockkeeper list tenant: --output json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			return a.withAnyway(cmd.Context(), func(ctx context.Context, l lock.Locker) error {
				// What could be read is shown in any case.
				prefix := optional(args)
				all, err := inspect.Keys(ctx, l, prefix)
				return errors.Join(a.printLocks(inspect.Fold(all, prefix), prefix, err == nil), err)
			})
		},
	}
	a.outputFlag(c)
	return c
}

// noneHeld says that no key with that prefix is held. Others may be.
func noneHeld(prefix string) string {
	if prefix == "" {
		return "no lock is held"
	}
	return "no key that is held begins with " + printable(prefix)
}

func (a *app) printLocks(all []inspect.Reading, prefix string, complete bool) error {
	if a.output == "json" {
		reports := []inspect.KeyJSON{}
		for _, k := range all {
			reports = append(reports, k.JSON())
		}
		return a.printJSON(reports)
	}
	if len(all) == 0 {
		if !complete {
			return nil
		}
		_, err := fmt.Fprintln(a.out, noneHeld(prefix))
		return err
	}
	all = slices.SortedFunc(slices.Values(all), inspect.BySlot)
	t := locksTable(all)
	return t.print(a, a.out)
}

// locksTable has a row a key, and columns for what some of them have alone.
func locksTable(all []inspect.Reading) *table {
	plain := !slices.ContainsFunc(all, func(k inspect.Reading) bool { return !k.Plain() })
	named := slices.ContainsFunc(all, func(k inspect.Reading) bool { return asText(k) != unknown })
	slots := slotTexts(all)
	t := &table{}
	for i, k := range append([]inspect.Reading{{}}, all...) {
		row := []string{"KEY", "HOLDER", "TOKEN", "LEFT", "HELD FOR", "WAITING"}
		slot, as, state := "SLOT", "AS", "STATE"
		if i > 0 {
			row = []string{k.Name(), k.Holders(), readingToken(k), leftText(k.Left()), heldText(k.Held), waitingText(k)}
			as, state = asText(k), string(k.State())
			if slots != nil {
				slot = slots[i-1]
			}
		}
		if slots != nil {
			row = append(row, slot)
		}
		if named {
			row = append(row, as)
		}
		if !plain {
			row = append(row, state)
		}
		t.add(row...)
	}
	return t
}

// asText is what a key is held as.
func asText(k inspect.Reading) string {
	as := map[string]string{
		"": unknown, inspect.AsWriter: "writer", inspect.AsReader: "reader", inspect.AsGate: "at the gate", inspect.AsRequest: "request to resign",
	}[k.As()]
	switch {
	case k.ResignBy == "":
		return as
	case as == unknown:
		return "asked to resign"
	}
	return as + ", asked to resign"
}

// slotTexts are the column SLOT of a list of keys, or nil if none is a further slot.
func slotTexts(all []inspect.Reading) []string {
	several := map[string]bool{}
	slotOf := func(k inspect.Reading) (string, int) {
		if k.ReaderOf != "" {
			return "", 1
		}
		return lock.SlotOf(k.Key)
	}
	for _, k := range all {
		if key, slot := slotOf(k); slot > 1 {
			several[key] = true
		}
	}
	if len(several) == 0 {
		return nil
	}
	var texts []string
	for _, k := range all {
		text := "-"
		if key, slot := slotOf(k); several[key] {
			text = strconv.Itoa(slot)
		}
		texts = append(texts, text)
	}
	return texts
}
