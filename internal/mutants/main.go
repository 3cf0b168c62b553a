// Command mutants puts one known mistake after another into the library, by go's
// -overlay, and runs the simulation on it, which must find each, or, for the few that
// it does not find, the tests:
//
//	go run ./internal/mutants            all but those of single stores
//	go run ./internal/mutants -stores    all; those of stores run whole suites over servers
//	go run ./internal/mutants -only no-drift,no-guard
//	go run ./internal/mutants -tests    all, and which tests find them
//
// It prints a table of what was caught and how soon, and fails if a mutant was not, or
// if its lines are no longer in the source.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/overlay"
)

var (
	only   = flag.String("only", "", "names, with commas between them; empty: all")
	seed   = flag.Uint64("seed", 1, "of the first run of each simulation")
	hours  = flag.Float64("hours", 20_000, "simulated for each mutant at most")
	limit  = flag.Duration("limit", 2*time.Minute, "for each mutant, in the real world")
	tests  = flag.Bool("tests", false, "run the tests on each mutant, too, but for those on real servers")
	stores = flag.Bool("stores", false, "those of single stores, too, whose suites take about a minute each")
	trace  = flag.Bool("trace", false, "print what each checker saw")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := overlay.Root()
	if err != nil {
		return err
	}
	var names, missed []string
	if *only != "" {
		names = strings.Split(*only, ",")
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	// As the simulation's own command builds it, so that a seed replays.
	always := slices.Concat(overlay.Ordered(strings.TrimSpace(string(goroot))), overlay.Seeded)
	fmt.Println("| mutant | what it does | caught by | after | in |\n|---|---|---|---|---|")
	those := slices.Concat(quorumMutants, waitingMutants, recordMutants, moveMutants)
	if *stores || names != nil {
		those = mutants
	}
	for _, m := range those {
		if names != nil && !slices.Contains(names, m.name) {
			continue
		}
		names = slices.DeleteFunc(names, func(n string) bool { return n == m.name })
		if !m.tests {
			caught, err := m.try(root, always)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			if caught.by == "" {
				missed = append(missed, m.name)
				caught.by = "**not caught**"
			}
			fmt.Printf("| %s | %s | simulation: %s | %.0f h, %d runs | %v |\n", m.name, m.what, caught.by, caught.hours, caught.runs, caught.took.Round(10*time.Millisecond))
		}
		if m.tests || *tests {
			failed, took, err := m.test(root)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			if len(failed) == 0 {
				failed = []string{"**none**"}
				if m.tests {
					missed = append(missed, m.name)
				}
			}
			fmt.Printf("| %s | %s | tests: %s | | %v |\n", m.name, m.what, strings.Join(failed, ", "), took.Round(10*time.Millisecond))
		}
	}
	switch {
	case len(names) > 0:
		return fmt.Errorf("no mutants of these names: %v", names)
	case len(missed) > 0:
		return fmt.Errorf("not caught: %v", missed)
	}
	return nil
}

type caught struct {
	by    string
	hours float64
	runs  int
	took  time.Duration
}

var (
	violation = regexp.MustCompile(`VIOLATION: (.*)`)
	after     = regexp.MustCompile(`caught after ([0-9.]+) simulated hours, .*, (\d+) runs`)
	figure    = regexp.MustCompile(`[0-9]+(\.[0-9]+)?([hms]+[0-9.hms]*)?`)
)

// try builds the simulation with the mistake in it, and runs it.
func (m mutant) try(root string, always []overlay.Change) (caught, error) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return caught{}, err
	}
	defer os.RemoveAll(dir)
	path, err := overlay.Write(root, dir, slices.Concat(always, m.changes))
	if err != nil {
		return caught{}, err
	}
	binary := filepath.Join(dir, "simulation.test")
	build := exec.Command("go", "test", "-c", "-overlay", path, "-o", binary, m.simulation())
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return caught{}, fmt.Errorf("it does not build: %w\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	began := time.Now()
	args := []string{"-test.run=UnderRandomFaults", "-test.timeout=0", "-seed", fmt.Sprint(cmp.Or(m.seed, *seed)), "-hours", fmt.Sprint(*hours), "-profile", m.profile}
	if m.waits {
		args = append(args, "-waits", "yes")
	}
	sim := exec.CommandContext(ctx, binary, args...)
	sim.Dir = root
	sim.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOGC=off", "GOMEMLIMIT=1GiB")
	out, err := sim.CombinedOutput()
	if *trace {
		fmt.Printf("%s\n", out)
	}
	c := caught{took: time.Since(began)}
	if found := after.FindSubmatch(out); found != nil {
		c.hours, _ = strconv.ParseFloat(string(found[1]), 64)
		c.runs, _ = strconv.Atoi(string(found[2]))
	}
	switch found := violation.FindSubmatch(out); {
	case found != nil:
		c.by = figure.ReplaceAllString(string(found[1]), "N")
	case err != nil && ctx.Err() == nil:
		c.by = "a panic or a goroutine left"
	}
	return c, nil
}

var failing = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)

// test runs the tests of the packages that were changed, and of those that stand on
// them, and gives those that fail.
func (m mutant) test(root string) ([]string, time.Duration, error) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return nil, 0, err
	}
	defer os.RemoveAll(dir)
	path, err := overlay.Write(root, dir, m.changes)
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	skip := "-skip=^TestReal|^Fuzz"
	if m.in != nil { // they need a server at most
		skip = "-skip=^Fuzz"
	}
	args := []string{"test", "-short", "-timeout=5m", "-overlay", path, skip}
	if !*tests { // one that fails is enough
		args = append(args, "-failfast")
	}
	test := exec.Command("go", append(args, m.packages()...)...)
	test.Dir = root
	out, err := test.CombinedOutput()
	if *trace {
		fmt.Printf("%s\n", out)
	}
	var failed []string
	for _, found := range failing.FindAllSubmatch(out, -1) {
		failed = append(failed, string(found[1]))
	}
	if err != nil && len(failed) == 0 {
		if strings.Contains(string(out), "panic: ") {
			return []string{"a panic"}, time.Since(began), nil
		}
		return nil, 0, fmt.Errorf("its tests don't run: %w\n%s", err, out)
	}
	slices.Sort(failed)
	return slices.Compact(failed), time.Since(began), nil
}
