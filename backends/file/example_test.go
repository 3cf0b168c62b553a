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

func Example() {
	base, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(base)
	// A service would use /run/<program>, and a program whose user named no directory
	// file.DefaultDir.
	dir := filepath.Join(base, "locks")
	one, err := file.New(dir, &file.Options{Owner: "one"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer one.Close()
	other, err := file.New(dir, nil) // in another process, say
	if err != nil {
		fmt.Println(err)
		return
	}
	defer other.Close()

	ctx := context.Background()
	lease, err := one.TryAcquire(ctx, "nightly-report", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = other.TryAcquire(ctx, "nightly-report", time.Minute)
	info, _ := other.Inspect(ctx, "nightly-report")
	fmt.Println(errors.Is(err, lock.ErrHeld), info.Holder)
	fmt.Println(lease.Release(ctx))
	// Output:
	// true one
	// <nil>
}
