package redistest

import (
	"errors"
	"os"
)

var errNoSignals = errors.New("this system can't stop a process")

func pause(*os.Process) error { return errNoSignals }

func resume(*os.Process) error { return errNoSignals }
