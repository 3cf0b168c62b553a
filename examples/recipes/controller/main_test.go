package main

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
)

// nowhere is a cluster that nothing here asks.
var nowhere = &rest.Config{Host: "http://127.0.0.1:1"}

func options() ctrl.Options {
	return ctrl.Options{
		Metrics: server.Options{BindAddress: "0"},
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) {
			return meta.NewDefaultRESTMapper(nil), nil
		},
	}
}

// Each term has a Manager with the same controllers, and the lease is free only when all of
// it has returned, however long that takes.
func TestEachTermHasItsManagerAndWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		running, ended := make(chan context.Context), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		led := make(chan error, 1)
		go func() {
			led <- Lead(ctx, store.Client("a"), nowhere, options(), func(_ context.Context, m ctrl.Manager) error {
				_, err := controller.New("prices", m, controller.Options{Reconciler: reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
					return reconcile.Result{}, nil
				})})
				return errors.Join(err, m.Add(manager.RunnableFunc(func(ctx context.Context) error {
					running <- ctx
					<-ctx.Done()
					<-ended // winds down
					return nil
				})))
			})
		}()
		first := <-running
		require.EqualValues(t, 1, lock.Token(first))
		require.NoError(t, store.ForceRelease(t.Context(), "controllers", 1)) // seen at the next renewal
		<-first.Done()
		require.ErrorIs(t, context.Cause(first), lock.ErrLost)
		time.Sleep(time.Hour)
		ended <- struct{}{}

		second := <-running
		require.Greater(t, lock.Token(second), lock.Token(first))
		cancel()
		<-second.Done()
		time.Sleep(25 * time.Second)
		_, err := store.Client("b").TryAcquire(t.Context(), "controllers", lock.MinTTL)
		require.ErrorIs(t, err, lock.ErrHeld)
		close(ended)
		require.NoError(t, <-led)
		info, err := store.Inspect(t.Context(), "controllers")
		require.NoError(t, err)
		require.Empty(t, info.Holder)
	})
}

func TestASetUpThatFailsResigns(t *testing.T) {
	store, broken := memory.New(), errors.New("broken")
	err := Lead(t.Context(), store, nowhere, options(), func(context.Context, ctrl.Manager) error { return broken })
	require.ErrorIs(t, err, broken)
	info, err := store.Inspect(t.Context(), "controllers")
	require.NoError(t, err)
	require.Empty(t, info.Holder)
}
