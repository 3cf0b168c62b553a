// Errgroup runs several workers in one of several processes. They stop together, and only
// when all have returned may another process lead.
//
//	LOCKS=file:///run/keeper/locks go run ./errgroup
package main

import (
	"context"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/leader"
	"github.com/tonsurance/lockkeeper/lock"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	locker, err := backends.Open(ctx, os.Getenv("LOCKS"))
	if err != nil {
		log.Fatal(err)
	}
	err = Lead(ctx, locker, work("prices"), work("funding"))
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
	if err := lock.Close(locker); err != nil {
		log.Print(err)
	}
}

// Lead runs the workers while this process leads. A worker that fails ends them all: this
// process resigns, and Lead returns the first error.
func Lead(ctx context.Context, l lock.Locker, workers ...func(context.Context) error) error {
	return leader.Run(ctx, l, "workers", func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx) // ends with the term, or the first error
		for _, work := range workers {
			group.Go(func() error { return work(ctx) })
		}
		return group.Wait() // never earlier: the lease is released when this has returned
	}, &leader.Options{Logger: slog.Default()})
}

func work(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				log.Print(name, " with fencing token ", lock.Token(ctx))
			}
		}
	}
}
