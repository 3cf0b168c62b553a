package main

import (
	"os/exec"
	"syscall"
)

// dieWithUs ends the process with the parent, however that one ends. A Ctrl-C is the
// parent's: it notifies the others.
func dieWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
