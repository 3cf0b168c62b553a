// Controller runs the controllers of a controller-runtime Manager in one of several pods, by
// a lock of any store: over several clusters, or where the API server shall not be asked
// for a Lease. (With the Leases of one cluster, controller-runtime's own election is
// simpler, and lets a pod that loses its term exit at once.)
//
//	LOCKS=redlock://h1,h2,h3 go run .
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

func main() {
	ctx := ctrl.SetupSignalHandler()
	ctrl.SetLogger(logr.FromSlogHandler(slog.Default().Handler()))
	cluster, err := config.GetConfig()
	if err != nil {
		log.Fatal(err)
	}
	locker, err := backends.Open(ctx, os.Getenv("LOCKS"))
	if err != nil {
		log.Fatal(err)
	}
	err = Lead(ctx, locker, cluster, ctrl.Options{}, func(ctx context.Context, m ctrl.Manager) error {
		return m.Add(manager.RunnableFunc(func(ctx context.Context) error { // or a controller's SetupWithManager
			log.Print("leading with fencing token ", lock.Token(ctx))
			<-ctx.Done()
			return nil
		}))
	})
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
	if err := lock.Close(locker); err != nil {
		log.Print(err)
	}
}

// Lead runs a Manager with what setup adds while this process leads, and stands by
// otherwise. A Manager can't start twice, so that each term has its own. ctx has the term's
// fencing token, as the context of each runnable has.
//
// Caches are filled anew in each term, and webhooks, probes and metrics of the Manager are
// there in a term only: serve those of a pod that stands by beside it.
func Lead(ctx context.Context, l lock.Locker, cluster *rest.Config, opts ctrl.Options, setup func(context.Context, ctrl.Manager) error) error {
	return leader.Run(ctx, l, "controllers", func(ctx context.Context) error {
		opts := opts
		opts.LeaderElection = false
		// Start returns when all have returned, however long that takes. The lease is released
		// then: after the default of 30s another pod would begin while a reconciler still runs.
		opts.GracefulShutdownTimeout = new(time.Duration(-1))
		// Each runnable's context has the token, and ends with the term. Without it they end
		// one group after another, and Background has no end of its own.
		opts.BaseContext = func() context.Context { return ctx }
		// The names of the last term's controllers are still taken.
		opts.Controller.SkipNameValidation = new(true)
		m, err := ctrl.NewManager(cluster, opts)
		if err != nil {
			return fmt.Errorf("new manager: %w", err)
		}
		if err := setup(ctx, m); err != nil {
			return fmt.Errorf("set up the manager: %w", err)
		}
		return m.Start(ctx)
	}, &leader.Options{Logger: slog.Default()})
}
