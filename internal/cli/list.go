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
	ctx, stop := interruptible(ctx)
	defer stop()
	s, err := a.store()
	if err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	l, err := s.open(opening)
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

// held are the locks that start with prefix, by name.
func held(ctx context.Context, i lock.Inspector, prefix string) ([]lock.Info, error) {
	var all []lock.Info
	for info, err := range i.List(ctx, prefix) {
		if err != nil {
			return all, err
		}
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
		Example: `  lockkeeper list
  lockkeeper list tenant: --output json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(ctx context.Context, l lock.Locker) error {
				i, err := inspectorOf(l)
				if err != nil {
					return err
				}
				// What could be read is shown in any case.
				all, err := held(ctx, i, optional(args))
				return errors.Join(a.printLocks(all, err == nil), err)
			})
		},
	}
	a.outputFlag(c)
	return c
}

func (a *app) printLocks(all []lock.Info, complete bool) error {
	if a.output == "json" {
		reports := []lockReport{}
		for _, info := range all {
			reports = append(reports, lockReportOf(info))
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
	var t table
	t.add("KEY", "HOLDER", "TOKEN", "LEFT")
	for _, info := range all {
		t.add(info.Key, info.Holder, tokenText(info.Token), leftText(info.TTL))
	}
	return t.print(a, a.out)
}

func (a *app) showCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show KEY",
		Short: "Show who holds a lock",
		Long:  "Show tells who holds a lock, with which token, and for how long without renewal.\n\nExit status 0 also if it is free.",
		Example: `  lockkeeper show pricing-oracle-keeper
  lockkeeper show pricing-oracle-keeper --output json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(ctx context.Context, l lock.Locker) error {
				i, err := inspectorOf(l)
				if err != nil {
					return err
				}
				info, err := i.Inspect(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printLock(info)
			})
		},
	}
	a.outputFlag(c)
	return c
}

func (a *app) printLock(info lock.Info) error {
	if a.output == "json" {
		return a.printJSON(lockReportOf(info))
	}
	if info.Holder == "" {
		_, err := fmt.Fprintf(a.out, "%s is free\n", printable(info.Key))
		return err
	}
	var t table
	t.add("key", info.Key)
	t.add("holder", info.Holder)
	t.add("token", tokenText(info.Token))
	t.add("left", leftText(info.TTL)+" unless renewed")
	return t.print(a, a.out)
}
