package main

import (
	"os/exec"
	"syscall"
)

// dieWithUs ends the process with the parent, however that one ends.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
