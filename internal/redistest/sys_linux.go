package redistest

import (
	"bytes"
	"fmt"
	"os"
	"time"
)

// waitStopped returns when the process has stopped: the signal is sent before it
// is acted on, and one more command could be answered in between.
func waitStopped(pid int) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		// The state follows the program's name, which is in parentheses.
		if i := bytes.LastIndexByte(stat, ')'); i >= 0 && bytes.HasPrefix(stat[i:], []byte(") T")) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d has not stopped after 10s: %s", pid, stat)
		}
		time.Sleep(100 * time.Microsecond)
	}
}
