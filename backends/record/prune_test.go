package record_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

func TestPruneDeletesWhatHasLongBeenFreeAndTokensStillRise(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p := over(t, m, nil)
		m.Skew(365 * 24 * time.Hour) // the store's clock was wrong, so tokens are high
		tokens := map[string]uint64{}
		for i := range 250 {
			key := fmt.Sprint("job-", i)
			lease := take(t, p, key, time.Second)
			tokens[key] = lease.Token()
			require.NoError(t, lease.Release(t.Context()))
		}
		m.Skew(0)
		held := take(t, p, "held", 30*24*time.Hour)
		expired := take(t, p, "expired", time.Second)
		time.Sleep(8 * 24 * time.Hour)
		used(t, p, "job-7")
		n, err := p.Prune(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, 249, n)
		_, err = p.TryAcquire(t.Context(), "held", time.Second)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.NoError(t, held.Release(t.Context()))
		require.Greater(t, take(t, p, "expired", time.Second).Token(), expired.Token())
		for _, key := range []string{"job-0", "job-249"} {
			require.Greater(t, take(t, over(t, m, nil), key, time.Second).Token(), tokens[key])
		}
		n, err = p.Prune(t.Context(), 0)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestPruneLeavesWhatIsTakenMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T, m *recordtest.Memory) {
		p, other := over(t, m, nil), over(t, m, nil)
		used(t, p, "k")
		time.Sleep(8 * 24 * time.Hour)
		p.faults.Delay(time.Second, true)
		pruned := make(chan int)
		go func() {
			n, err := p.Prune(t.Context(), 0)
			if err != nil {
				t.Error(err)
			}
			pruned <- n
		}()
		time.Sleep(2500 * time.Millisecond) // listed, and not yet deleted
		lease := take(t, other, "k", time.Hour)
		require.Zero(t, <-pruned)
		require.NoError(t, lease.Extend(t.Context(), time.Hour))
	})
}

func TestWhatAStoreCanNotDoIsSaid(t *testing.T) {
	m := recordtest.NewMemory()
	l, err := record.New(getPut{m}, nil)
	require.NoError(t, err)
	defer l.Close()
	_, err = l.Prune(t.Context(), 0)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	for _, err := range l.List(t.Context(), "") {
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	_, err = over(t, m, nil).Prune(t.Context(), time.Minute)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "1m0s")
}

// getPut hides all but the two methods that a store must have.
type getPut struct{ record.Store }
