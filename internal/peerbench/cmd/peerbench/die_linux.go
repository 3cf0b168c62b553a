package main

import (
	"os/exec"
	"syscall"
)

// dieWithUs ends the process with the bench, however that one ends.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
