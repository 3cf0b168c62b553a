package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/lock"
)

// openTimeout bounds connecting for commands that ask once.
const openTimeout = 5 * time.Second

// lockReport is what --output json prints of one key. Tokens are strings: JSON's
// numbers lose digits of large ones in some readers.
type lockReport struct {
	Key    string `json:"key"`
	Held   bool   `json:"held"`
	Holder string `json:"holder,omitempty"`
	Token  string `json:"token,omitempty"` // none: unknown
	LeftMS *int64 `json:"left_ms,omitempty"`
	HeldMS *int64 `json:"held_ms,omitempty"` // since when the hold began; none: the store can't tell

	SlotOf     string       `json:"slot_of,omitempty"` // of a further slot: the key of its semaphore
	Slot       int          `json:"slot,omitempty"`    // and its number, 2 or more
	Slots      []lockReport `json:"slots,omitempty"`   // of a key: its further slots that are not free
	SlotsError string       `json:"slots_error,omitempty"`

	// Of a quorum of Redis nodes only.
	State   string       `json:"state,omitempty"`
	Votes   int          `json:"votes,omitempty"`  // nodes that have the value that most have
	Quorum  int          `json:"quorum,omitempty"` // how many must
	Nodes   []viewReport `json:"nodes,omitempty"`
	Waiting []string     `json:"waiting,omitempty"`
}

func lockReportOf(i lock.Info) lockReport {
	r := lockReport{Key: i.Key, Held: i.Holder != "", Holder: i.Holder}
	if i.Token != 0 {
		r.Token = strconv.FormatUint(i.Token, 10)
	}
	if r.Held && i.TTL >= 0 {
		ms := i.TTL.Milliseconds()
		r.LeftMS = &ms
	}
	if r.Held && i.Held > 0 {
		ms := i.Held.Milliseconds()
		r.HeldMS = &ms
	}
	return r
}

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

// with opens the store for one question.
func (a *app) with(ctx context.Context, fn func(ctx context.Context, l lock.Locker) error) error {
	return a.opened(ctx, store.open, fn)
}

// withAnyway is with for what tells of a store that can't decide, too.
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

// stall is for how long a store may show no further lock before a listing ends.
const stall = 10 * time.Second

// held are the locks that start with prefix, by name. A store that hangs ends it with an
// outage: nobody is to wait for what does not come.
func held(ctx context.Context, i lock.Inspector, prefix string) ([]lock.Info, error) {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(stall, cancel)
	defer timer.Stop()
	var all []lock.Info
	for info, err := range i.List(asking, prefix) {
		if err != nil && asking.Err() != nil && ctx.Err() == nil {
			return all, fmt.Errorf("%w: no answer within %v", lock.ErrUnavailable, stall)
		}
		if err != nil {
			return all, err
		}
		timer.Reset(stall)
		all = append(all, info)
	}
	slices.SortFunc(all, func(x, y lock.Info) int { return cmp.Compare(x.Key, y.Key) })
	return slices.CompactFunc(all, func(x, y lock.Info) bool { return x.Key == y.Key }), nil
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
		Long: `List shows the locks that are held, and on a quorum of Redis nodes also the keys
that are held by nobody although a node has a value. These have a STATE:

` + statesHelp + `
What run --slots holds is a key a slot: slot 1 is the key itself, slot 3 of crawl is
"crawl;slot=3". Where there are such, they have a SLOT.
Lockkeeper show KEY tells more.`,
		Example: `  lockkeeper list
  lockkeeper list tenant: --output json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			return a.withAnyway(cmd.Context(), func(ctx context.Context, l lock.Locker) error {
				// What could be read is shown in any case.
				all, err := looks(ctx, l, optional(args))
				return errors.Join(a.printLocks(all, err == nil), err)
			})
		},
	}
	a.outputFlag(c)
	return c
}

func (a *app) printLocks(all []look, complete bool) error {
	if a.output == "json" {
		reports := []lockReport{}
		for _, k := range all {
			reports = append(reports, k.report())
		}
		return a.printJSON(reports)
	}
	if len(all) == 0 {
		if !complete {
			return nil
		}
		_, err := fmt.Fprintln(a.out, "no lock is held")
		return err
	}
	plain := !slices.ContainsFunc(all, func(k look) bool { return !k.plain() })
	all = slices.SortedFunc(slices.Values(all), bySlot)
	slots := slotTexts(all)
	var t table
	for i, k := range append([]look{{}}, all...) {
		row := []string{"KEY", "HOLDER", "TOKEN", "LEFT"}
		if i > 0 {
			row = []string{k.Key, k.holders(), k.tokenText(), leftText(k.left())}
		}
		if slots != nil {
			row = append(row, append([]string{"SLOT"}, slots...)[i])
		}
		if !plain {
			row = append(row, []string{"STATE", k.state()}[min(i, 1)])
		}
		t.add(row...)
	}
	return t.print(a, a.out)
}
