// Package leftout makes a plain "go test ./..." say which tests it had to leave
// out for want of a real server. go test hides the output of packages that pass,
// their skips included, so the note goes to where go test itself writes.
package leftout

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

func TestMain(m *testing.M) {
	if redistest.Binary() != "" {
		os.Exit(m.Run())
	}
	flag.Parse()
	note, err := leftOut("../..")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if !testing.Verbose() {
		tellUser(note)
	}
	fmt.Println(note)
	if os.Getenv(redistest.RequireEnv) == "1" {
		os.Exit(1)
	}
	// go test shows this as "[no tests to run]" where nothing else gets through.
	// Without m.Run the result is not cached: the next run reports it again.
	fmt.Println("testing: warning: no tests to run")
	os.Exit(0)
}

// tellUser writes past the capture of go test: to the standard error of the go
// command that runs this test, else to the terminal. If there is neither, the
// mark of TestMain has to do.
func tellUser(note string) {
	parent := fmt.Sprintf("/proc/%d", os.Getppid())
	paths := []string{"/dev/tty"}
	if exe, err := os.Readlink(parent + "/exe"); err == nil && filepath.Base(exe) == "go" {
		paths = append([]string{parent + "/fd/2"}, paths...)
	}
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			continue
		}
		_, err = fmt.Fprintln(f, note)
		f.Close()
		if err == nil {
			return
		}
	}
}

// leftOut names the packages under root whose tests use real servers.
func leftOut(root string) (string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		inRedistest := dir == filepath.Join("internal", "redistest")
		if inRedistest || strings.Contains(string(src), `lockkeeper/internal/redistest"`) {
			dirs = append(dirs, "./"+filepath.ToSlash(dir))
		}
		return err
	})
	slices.Sort(dirs)
	dirs = slices.DeleteFunc(slices.Compact(dirs), func(dir string) bool { return dir == "./internal/leftout" })
	return fmt.Sprintf("lockkeeper: %s: %s", redistest.Missing, strings.Join(dirs, ", ")), err
}

func TestNoteNamesThePackagesThatUseServers(t *testing.T) {
	note, err := leftOut("../..")
	require.NoError(t, err)
	require.Contains(t, note, redistest.Missing)
	require.Contains(t, note, "./internal/redistest")
	require.NotContains(t, note, "leftout")
	require.NotContains(t, note, "./lock,")
}
