// Package programtest builds programs of this module for tests, and runs them as processes:
// lockkeeper, an example, or any other command.
//
//	func TestMain(m *testing.M) { os.Exit(programtest.Main(m)) }
//
//	p := programtest.Start(t, exec.Command(programtest.Lockkeeper(t), "run", "prices", "--", "./keeper"))
//	p.Sees(t, "holding")
//	p.Signal(t, os.Interrupt)
//	require.Zero(t, p.Exits(t), &p.Out)
//
// What a process does not do within [Limit] fails the test.
package programtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// builds are those of this test binary.
var builds struct {
	mu   sync.Mutex // guards all below, and is held while one is built
	dir  string     // "": Main does not run
	made map[string]build
}

type build struct {
	path string
	err  error
}

// Main runs the tests, removes what they have built, and returns the status: for TestMain.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "programtest-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	builds.mu.Lock()
	builds.dir, builds.made = dir, map[string]build{}
	builds.mu.Unlock()
	return m.Run()
}

// Lockkeeper is the path of the command. It stands alone in its folder. It is built by the first
// test that asks for it, in the modules of go.work.
func Lockkeeper(t testing.TB) string {
	t.Helper()
	return Build(t, "github.com/tonsurance/lockkeeper/cmd/lockkeeper")
}

// Build returns the path of the program of a package, which may be relative to the test's own.
// It stands alone in its folder, and is built once for a test binary. TestMain must call [Main].
func Build(t testing.TB, pkg string) string {
	t.Helper()
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if builds.dir == "" {
		t.Fatal("programtest: TestMain does not call programtest.Main, which removes what is built")
	}
	b, ok := builds.made[pkg]
	if !ok {
		b.path, b.err = goBuild(builds.dir, pkg)
		builds.made[pkg] = b
	}
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

// BuildIn is [Build] where [Main] runs. Elsewhere, as in a program that is no test, it builds in
// dir, for the caller alone.
func BuildIn(t testing.TB, dir, pkg string) string {
	t.Helper()
	builds.mu.Lock()
	once := builds.dir != ""
	builds.mu.Unlock()
	if once {
		return Build(t, pkg)
	}
	path, err := goBuild(dir, pkg)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func goBuild(dir, pkg string) (path string, err error) {
	if dir, err = os.MkdirTemp(dir, ""); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator), pkg)
	cmd.Env = append(os.Environ(), "GOWORK=") // the command is a module of its own
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("programtest: building %s: %w: %s", pkg, err, out)
	}
	built, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(built) != 1 {
		return "", fmt.Errorf("programtest: building %s: got %d files, want one program", pkg, len(built))
	}
	return filepath.Join(dir, built[0].Name()), nil
}
