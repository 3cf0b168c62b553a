//go:build unix && !linux && !darwin && !dragonfly && !freebsd && !netbsd && !openbsd

package procgroup

import "os"

var passedOnHere []os.Signal
