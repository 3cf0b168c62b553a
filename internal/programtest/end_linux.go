package programtest

import (
	"os/exec"
	"syscall"
)

// EndWithParent makes cmd, which has not started, end with this process, however that one ends: a
// test that runs into its time limit cleans nothing up. It keeps what SysProcAttr says else.
// Only Linux can do that; elsewhere it does nothing.
func EndWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
