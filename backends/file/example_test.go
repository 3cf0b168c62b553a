//go:build linux || darwin || freebsd

package file_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tonsurance/lockkeeper/backends/file"
	"github.com/tonsurance/lockkeeper/lock"
)

// Two processes of one machine, here in one: they share a directory, and nothing else.
func ExampleNew() {
	temp, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(temp)
	dir := filepath.Join(temp, "locks") // yours is /run/keeper/locks
	first, err := file.New(dir, &file.Options{Owner: "first"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer first.Close()
	second, err := file.New(dir, &file.Options{Owner: "second"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer second.Close()

	ctx := context.Background()
	lease, err := first.TryAcquire(ctx, "prices", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = second.TryAcquire(ctx, "prices", time.Minute)
	if held, ok := errors.AsType[*lock.HeldError](err); ok {
		fmt.Println("held by", held.Holder)
	}
	if err := lease.Release(ctx); err != nil {
		fmt.Println(err)
		return
	}
	next, err := second.TryAcquire(ctx, "prices", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the next token is larger:", next.Token() > lease.Token())
	// Output:
	// held by first
	// the next token is larger: true
}
