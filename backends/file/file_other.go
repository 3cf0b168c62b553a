//go:build !(linux || darwin || freebsd)

package file

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// Locker can't be made on this system.
type Locker struct{}

var _ lock.Locker = (*Locker)(nil)

var errUnsupported = fmt.Errorf("file: %w: not supported on %s, only on Linux, macOS and FreeBSD", lock.ErrInvalid, runtime.GOOS)

// New fails on this system, with an error matching [lock.ErrInvalid].
func New(dir string, opts *Options) (*Locker, error) {
	if _, err := opts.withDefaults(); err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	if _, err := checkDir(dir); err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	return nil, errUnsupported
}

// DefaultDir fails on this system, with an error matching [lock.ErrInvalid].
func DefaultDir() (string, error) { return "", errUnsupported }

// TryAcquire fails on this system.
func (*Locker) TryAcquire(context.Context, string, time.Duration) (lock.Lease, error) {
	return nil, errUnsupported
}

// Close does nothing on this system.
func (*Locker) Close() error { return nil }
