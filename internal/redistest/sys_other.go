//go:build !linux

package redistest

import "os/exec"

func dieWithUs(*exec.Cmd) {}

func waitStopped(int) error { return nil }
