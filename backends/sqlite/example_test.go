package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/sqlite"
	"github.com/tonsurance/lockkeeper/lock"
)

// Two processes of one machine, here in one: they share a database file.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.db") // yours is /var/lib/app/app.db
	first, err := sqlite.New(path, &sqlite.Options{Record: record.Options{Owner: "first"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer first.Close()
	second, err := sqlite.New(path, &sqlite.Options{Record: record.Options{Owner: "second"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer second.Close()

	ctx := context.Background()
	lease, err := first.TryAcquire(ctx, "nightly-report", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = second.TryAcquire(ctx, "nightly-report", time.Minute)
	if held, ok := errors.AsType[*lock.HeldError](err); ok {
		fmt.Println("held by", held.By())
	}
	fmt.Println("released:", lease.Release(ctx) == nil)
	// Output:
	// held by first
	// released: true
}
