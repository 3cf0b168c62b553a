//go:build !linux

package storetest

import (
	"errors"
	"os"
	"os/exec"
)

var errLinuxOnly = errors.New("only Linux can do this to a process and all that it started")

func as(*exec.Cmd, int, int) {}

func stopAll(*os.Process) error { return errLinuxOnly }

func continueAll(*os.Process) error { return errLinuxOnly }

func killAll(p *os.Process) error { return p.Kill() }
