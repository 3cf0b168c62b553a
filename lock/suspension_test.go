package lock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAMachineThatWasNotSuspendedReportsNothing(t *testing.T) {
	since := Suspension()
	for range 1000 {
		require.Zero(t, since())
	}
}

func TestTotalNeverShrinks(t *testing.T) {
	first, ok := suspendedTotal()
	if !ok {
		t.Skip("this system has no clock that counts suspension")
	}
	require.GreaterOrEqual(t, first, time.Duration(-time.Millisecond))
	second, _ := suspendedTotal()
	require.GreaterOrEqual(t, second, first-suspensionNoise)
}

func BenchmarkSuspension(b *testing.B) {
	since := Suspension()
	for b.Loop() {
		since()
	}
}
