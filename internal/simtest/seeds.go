package simtest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var (
	hours   = flag.Float64("hours", 0, "simulate until so many hours are over; 0: by -runs")
	number  = flag.Int("runs", 20, "how many runs, where -hours does not say")
	first   = flag.Uint64("seed", 0, "of the first run; the others count up. 0: at random")
	profile = flag.String("profile", "", "of every run; empty: by the seed")
	verbose = flag.Bool("each", false, "report each run")
)

// Main runs the tests of a simulation: for TestMain.
func Main(m *testing.M) {
	flag.Parse()
	runtime.GOMAXPROCS(1) // the order in which goroutines run is then nearly a function of the seed
	os.Exit(m.Run())
}

// Profile is the one of all that the flags name, nil if they name none.
func Profile[P any](t *testing.T, all []P, name func(P) string) *P {
	t.Helper()
	if *profile == "" {
		return nil
	}
	i := slices.IndexFunc(all, func(p P) bool { return name(p) == *profile })
	if i < 0 {
		t.Fatalf("no profile %q", *profile)
	}
	return &all[i]
}

// Seeds simulates one seed after another, as the flags say, each in a bubble of its own, until
// one has a violation, which fails t with what repeats it: the flags, and those of again. It
// prints and returns the sum of the counts.
func Seeds(t *testing.T, again string, simulate func(seed uint64) *Run) map[string]int {
	t.Helper()
	seed := *first
	if seed == 0 {
		seed = rand.Uint64N(1 << 40)
	}
	from, began := seed, time.Now()
	var simulated time.Duration
	var names []string
	total, done := map[string]int{}, 0
	for ; *hours > 0 && simulated.Hours() < *hours || *hours == 0 && done < *number; done++ {
		var r *Run
		synctest.Test(t, func(*testing.T) { r = simulate(seed) })
		if *verbose {
			fmt.Println(r)
		}
		simulated += r.took
		if r.Violation() != "" {
			// internal/mutants reads this line, and the one of the violation.
			fmt.Printf("caught after %.1f simulated hours, %v, %d runs\n", simulated.Hours(), time.Since(began).Round(time.Millisecond), done+1)
			t.Fatalf("%v\nagain: -seed %d -runs 1 -profile %s%s", r, seed, r.Profile, again)
		}
		for _, name := range r.names {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			total[name] += r.counts[name]
		}
		seed++
	}
	fmt.Printf("%d runs from seed %d, %.0f simulated hours in %v: %s\n",
		done, from, simulated.Hours(), time.Since(began).Round(time.Millisecond), counts(names, total))
	return total
}
