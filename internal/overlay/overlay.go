// Package overlay builds the module with some lines of its source changed, by go's
// -overlay: nothing of it is in the source or in any released build.
package overlay

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Change replaces Old, which must be in File exactly once, by New.
type Change struct {
	File     string // from the module's root, or an absolute path
	Old, New string
}

// Seeded takes the library's jitter from a source that can be seeded, so that a
// simulation's seed replays.
var Seeded = seeded("lock/pace.go", "lock/all.go", "lock/semaphore.go", "keepalive/renew.go", "leader/leader.go", "redlock/standing.go",
	"backends/record/watch.go", "backends/record/queue.go")

func seeded(files ...string) (changes []Change) {
	for _, file := range files {
		change := Change{file, `"math/rand/v2"`, `rand "github.com/tonsurance/lockkeeper/internal/simulation/seeded"`}
		if file == "redlock/standing.go" { // it has another name for it
			change.New = `"github.com/tonsurance/lockkeeper/internal/simulation/seeded"`
		}
		changes = append(changes, change)
	}
	return changes
}

// Ordered takes the dice out of Go's runtime, which shuffles maps (a context's
// children among them, when it is cancelled) and the cases of a select: with Seeded
// and one processor, a simulation's seed then replays exactly.
func Ordered(goroot string) []Change {
	file := filepath.Join(goroot, "src", "runtime", "rand.go")
	return []Change{
		{file, "func rand() uint64 {\n", "func rand() uint64 {\n\tif true {\n\t\treturn 0x9e3779b97f4a7c15\n\t}\n"},
		{file, "func cheaprand() uint32 {\n", "func cheaprand() uint32 {\n\tif true {\n\t\treturn 0x9e3779b9\n\t}\n"},
	}
}

// Write puts the changed files and the overlay's JSON into dir, and gives the path
// for -overlay. A change that does not fit the source is an error.
func Write(root, dir string, changes []Change) (string, error) {
	texts := map[string]string{}
	for _, c := range changes {
		text, ok := texts[c.File]
		if !ok {
			b, err := os.ReadFile(at(root, c.File))
			if err != nil {
				return "", err
			}
			text = string(b)
		}
		if n := strings.Count(text, c.Old); n != 1 {
			return "", fmt.Errorf("%s has these lines %d times, want once:\n%s", c.File, n, c.Old)
		}
		texts[c.File] = strings.Replace(text, c.Old, c.New, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		path := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[at(root, file)] = path
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, b, 0o600)
}

func at(root, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(root, file)
}

// Root is the module's folder, above the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		b, readErr := os.ReadFile(filepath.Join(dir, "go.mod"))
		if readErr == nil && strings.HasPrefix(string(b), "module github.com/tonsurance/lockkeeper\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod of lockkeeper above the working directory")
		}
		dir = up
	}
	return "", err
}
