// Goose migrates a database under a lock, so that many copies of a program may migrate at
// their start, and each goes on when the schema is there.
//
//	LOCKS=redlock://h1,h2,h3 go run ./goose app.db
//
// Postgres' own session lock (goose.WithSessionLocker) is the better one where all that is
// migrated is one Postgres database, without a pooler that changes sessions: it ends
// with the connection that migrates. This is for the others, and for migrations of
// several databases that belong together.
package main

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite"

	"github.com/tonsurance/lockkeeper/backends"
	"github.com/tonsurance/lockkeeper/keepalive"
	"github.com/tonsurance/lockkeeper/lock"
)

//go:embed migrations/*.sql
var files embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 2 {
		log.Fatal("usage: goose FILE")
	}
	locker, err := backends.Open(ctx, os.Getenv("LOCKS"))
	if err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	n, err := Migrate(ctx, locker, db)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("%d migrations applied", n)
	if err := lock.Close(locker); err != nil {
		log.Print(err)
	}
}

// Migrate applies what is missing, and says how many that were. It waits for another that
// migrates, and then finds nothing left to do.
//
// The migrations' context ends before the lock can pass on, and goose rolls the one under
// way back. One that runs outside a transaction (goose's NO TRANSACTION, MySQL's DDL)
// may be half done then; and one that a paused process has sent may be applied beside the next
// one's: write these so that they can run twice.
func Migrate(ctx context.Context, l lock.Locker, db *sql.DB) (applied int, err error) {
	dir, err := fs.Sub(files, "migrations")
	if err != nil {
		return 0, err
	}
	migrations, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return 0, fmt.Errorf("read the migrations: %w", err)
	}
	err = keepalive.Do(ctx, l, "migrate/app", 30*time.Second, func(ctx context.Context) error {
		results, err := migrations.Up(ctx)
		applied = len(results)
		return err
	}, &keepalive.Options{Logger: slog.Default()})
	return applied, err
}
