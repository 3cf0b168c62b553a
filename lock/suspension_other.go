//go:build !linux

package lock

import "time"

func suspendedTotal() (time.Duration, bool) { return 0, false }

func suspendedAtMost() (time.Duration, bool) { return 0, false }
