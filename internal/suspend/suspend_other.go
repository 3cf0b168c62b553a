//go:build !linux

package suspend

import "time"

func total() (time.Duration, bool) { return 0, false }

func look() (time.Duration, bool) { return 0, false }
