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
	node, dir := Node(t), NodePackage(t, "dynalite")
	s := newServer(t, "dynalite")
	s.command = func() *exec.Cmd {
		return exec.Command(node, filepath.Join(dir, "node_modules", "dynalite", "cli.js"), "--host", "127.0.0.1", "--port", strconv.Itoa(s.port),
			"--createTableMs", "0", "--deleteTableMs", "0")
	}
	s.ready = s.accepts
	s.Restart()
	return s
}

// Node is the program node. A machine without it, or without npm to install what a test
// needs, leaves the test out.
func Node(t testing.TB) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node")
	}
	return node
}

// NodePackage is the folder into which a script of internal/scripts has installed a package
// for node, with its node_modules.
func NodePackage(t testing.TB, name string) string {
	t.Helper()
	dir, ok := built(name)
	if !ok {
		if _, err := exec.LookPath("npm"); err != nil {
			t.Skip("no " + name + ", and no npm to install it")
		}
		missing(t, name)
	}
	return dir
}
