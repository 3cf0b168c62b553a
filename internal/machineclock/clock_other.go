//go:build !linux && !darwin && !freebsd

package machineclock

import (
	"errors"
	"time"
)

// Clock is not known on this system.
type Clock struct{}

// New says that there is none.
func New() (Clock, error) { return Clock{}, errors.ErrUnsupported }

// Now is not called.
func (Clock) Now() time.Duration { return 0 }

// BootID says that there is none.
func BootID() (string, error) { return "", errors.ErrUnsupported }
