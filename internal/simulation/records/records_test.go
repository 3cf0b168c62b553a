package records

import (
	"flag"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/simtest"
)

var terms = flag.Int("terms", 200, "the length of a run, in ttls")

func TestMain(m *testing.M) { simtest.Main(m) }

func TestRecordsKeepTheirPromisesUnderRandomFaults(t *testing.T) {
	profile := simtest.Profile(t, Profiles, func(p Profile) string { return p.Name })
	total := simtest.Seeds(t, fmt.Sprint(" -terms ", *terms), func(seed uint64) *simtest.Run {
		return Run(Config{Seed: seed, Profile: profile, Terms: *terms})
	})
	require.Positive(t, total["grants"])
}
