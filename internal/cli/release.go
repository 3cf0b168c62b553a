package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/lock"
)

func (a *app) releaseCommand() *cobra.Command {
	var force, yes bool
	c := &cobra.Command{
		Use:   "release KEY --force",
		Short: "Break somebody's hold of a lock",
		Long: `Release shows who holds KEY, asks, and breaks that term and no other: if the lock
changes hands meanwhile, nothing is broken.

The broken holder learns of it at its next renewal, up to half a ttl later. Until
then two may work at the same time, and the fencing token alone protects what they
write to.`,
		Example: `  lockkeeper release pricing-oracle-keeper --force
  lockkeeper release pricing-oracle-keeper --force --yes   # in a script`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !force {
				return usage("release breaks another's hold: say --force")
			}
			return a.with(cmd.Context(), func(ctx context.Context, l lock.Locker) error { return a.release(ctx, l, args[0], yes) })
		},
	}
	c.Flags().BoolVar(&force, "force", false, "break the hold (required)")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) release(ctx context.Context, l lock.Locker, key string, yes bool) error {
	i, err := inspectorOf(l)
	if err != nil {
		return err
	}
	breaker, err := breakerOf(l)
	if err != nil {
		return err
	}
	info, err := i.Inspect(ctx, key)
	if err != nil {
		return err
	}
	if err := a.printLock(info); err != nil {
		return err
	}
	if info.Holder == "" {
		return nil
	}
	if err := a.ask(ctx, fmt.Sprintf("Break this hold of %s?", printable(key)), yes); err != nil {
		return err
	}
	// Token 0, of another library's hold, means any: no term can be named then.
	if err := breaker.ForceRelease(ctx, key, info.Token); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "broke the hold of %s: token %s of %s is over\n", printable(key), tokenText(info.Token), printable(info.Holder))
	return err
}

func breakerOf(l lock.Locker) (lock.ForceReleaser, error) {
	b, ok := lock.As[lock.ForceReleaser](l)
	if !ok {
		return nil, fmt.Errorf("this store can't break a hold: %w", errors.ErrUnsupported)
	}
	return b, nil
}

// ask returns nil if the answer is yes.
func (a *app) ask(ctx context.Context, question string, yes bool) error {
	if yes {
		return nil
	}
	if _, ok := terminalOf(a.in); !ok {
		return usage("nobody can be asked, because standard input is no terminal: say --yes")
	}
	fmt.Fprint(a.err, question, " [y/N] ")
	answer := make(chan string, 1)
	go func() { // it ends with the program if nobody answers
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case s := <-answer:
		if s == "y" || s == "yes" {
			return nil
		}
		return &status{exitFailed, errors.New("nothing was changed")}
	case <-ctx.Done():
		fmt.Fprintln(a.err)
		return context.Cause(ctx)
	}
}

func (a *app) clearCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "clear PREFIX",
		Short: "Break every hold whose key starts with a prefix, for development",
		Long: `Clear shows the locks that are held and whose key starts with PREFIX, asks, and
breaks them all. It is for development: who held one learns of it late, see
lockkeeper release --help. An empty PREFIX ("") means all.`,
		Example: `  lockkeeper clear test:
  lockkeeper clear test: --yes`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(ctx context.Context, l lock.Locker) error { return a.clear(ctx, l, args[0], yes) })
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) clear(ctx context.Context, l lock.Locker, prefix string, yes bool) error {
	i, err := inspectorOf(l)
	if err != nil {
		return err
	}
	breaker, err := breakerOf(l)
	if err != nil {
		return err
	}
	all, err := held(ctx, i, prefix)
	if err != nil {
		return err
	}
	if err := a.printLocks(all, true); err != nil || len(all) == 0 {
		return err
	}
	if err := a.ask(ctx, fmt.Sprintf("Break these %d?", len(all)), yes); err != nil {
		return err
	}
	var errs []error
	for _, info := range all {
		if err := breaker.ForceRelease(ctx, info.Key, info.Token); err != nil {
			errs = append(errs, err)
		}
	}
	fmt.Fprintf(a.out, "broke %d of %d\n", len(all)-len(errs), len(all))
	return errors.Join(errs...)
}
