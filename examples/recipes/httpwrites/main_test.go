package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

func put(h http.Handler) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodPut, "/price", nil))
	return w.Code
}

// run runs w until the returned function is called.
func run(t *testing.T, w *Writes) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = w.Run(ctx) })
	return func() { cancel(); group.Wait() }
}

func TestWritesAreServedByTheLeaderOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		served := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if lock.Token(r.Context()) == 0 {
				t.Error("a write without a token")
			}
		})
		a, b := NewWrites(store.Client("a"), "prices", nil), NewWrites(store.Client("b"), "prices", nil)
		require.Equal(t, http.StatusServiceUnavailable, put(a.Handler(served)), "nobody leads")
		stopA := run(t, a)
		synctest.Wait()
		stopB := run(t, b)
		synctest.Wait()
		require.Equal(t, http.StatusOK, put(a.Handler(served)))
		require.Equal(t, http.StatusServiceUnavailable, put(b.Handler(served)))
		stopA()
		synctest.Wait()
		require.Equal(t, http.StatusServiceUnavailable, put(a.Handler(served)))
		require.Equal(t, http.StatusOK, put(b.Handler(served)))
		stopB()
	})
}

// A write under way ends in time when the store is away, and is waited for when the term
// ends by itself.
func TestAWriteEndsBeforeAnotherCopyCanLead(t *testing.T) {
	for name, end := range map[string]func(store *memory.Locker, stop func()){
		"the store is away":  func(store *memory.Locker, _ func()) { store.FailNext(-1, nil) },
		"the process leaves": func(_ *memory.Locker, stop func()) { go stop() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory.New()
				cut := store.Client("a")
				a := NewWrites(cut, "prices", slog.New(slog.DiscardHandler))
				stop := run(t, a)
				synctest.Wait()
				begun, done := make(chan struct{}), make(chan error, 1)
				go put(a.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					close(begun)
					<-r.Context().Done()
					time.Sleep(time.Second)
					_, err := store.Client("other").TryAcquire(context.Background(), "prices", time.Second)
					done <- err
				})))
				<-begun
				end(cut, stop)
				require.ErrorIs(t, <-done, lock.ErrHeld)
				stop()
			})
		})
	}
}

func TestServeEndsWithItsContextAndWithItsServer(t *testing.T) {
	store := memory.New()
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- serve(ctx, store, listener) }()
	require.Eventually(t, func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+listener.Addr().String()+"/price", nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusNoContent
	}, time.Minute, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-served)

	listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	require.ErrorIs(t, serve(t.Context(), store, listener), net.ErrClosed)
	info, err := store.Inspect(t.Context(), "prices")
	require.NoError(t, err)
	require.Empty(t, info.Holder, "it leads without a server")
}
