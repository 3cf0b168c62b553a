//go:build unix && !linux

package cli

import "syscall"

// setDeathSignal does nothing: the guard alone ends the command.
func setDeathSignal(*syscall.SysProcAttr) {}
