package simulation

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	hours   = flag.Float64("hours", 0, "simulate until so many hours are over; 0: by -runs")
	runs    = flag.Int("runs", 20, "how many runs, where -hours does not say")
	seed    = flag.Uint64("seed", 0, "of the first run; the others count up. 0: at random")
	terms   = flag.Int("terms", 200, "the length of a run, in ttls")
	waits   = flag.String("waits", "", "yes or no: programs wait in the nodes' queues; empty: in every fourth run")
	profile = flag.String("profile", "", "of every run; empty: by the seed")
	verbose = flag.Bool("each", false, "report each run")
)

func TestMain(m *testing.M) {
	flag.Parse()
	runtime.GOMAXPROCS(1) // the order in which goroutines run is then nearly a function of the seed
	os.Exit(m.Run())
}

// simulate runs one seed in a bubble of its own, which fails if anything is left.
func simulate(t *testing.T, cfg Config) (res *Result) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { res = Run(cfg) })
	return res
}

func chosen(t *testing.T) *Profile {
	for i := range Profiles {
		if Profiles[i].Name == *profile {
			return &Profiles[i]
		}
	}
	require.Empty(t, *profile, "no such profile")
	return nil
}

func TestWhatIsPromisedHoldsUnderRandomFaults(t *testing.T) {
	cfg := Config{Seed: *seed, Profile: chosen(t), Terms: *terms}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64N(1 << 40)
	}
	total := Result{Faults: map[string]int{}}
	began := time.Now()
	done := 0
	for ; *hours > 0 && total.Simulated.Hours() < *hours || *hours == 0 && done < *runs; done++ {
		var res *Result
		cfg.Waits = *waits == "yes" || *waits == "" && cfg.Seed%4 == 3
		t.Run(fmt.Sprint("seed=", cfg.Seed), func(t *testing.T) {
			res = simulate(t, cfg)
			if *verbose {
				fmt.Println(res)
			}
			require.Empty(t, res.Violation, "%v\nagain: -seed %d -runs 1 -terms %d -profile %s -waits %s", res, cfg.Seed, cfg.Terms, res.Profile, map[bool]string{true: "yes", false: "no"}[cfg.Waits])
		})
		if res == nil || res.Violation != "" {
			fmt.Printf("caught after %.1f simulated hours, %v, %d runs\n", (total.Simulated + elapsed(res)).Hours(), time.Since(began).Round(time.Millisecond), done+1)
			return
		}
		total.add(res)
		cfg.Seed++
	}
	took := time.Since(began)
	fmt.Printf("%d runs from seed %d, %.0f simulated hours (%d ttls) in %v, %.0f hours a second\n",
		done, cfg.Seed-uint64(done), total.Simulated.Hours(), total.Terms, took.Round(time.Millisecond), total.Simulated.Hours()/took.Seconds())
	fmt.Printf("%d messages (%d lost, %d late, %d doubled, %d pushes), %d grants (%d waited for), %d hand-offs, %d extends, %d losses, %d writes, %d refused, %d overlaps beyond the limits\n",
		total.Messages, total.Lost, total.Late, total.Doubled, total.Pushes, total.Grants, total.Waits, total.HandOffs, total.Extends, total.Losses, total.Writes, total.Refused, total.Overlaps)
	var kinds []string
	faults := 0
	for kind, n := range total.Faults {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
		faults += n
	}
	sort.Strings(kinds)
	fmt.Printf("%d faults: %s\n", faults, strings.Join(kinds, ", "))
}

func elapsed(r *Result) time.Duration {
	if r == nil {
		return 0
	}
	return r.At
}

func (r *Result) add(o *Result) {
	r.Simulated += o.Simulated
	r.Terms += o.Terms
	r.Messages += o.Messages
	r.Lost += o.Lost
	r.Late += o.Late
	r.Doubled += o.Doubled
	r.Pushes += o.Pushes
	r.Waits += o.Waits
	r.Grants += o.Grants
	r.HandOffs += o.HandOffs
	r.Extends += o.Extends
	r.Losses += o.Losses
	r.Writes += o.Writes
	r.Refused += o.Refused
	r.Overlaps += o.Overlaps
	for kind, n := range o.Faults {
		r.Faults[kind] += n
	}
}
