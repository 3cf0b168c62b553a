package redistest

import (
	"math/rand/v2"
	"testing"
)

// Ports are chosen outside the range from which systems take the ports of outgoing
// connections: one of those could sit on a killed server's port, or even connect to itself
// there. The bus of a cluster's server has the port that is busAbove higher.
const (
	lowPort  = 10_000
	highPort = 32_000 // excluded
	busAbove = 10_000
)

// FreePort chooses a free TCP port on 127.0.0.1. Until the test has ended it is given to
// nobody else, also not in another process, and also not while the server there is killed: many
// packages run their servers side by side, and a cluster that chooses nine ports before
// it uses the first would sooner or later meet another one that does the same. Only Linux
// keeps this promise; elsewhere the port is free at this moment.
func FreePort(t testing.TB) int {
	t.Helper()
	return freePort(t, highPort)
}

// FreeBusPort is a free port with another free one busAbove higher, for the bus of a cluster.
func FreeBusPort(t testing.TB) int {
	t.Helper()
	return freePort(t, highPort-busAbove, busAbove)
}

// freePort reserves a port from lowPort to below high, and those that lie this much above it.
func freePort(t testing.TB, high int, above ...int) int {
	t.Helper()
	for range 1000 {
		port := lowPort + rand.IntN(high-lowPort)
		if reserveAll(t, append(above[:len(above):len(above)], 0), port) {
			return port
		}
	}
	t.Fatalf("redistest: no free port on 127.0.0.1 between %d and %d", lowPort, high)
	return 0
}

// reserveAll reserves all the ports that lie this much above one until the test ends, or none.
func reserveAll(t testing.TB, above []int, port int) bool {
	t.Helper()
	var releases []func()
	release := func() {
		for _, f := range releases {
			f()
		}
	}
	for _, n := range above {
		f, err := reserve(port + n)
		if err != nil {
			release()
			return false
		}
		releases = append(releases, f)
	}
	t.Cleanup(release)
	return true
}
