// Command torture starts the servers of a store and client processes, does to them what a
// bad year does to a data centre, and checks what the clients saw.
//
//	make torture STORE=postgres
//
// The clients, the checks and the report are the same for every store. What a store can't
// suffer is left out, and the report says so.
//
// Its exit status is not 0 if any rule was broken; then the history is kept, with a
// timeline that can be read in a browser.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if os.Getenv(clientEnv) != "" {
		if err := clientMain(); err != nil {
			fmt.Fprintln(os.Stderr, "torture: client:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := realMain(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		stop()
		os.Exit(1)
	}
}

// errBroken: the run went through, and a rule was broken.
var errBroken = errors.New("a rule was broken")

func realMain(ctx context.Context, args []string) error {
	c := config{out: os.Stdout}
	var names, about []string
	for _, p := range profiles {
		names, about = append(names, p.name), append(about, p.name+": "+p.about)
	}
	flags := flag.NewFlagSet("torture", flag.ContinueOnError)
	storeName := flags.String("store", "redlock", strings.Join(storeNames(), ", "))
	flags.DurationVar(&c.duration, "duration", 2*time.Minute, "how long")
	flags.Uint64Var(&c.seed, "seed", 0, "of the faults; 0 takes one at random, and prints it")
	flags.IntVar(&c.nodes, "nodes", 0, "servers of redlock, etcd or nats, 3 to 9; 0 is 3")
	flags.IntVar(&c.clients, "clients", 6, "client processes, 2 to 20")
	flags.IntVar(&c.quorum, "quorum", 0, "nodes that must agree; 0 is a majority. With more, FLUSHALL strikes during the faults too")
	name := flags.String("profile", "safe", strings.Join(about, "\n"))
	flags.StringVar(&c.keep, "keep", os.TempDir(), "`folder` in which the history of a failed run is kept, in a folder of its own")
	flags.StringVar(&c.draw, "draw", "", "write the timeline of the run to a `file` (HTML), also if all went well")
	flags.StringVar(&c.locker, "locker", "lockkeeper", "the library: "+strings.Join(slices.Sorted(maps.Keys(lockers)), ", ")+". Those without tokens are judged by exclusion alone")
	flags.BoolVar(&c.delayed, "delayed-restarts", false, "a node that may have forgotten stays down for the longest ttl, as the Redlock description asks of operators")
	flags.DurationVar(&c.pace, "pace", 250*time.Millisecond, "between faults, on average")
	flags.DurationVar(&c.chaos, "chaos", time.Minute, "between two rolling restarts")
	only := flags.String("only", "", "only faults whose names match this regular `expression`")
	flags.BoolVar(&c.noRolls, "no-rolls", false, "no rolling restarts")
	check := flags.String("check", "", "start nothing: check the history in a kept `file` again, and draw it if -draw is set")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *check != "" {
		return checkAgain(c.out, *check, c.draw)
	}
	if *only != "" {
		var err error
		if c.only, err = regexp.Compile(*only); err != nil {
			return fmt.Errorf("-only: %w", err)
		}
	}
	for _, p := range profiles {
		if p.name == *name {
			c.profile = p
		}
	}
	c.store = storeNamed(*storeName)
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	case c.store == nil:
		return fmt.Errorf("-store is %q, want one of %s", *storeName, strings.Join(storeNames(), ", "))
	case c.profile.name == "":
		return fmt.Errorf("-profile is %q, want one of %s", *name, strings.Join(names, ", "))
	case c.nodes != 0 && !c.store.some:
		return fmt.Errorf("-nodes is %d, which is for redlock, etcd and nats: %s has as many servers as it has", c.nodes, c.store.name)
	case c.nodes != 0 && (c.nodes < 3 || c.nodes > 9):
		return fmt.Errorf("-nodes is %d, want 3 to 9", c.nodes)
	case c.store.name != "redlock" && (c.quorum != 0 || c.delayed || c.noRolls || c.locker != "lockkeeper"):
		return fmt.Errorf("-quorum, -locker, -delayed-restarts and -no-rolls are for redlock, not for %s", c.store.name)
	case c.profile.unsafe && !slices.ContainsFunc(c.store.kinds(), func(k kind) bool { return k.unsafe }):
		return fmt.Errorf("-profile is %s, and there is no such fault for %s", c.profile.name, c.store.name)
	case c.clients < 2 || c.clients > 20:
		return fmt.Errorf("-clients is %d, want 2 to 20", c.clients)
	case c.quorum != 0 && (2*c.quorum <= cmp.Or(c.nodes, c.store.nodes) || c.quorum > cmp.Or(c.nodes, c.store.nodes)):
		return fmt.Errorf("-quorum is %d, want more than half of %d nodes and at most all", c.quorum, cmp.Or(c.nodes, c.store.nodes))
	case c.duration < time.Second, c.pace < time.Millisecond, c.chaos < time.Second:
		return fmt.Errorf("-duration %v, -pace %v, -chaos %v: want at least 1s, 1ms, 1s", c.duration, c.pace, c.chaos)
	case lockers[c.locker].open == nil:
		return fmt.Errorf("-locker is %q, which is unknown", c.locker)
	}
	if c.seed == 0 {
		c.seed = rand.Uint64N(1_000_000)
	}
	fmt.Fprintf(c.out, "torture: seed %d\n", c.seed)
	r, err := run(ctx, c)
	if len(r.Leases) > 0 {
		r.print(c.out)
	}
	if c.draw != "" {
		err = errors.Join(err, r.drawTo(c.draw, true))
	}
	if len(r.violations) > 0 {
		err = errors.Join(err, errBroken)
	}
	if err != nil && len(r.Leases) > 0 {
		dir, kept := r.keepIn(c.keep)
		fmt.Fprintf(c.out, "\nkept in %s: the history, this report and a timeline; -seed %d plans the same faults\n", dir, c.seed)
		err = errors.Join(err, kept)
	}
	return err
}
