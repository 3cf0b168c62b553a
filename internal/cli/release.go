package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tonsurance/lockkeeper/internal/inspect"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func (a *app) releaseCommand() *cobra.Command {
	var force, yes bool
	var token uint64
	c := &cobra.Command{
		Use:   "release KEY --force",
		Short: "Break somebody's hold of a lock",
		Long: `Release shows who holds KEY, asks, and breaks that term and no other: if the
lock changes hands meanwhile, nothing is broken, and the exit status is 75. What
nodes have of a lock that nobody holds (see lockkeeper show --help) is removed
in the same way. It reports what it did on each node of a quorum.

A script that has seen a hold with token T, by lockkeeper show, breaks that hold
alone with --token T. If another has the lock by now, nothing is broken, and the
exit status is 75; if nobody has, it is 0. Of a key that is held with run
--slots, name the slot, as in "KEY;slot=2"; slot 1 is the key itself.

The broken holder learns of it at its next renewal, up to half a ttl later.
Until then two may work at the same time, and the fencing token alone protects
what they write to.`,
		Example: `  lockkeeper release pricing-oracle-keeper --force
  lockkeeper release keeper --force --yes --token 1795678661850660 # in a script`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !force {
				return usage("release breaks another's hold: say --force")
			}
			if cmd.Flags().Changed("token") && token == 0 {
				return usage("--token is 0, want that of the hold to break, as lockkeeper show shows it")
			}
			return a.withAnyway(cmd.Context(), func(ctx context.Context, l lock.Locker) error { return a.release(ctx, l, args[0], token, yes) })
		},
	}
	c.Flags().BoolVar(&force, "force", false, "break the hold (required)")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().Uint64Var(&token, "token", 0, "break the hold with this `token` only")
	return c
}

// release breaks who holds key; with a token, only the hold that has it.
func (a *app) release(ctx context.Context, l lock.Locker, key string, token uint64, yes bool) error {
	k, err := inspect.Key(ctx, l, key)
	if err != nil {
		return err
	}
	k.Group(ctx, l)
	if err := a.printReading(k); err != nil {
		return err
	}
	switch k.State() {
	case redlock.StateFree:
		if name, other := k.StandsFor(); other {
			return nothingOf(k, name, "nothing was broken")
		}
		if parts := append(slices.Clone(k.Slots), k.Readers...); len(parts) > 0 && token == 0 {
			return &status{exitHeld, fmt.Errorf("nothing was broken: %s is held in slots, or by readers, name one, as in: lockkeeper release %s --force", printable(key), quoted(parts[0].Key))}
		}
		return nil
	case redlock.StateUnknown:
		return k.Unavailable()
	}
	if token != 0 {
		if over, err := seenTerm(k, token); over || err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(a.out); err != nil {
		return err
	}
	question := fmt.Sprintf("Nobody holds %s. Remove what nodes have of it?", printable(key))
	if k.Holder != "" {
		question = fmt.Sprintf("Break this hold of %s? Its holder learns of it at its next renewal and may work until then.", printable(key))
	}
	if err := a.ask(ctx, question, yes); err != nil {
		return err
	}
	return a.breakSeen(ctx, l, k)
}

// nothingOf is the end of a release, or of a request to resign, of a free name that no lock
// has, where what was meant may be held: a script must not take that for freed.
func nothingOf(k inspect.Reading, name, nothing string) error {
	switch {
	case k.Meant == nil:
		return fmt.Errorf("%s: no lock has the name %s, and whether %s is held is not known: %w", nothing, printable(k.Key), printable(k.Part.Of), k.GroupErr)
	case !k.Meant.Taken():
		return nil
	case name == "":
		return &status{exitHeld, fmt.Errorf("%s: %s has no %s", nothing, printable(k.Part.Of), k.Part.What)}
	}
	return &status{exitHeld, fmt.Errorf("%s: no lock has the name %s, which stands for %s: see who holds that by lockkeeper show %s", nothing, printable(k.Key), printable(name), quoted(name))}
}

// seenTerm checks that the hold with this token is the one that was seen. over: it is not,
// and nobody else holds the lock, so that there is nothing to break.
func seenTerm(k inspect.Reading, token uint64) (over bool, err error) {
	switch {
	case k.Holder == "":
		return true, nil // leftovers on some nodes are no hold
	case k.Token == token:
		return false, nil
	case k.Token == 0 && k.Plain():
		return false, fmt.Errorf("%w: nothing was broken: too few nodes report the token of the hold of %s by %s", lock.ErrUnavailable, printable(k.Key), printable(k.Holder))
	}
	return false, &status{exitHeld, fmt.Errorf("nothing was broken: %s is held by %s with token %s, not with %d", printable(k.Key), printable(k.Holder), tokenText(k.Token), token)}
}

// breakSeen breaks what was seen, and reports what became of it.
func (a *app) breakSeen(ctx context.Context, l lock.Locker, k inspect.Reading) error {
	breakOne, err := oneBreaker(l)
	if err != nil {
		return err
	}
	did, err := breakOne(ctx, k)
	if errors.Is(err, lock.ErrHeld) {
		err = &status{exitHeld, fmt.Errorf("nothing was broken: %s has changed hands meanwhile: %s", printable(k.Key), words(err))}
	}
	if perr := a.printOutcomes(did); perr != nil || err != nil {
		return errors.Join(perr, err)
	}
	if did != nil && !freedAny(did) {
		return &status{exitHeld, fmt.Errorf("nothing was broken: %s has changed hands meanwhile, or was freed", printable(k.Key))}
	}
	if err := a.printBroken(k); err != nil {
		return err
	}
	for _, n := range did {
		if n.Err != nil {
			fmt.Fprintf(a.out, "%s may still have it: it ends there by itself, %s\n", printable(n.Node), endText(k.Left()))
		}
	}
	return nil
}

func endText(left time.Duration) string {
	if left < 0 {
		return "unless it has no expiry: look again when the node is back"
	}
	return "within " + leftText(left)
}

func (a *app) printBroken(k inspect.Reading) error {
	what := fmt.Sprintf("removed what nodes had of %s: it was nobody's", printable(k.Key))
	switch {
	case k.Holder != "" && k.Token == 0:
		what = fmt.Sprintf("broke the hold of %s by %s", printable(k.Key), printable(k.Holder))
	case k.Holder != "":
		what = fmt.Sprintf("broke the hold of %s: token %s of %s is over", printable(k.Key), tokenText(k.Token), printable(k.Holder))
	}
	_, err := fmt.Fprintln(a.out, what)
	return err
}

// printOutcomes reports what a break did on each node.
func (a *app) printOutcomes(did []redlock.Outcome) error {
	if len(did) == 0 {
		return nil
	}
	var t table
	t.add("NODE", "DID")
	for _, n := range did {
		what := string(n.Did)
		switch {
		case n.Err != nil:
			what = "failed: " + oneLine(n.Err)
		case n.Did == redlock.Anothers:
			what = "has another's, left alone"
		}
		t.add(n.Node, what)
	}
	if err := t.print(a, a.out); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.out)
	return err
}

func freedAny(did []redlock.Outcome) bool {
	return slices.ContainsFunc(did, func(n redlock.Outcome) bool { return n.Did == redlock.Freed })
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
			return a.withAnyway(cmd.Context(), func(ctx context.Context, l lock.Locker) error { return a.clear(ctx, l, args[0], yes) })
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) clear(ctx context.Context, l lock.Locker, prefix string, yes bool) error {
	// What can't be listed does not keep the rest.
	all, unlisted := inspect.Keys(ctx, l, prefix)
	if err := a.printLocks(all, prefix, unlisted == nil); err != nil || len(all) == 0 {
		return errors.Join(err, unlisted)
	}
	question := fmt.Sprintf("Break these %d?", len(all))
	if unlisted != nil {
		question = fmt.Sprintf("There may be others (%s). Break these %d?", printable(words(unlisted)), len(all))
	}
	if err := a.ask(ctx, question, yes); err != nil {
		return err
	}
	breakOne, err := oneBreaker(l)
	if err != nil {
		return err
	}
	var errs []error
	silent := map[string]int{} // nodes that could not be asked, and of how many keys
	for _, k := range all {
		did, err := breakOne(ctx, k)
		if err != nil {
			errs = append(errs, err)
		}
		for _, n := range did {
			if n.Err != nil {
				silent[n.Node]++
			}
		}
	}
	fmt.Fprintf(a.out, "broke %d of %d\n", len(all)-len(errs), len(all))
	for _, node := range slices.Sorted(maps.Keys(silent)) {
		fmt.Fprintf(a.out, "%s did not answer for %d of them, and may still have them until they end\n", printable(node), silent[node])
	}
	return errors.Join(append(errs, unlisted)...)
}

// oneBreaker is how this store breaks what was seen of one key.
func oneBreaker(l lock.Locker) (func(context.Context, inspect.Reading) ([]redlock.Outcome, error), error) {
	if r, ok := lock.As[*redlock.Locker](l); ok {
		return func(ctx context.Context, k inspect.Reading) ([]redlock.Outcome, error) { return r.Break(ctx, *k.View) }, nil
	}
	breaker, err := breakerOf(l)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, k inspect.Reading) ([]redlock.Outcome, error) {
		return nil, breaker.ForceRelease(ctx, k.Key, k.Token)
	}, nil
}
