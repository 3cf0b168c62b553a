package storetest

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// StartDynalite starts dynalite, which stands in for DynamoDB: with tables in memory and in no
// time. A machine without npm leaves out the tests that use it.
func StartDynalite(t testing.TB) *Server {
	t.Helper()
	dir, ok := built("dynalite")
	node, err := exec.LookPath("node")
	if !ok || err != nil {
		if _, err := exec.LookPath("npm"); err != nil {
			t.Skip("no dynalite, and no npm to install it")
		}
		missing(t, "dynalite")
	}
	s := newServer(t, "dynalite")
	s.command = func() *exec.Cmd {
		return exec.Command(node, filepath.Join(dir, "node_modules", "dynalite", "cli.js"), "--host", "127.0.0.1", "--port", strconv.Itoa(s.port),
			"--createTableMs", "0", "--deleteTableMs", "0")
	}
	s.ready = s.accepts
	s.Restart()
	return s
}
