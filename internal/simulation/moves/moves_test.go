package moves

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	hours   = flag.Float64("hours", 0, "simulate until so many hours are over; 0: by -runs")
	runs    = flag.Int("runs", 20, "how many runs, where -hours does not say")
	seed    = flag.Uint64("seed", 0, "of the first run; the others count up. 0: at random")
	profile = flag.String("profile", "", "of every run; empty: by the seed")
	verbose = flag.Bool("each", false, "report each run")
)

func TestMain(m *testing.M) {
	flag.Parse()
	runtime.GOMAXPROCS(1) // the order in which goroutines run is then nearly a function of the seed
	os.Exit(m.Run())
}

func TestAFleetChangesStoresUnderRandomFaults(t *testing.T) {
	cfg := Config{Seed: *seed}
	for i := range Profiles {
		if Profiles[i].Name == *profile {
			cfg.Profile = &Profiles[i]
		}
	}
	require.True(t, *profile == "" || cfg.Profile != nil, "no such profile")
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64N(1 << 40)
	}
	var total Result
	began, first, done := time.Now(), cfg.Seed, 0
	for ; *hours > 0 && total.Simulated.Hours() < *hours || *hours == 0 && done < *runs; done++ {
		var res *Result
		synctest.Test(t, func(*testing.T) { res = Run(cfg) })
		if *verbose {
			fmt.Println(res)
		}
		total.Simulated += res.Simulated
		if res.Violation != "" {
			fmt.Printf("caught after %.1f simulated hours, %v, %d runs\n", total.Simulated.Hours(), time.Since(began).Round(time.Millisecond), done+1)
			t.Fatalf("%v\nagain: -seed %d -runs 1 -profile %s", res, cfg.Seed, res.Profile)
		}
		for sum, n := range map[*int]int{
			&total.Grants: res.Grants, &total.Losses: res.Losses, &total.Extends: res.Extends,
			&total.Crashes: res.Crashes, &total.Deployments: res.Deployments,
		} {
			*sum += n
		}
		for i, n := range res.Sides {
			total.Sides[i] += n
		}
		cfg.Seed++
	}
	fmt.Printf("%d runs from seed %d, %.0f simulated hours in %v: %d deployments, %d grants (%d old alone, %d both, %d next alone), %d extends, %d losses, %d crashes\n",
		done, first, total.Simulated.Hours(), time.Since(began).Round(time.Millisecond), total.Deployments, total.Grants,
		total.Sides[0], total.Sides[1], total.Sides[2], total.Extends, total.Losses, total.Crashes)
	for i, n := range total.Sides {
		require.Positive(t, n, side(i))
	}
}

// What the procedure forbids is what goes wrong: the check can fail.
func TestAFleetThatSkipsAStepHasTwoHolders(t *testing.T) {
	hasty := Profiles[len(Profiles)-1]
	require.True(t, hasty.Hasty)
	for s := range uint64(50) {
		var res *Result
		synctest.Test(t, func(*testing.T) { res = Run(Config{Seed: s + 1, Profile: &hasty}) })
		if res.Violation != "" {
			t.Log(res.Violation)
			return
		}
	}
	t.Error("50 fleets in which those with old alone stood beside those with next alone, and no violation was found")
}
