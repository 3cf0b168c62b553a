package cli

import "syscall"

// setDeathSignal: the command dies with the thread that has started it.
func setDeathSignal(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
