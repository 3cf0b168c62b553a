// Migrate runs golang-migrate under a lock: for databases whose driver has no lock of its
// own, and for migrations of several that belong together. What the driver locks (Postgres,
// MySQL), it locks besides.
//
//	LOCKS=redlock://h1,h2,h3 DATABASE=... go run ./migrate
//
// Import the driver of your database; the stub here only remembers.
package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/golang-migrate/migrate/v4"
	_ "github.com/golang-migrate/migrate/v4/database/stub"
	"github.com/golang-migrate/migrate/v4/source/iofs"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

//go:embed migrations/*.sql
var files embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	locker, err := backends.Open(ctx, os.Getenv("LOCKS"))
	if err != nil {
		log.Fatal(err)
	}
	source, err := iofs.New(files, "migrations")
	if err != nil {
		log.Fatal(err)
	}
	m, err := migrate.NewWithSourceInstance("iofs", source, os.Getenv("DATABASE"))
	if err != nil {
		log.Fatal(err)
	}
	if err := Up(ctx, locker, m); err != nil {
		log.Fatal(err)
	}
	if source, database := m.Close(); source != nil || database != nil {
		log.Print(errors.Join(source, database))
	}
	if err := lock.Close(locker); err != nil {
		log.Print(err)
	}
}

// Up applies what is missing. It waits for another that migrates.
//
// golang-migrate knows no context. When ours ends, no further migration begins, but the one
// under way goes on, also after the lock was lost; the error matches lock.ErrLost then,
// and keepalive logs that the work outlives its lease. So that this stays rare, Margin is
// longer than most migrations take. Write them so that they can run twice.
func Up(ctx context.Context, l lock.Locker, m *migrate.Migrate) error {
	const ttl = time.Minute
	return keepalive.Do(ctx, l, "migrate/app", ttl, func(ctx context.Context) error {
		for ctx.Err() == nil {
			err := m.Steps(1)
			if errors.Is(err, os.ErrNotExist) {
				return nil // there is no further one
			}
			if err != nil {
				return err
			}
		}
		return fmt.Errorf("migrations may be left: %w", context.Cause(ctx))
	}, &keepalive.Options{Interval: ttl / 4, Margin: ttl / 4, Logger: slog.Default()})
}
