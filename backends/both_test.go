package backends_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/file"
	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// The conformance suite over a directory and a record store at once, on live time: package
// lock has pairs of stores on fake time.
func TestBothOverFilesAndRecordsIsALocker(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits out many leases")
	}
	type stores struct {
		dir string
		m   *recordtest.Memory
	}
	var mu sync.Mutex
	of := map[lock.Locker]stores{}
	add := func(t *testing.T, s stores) lock.Locker {
		f, err := file.New(s.dir, nil)
		require.NoError(t, err)
		r, err := record.New(s.m.Client(true, true), nil)
		require.NoError(t, err)
		l := lock.Both(f, r)
		t.Cleanup(func() { _ = lock.Close(l) })
		mu.Lock()
		defer mu.Unlock()
		of[l] = s
		return l
	}
	locktest.Run(t, locktest.Harness{
		New: func(t *testing.T) lock.Locker { return add(t, stores{t.TempDir(), recordtest.NewMemory()}) },
		Peer: func(t *testing.T, l lock.Locker) lock.Locker {
			mu.Lock()
			s := of[l]
			mu.Unlock()
			return add(t, s)
		},
		Break: func(t *testing.T, l lock.Locker, key string) {
			f, ok := lock.As[lock.ForceReleaser](l)
			require.True(t, ok)
			require.NoError(t, f.ForceRelease(t.Context(), key, 0))
		},
		TTL: 400 * time.Millisecond,
		AllowSkips: []string{
			"Wrap", "Delay", "LoseReply", "Outage", "Kill", "Skew", "Cut", "Repeat", "Conflict", "StaleReads", "Delete", "Waiters", "TokenRaiser", "ExtendStarter",
		},
	})
}
