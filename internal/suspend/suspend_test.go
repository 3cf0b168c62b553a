package suspend

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAMachineThatWasNotSuspendedReportsNothing(t *testing.T) {
	since := Since()
	for range 1000 {
		require.Zero(t, since())
	}
}

func TestTotalNeverShrinks(t *testing.T) {
	first, ok := total()
	if !ok {
		t.Skip("this system has no clock that counts suspension")
	}
	require.GreaterOrEqual(t, first, time.Duration(-time.Millisecond))
	second, _ := total()
	require.GreaterOrEqual(t, second, first-noise)
}

func BenchmarkSince(b *testing.B) {
	since := Since()
	for b.Loop() {
		since()
	}
}
