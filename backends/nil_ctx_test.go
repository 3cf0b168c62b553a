package backends_test

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/backends/file"
	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/fence"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/lock/rwlock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// none is the ctx of a caller who forgot it.
var none context.Context

// failed is the error of a listing.
func failed[T any](seq iter.Seq2[T, error]) (err error) {
	for _, err = range seq {
	}
	return err
}

// TestANilCtxIsRefusedByWhateverTakesOne is so before anything is sent, with an error that
// names the input: the goroutine of a server that panics takes the locks of all with it.
func TestANilCtxIsRefusedByWhateverTakesOne(t *testing.T) {
	const ttl = time.Minute
	refused := func(t *testing.T, what string, call func() error) {
		t.Helper()
		require.NotPanics(t, func() {
			err := call()
			require.ErrorIs(t, err, lock.ErrInvalid, what)
			require.ErrorContains(t, err, "ctx is nil", what)
		}, what)
	}
	f, err := file.New(t.TempDir(), nil)
	require.NoError(t, err)
	r, err := record.New(recordtest.NewMemory().Client(true, true), nil)
	require.NoError(t, err)
	unreachable := []string{"redis://127.0.0.1:1"}
	red, err := redlock.Dial(t.Context(), unreachable, &redlock.Options{Lazy: true})
	require.NoError(t, err)
	m := memory.New()
	rw, err := rwlock.New(m, 2)
	require.NoError(t, err)
	for name, l := range map[string]lock.Locker{
		"file": f, "record": r, "redlock": red, "memory": m, "readers": rw.Readers(), "writer": rw.Writer(),
		"Semaphore": lock.Semaphore(m, 2), "Prefix": lock.Prefix(m, "p:"), "Both": lock.Both(m, memory.New()),
		"Observe": lock.Observe(m, func(lock.Event) {}),
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, "TryAcquire", func() error { _, err := l.TryAcquire(none, "k", ttl); return err })
			if a, ok := lock.As[lock.Awaiter](l); ok {
				refused(t, "Await", func() error { _, err := a.Await(none, "k", ttl, func(*lock.HeldError) {}); return err })
			}
			if w, ok := lock.As[lock.Watcher](l); ok {
				refused(t, "Watch", func() error { _, err := w.Watch(none, "k", make(chan struct{}, 1)); return err })
			}
			if i, ok := lock.As[lock.Inspector](l); ok {
				refused(t, "Inspect", func() error { _, err := i.Inspect(none, "k"); return err })
				refused(t, "List", func() error { return failed(i.List(none, "")) })
			}
			if f, ok := lock.As[lock.ForceReleaser](l); ok {
				refused(t, "ForceRelease", func() error { return f.ForceRelease(none, "k", 0) })
				refused(t, "ForceRelease", func() error { return f.ForceRelease(none, "k", 1) })
			}
			if h, ok := lock.As[lock.HealthChecker](l); ok {
				refused(t, "Health", func() error { _, err := h.Health(none); return err })
			}
			if l == red {
				return // there is no server to hold anything
			}
			lease, err := l.TryAcquire(t.Context(), "k", ttl)
			require.NoError(t, err)
			refused(t, "Extend", func() error { return lease.Extend(none, ttl) })
			refused(t, "Release", func() error { return lease.Release(none) })
			refused(t, "ReleaseAfter", func() error {
				if _, ok := lease.(lock.AfterReleaser); !ok {
					return lock.ContextError(none)
				}
				return lock.ReleaseAfter(none, lease, ttl)
			})
			refused(t, "RaiseToken", func() error {
				if _, ok := lease.(lock.TokenRaiser); !ok {
					return lock.ContextError(none)
				}
				return lock.RaiseToken(none, lease, 1<<40)
			})
			require.Positive(t, time.Until(lease.Expiry()), "it is held as before")
			require.NoError(t, lease.Release(t.Context()))
		})
	}
	t.Run("redlock's own", func(t *testing.T) {
		refused(t, "Dial", func() error { _, err := redlock.Dial(none, unreachable, nil); return err })
		refused(t, "View", func() error { _, err := red.View(none, "k"); return err })
		refused(t, "Views", func() error { return failed(red.Views(none, "")) })
		refused(t, "Break", func() error { _, err := red.Break(none, redlock.View{Nodes: make([]redlock.NodeView, 1)}); return err })
	})
	t.Run("record's own", func(t *testing.T) {
		refused(t, "Prune", func() error { _, err := r.Prune(none, 0); return err })
	})
	t.Run("functions", func(t *testing.T) {
		work := func(context.Context) error { t.Error("it ran"); return nil }
		refused(t, "Open", func() error { _, err := backends.Open(none, "memory:"); return err })
		refused(t, "Acquire", func() error { _, err := lock.Acquire(none, m, "k", ttl, nil); return err })
		refused(t, "AcquireAll", func() error { _, err := lock.AcquireAll(none, m, []string{"k"}, ttl, nil); return err })
		refused(t, "Do", func() error { return keepalive.Do(none, m, "k", ttl, work, nil) })
		refused(t, "DoAll", func() error { return keepalive.DoAll(none, m, []string{"k"}, ttl, work, nil) })
		refused(t, "TryDo", func() error { _, err := keepalive.TryDo(none, m, "k", ttl, work, nil); return err })
		refused(t, "Once", func() error { _, err := keepalive.Once(none, m, "k", ttl, work); return err })
		refused(t, "leader.Run", func() error { return leader.Run(none, m, "k", work, nil) })
		refused(t, "Elector.Leader", func() error { _, err := leader.New(m, "k", nil).Leader(none); return err })
		refused(t, "RequestResign", func() error { _, err := leader.RequestResign(none, m, "k"); return err })
		refused(t, "fence.Memory", func() error { return new(fence.Memory).Do(none, "k", 1, work) })
		refused(t, "fence.Redis", func() error { _, err := new(fence.Redis).Do(none, "k", 1, nil); return err })
		refused(t, "fence.SQL.Admit", func() error { return new(fence.SQL).Admit(none, nil, "k", 1) })
		refused(t, "fence.SQL.Do", func() error { return new(fence.SQL).Do(none, nil, "k", 1, nil) })
		for info, err := range m.List(t.Context(), "") {
			t.Errorf("held after all: %+v %v", info, err)
		}
	})
	t.Run("Keeper", func(t *testing.T) {
		lease, err := m.TryAcquire(t.Context(), "k", ttl)
		require.NoError(t, err)
		refused(t, "Start", func() error { _, err := keepalive.Start(none, lease, ttl, nil); return err })
		k, err := keepalive.Start(t.Context(), lease, ttl, nil)
		require.NoError(t, err)
		refused(t, "Extend", func() error { return k.Extend(none, ttl) })
		refused(t, "Release", func() error { return k.Release(none) })
		refused(t, "ReleaseAfter", func() error { return k.ReleaseAfter(none, ttl) })
		require.NoError(t, k.Context().Err(), "it is kept as before")
		require.NoError(t, k.Release(t.Context()))
	})
}
