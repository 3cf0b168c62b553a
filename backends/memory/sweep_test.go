package memory

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func (s *store) kept() (n int) {
	for i := range s.shards {
		n += len(s.shards[i].terms)
	}
	return n
}

func TestAbandonedKeysDoNotFillMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		most := 0
		for i := range 100_000 {
			_, err := l.TryAcquire(t.Context(), fmt.Sprint("job-", i), time.Millisecond)
			require.NoError(t, err)
			if i%100 == 0 {
				time.Sleep(time.Millisecond) // at most 100 are held at a time
				most = max(most, l.store.kept())
			}
		}
		require.LessOrEqual(t, most, 64*shardCount+2*100)
	})
}

func TestTheDeadOfAPeakAreSweptByLaterTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		const peak = 20_000
		for i := range peak {
			_, err := l.TryAcquire(t.Context(), fmt.Sprint("job-", i), time.Second)
			require.NoError(t, err)
		}
		require.Equal(t, peak, l.store.kept(), "nothing held is swept")
		time.Sleep(time.Second)
		for i := range 3 * peak { // released at once: the map does not grow
			lease, err := l.TryAcquire(t.Context(), fmt.Sprint("job-", i%1000), time.Second)
			require.NoError(t, err)
			require.NoError(t, lease.Release(t.Context()))
		}
		require.LessOrEqual(t, l.store.kept(), 64*shardCount)
	})
}
