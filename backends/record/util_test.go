package record_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/lock"
)

// process is one Locker with its own way to a store.
type process struct {
	*record.Locker
	faults *recordtest.Faults
}

func (p *process) Unwrap() lock.Locker { return p.Locker }

// crash ends the process as kill -9 does.
func (p *process) crash() { p.faults.Outage(true) }

// over opens a process over s.
func over(t *testing.T, s record.Store, o *record.Options) *process {
	t.Helper()
	f := &recordtest.Faults{Store: s}
	l, err := record.New(f.Client(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		f.Drain()
	})
	return &process{l, f}
}

// bubble runs a property on fake time.
func bubble(t *testing.T, f func(t *testing.T, m *recordtest.Memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, recordtest.NewMemory()) })
}

// within is a ctx that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func take(t *testing.T, l lock.Locker, key string, ttl time.Duration) lock.Lease {
	t.Helper()
	lease, err := l.TryAcquire(t.Context(), key, ttl)
	require.NoError(t, err)
	return lease
}

func name(t *testing.T, key string) string {
	t.Helper()
	return recordtest.Name(t, record.Names{}, key)
}

// used makes a key whose record is there, and free.
func used(t *testing.T, l lock.Locker, key string) {
	t.Helper()
	require.NoError(t, take(t, l, key, time.Second).Release(t.Context()))
}
