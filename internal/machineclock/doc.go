// Package machineclock reads the machine's own clock: one that all of its processes share,
// that nobody can set, and that starts again with each boot.
package machineclock
