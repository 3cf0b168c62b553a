package lock

import (
	"testing"
	"testing/synctest"
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

// A reading that is too small would hide a suspension.
func TestAtMostIsNeverLess(t *testing.T) {
	if _, ok := suspendedTotal(); !ok {
		t.Skip("this system has no clock that counts suspension")
	}
	for range 1000 {
		before, _ := suspendedTotal()
		most, ok := suspendedAtMost()
		require.True(t, ok)
		require.Greater(t, most, before-suspensionNoise)
	}
}

// A bubble's time is no clock of the machine's, and must not look like a suspension.
func TestInABubbleNothingIsSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := Suspension()
		for range 100 {
			time.Sleep(time.Hour)
			require.Zero(t, since())
		}
	})
}

func BenchmarkSuspension(b *testing.B) {
	since := Suspension()
	for b.Loop() {
		since()
	}
}
