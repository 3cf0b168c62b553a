//go:build !linux

package redistest

func waitStopped(int) error { return nil }
