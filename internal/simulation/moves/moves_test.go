package moves

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/simtest"
)

func TestMain(m *testing.M) { simtest.Main(m) }

func TestAFleetChangesStoresUnderRandomFaults(t *testing.T) {
	profile := simtest.Profile(t, Profiles, func(p Profile) string { return p.Name })
	total := simtest.Seeds(t, "", func(seed uint64) *simtest.Run { return Run(Config{Seed: seed, Profile: profile}) })
	for _, s := range []side{oldAlone, bothStores, nextAlone} {
		require.Positive(t, total["grants to "+s.String()], s)
	}
}

// What the procedure forbids is what goes wrong: the check can fail.
func TestAFleetThatSkipsAStepHasTwoHolders(t *testing.T) {
	hasty := Profiles[len(Profiles)-1]
	require.True(t, hasty.Hasty)
	for s := range uint64(50) {
		var run *simtest.Run
		synctest.Test(t, func(*testing.T) { run = Run(Config{Seed: s + 1, Profile: &hasty}) })
		if violation := run.Violation(); violation != "" {
			t.Log(violation)
			return
		}
	}
	t.Error("50 fleets in which those with old alone stood beside those with next alone, and no violation was found")
}
