package postgres_test

import (
	"context"
	"log"
	"time"

	"github.com/tonsurance/lockkeeper/backends/postgres"
	"github.com/tonsurance/lockkeeper/keepalive"
)

// It needs a server, so it is compiled and not run.
func ExampleNew() {
	l, err := postgres.New("postgres://app:secret@db/app", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	report := func(ctx context.Context) error { return nil } // ctx ends before another can have the key
	if err := keepalive.Do(context.Background(), l, "nightly-report", 30*time.Second, report, nil); err != nil {
		log.Print(err)
	}
}
