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

// Seeded takes from a source that can be seeded all that is random in the library: its
// jitter, and the names of waits and values, which break ties. And it takes a machine to be
// suspended never, since that is read from the real clock, where a thread that is held up
// looks like a short suspension. So a simulation's seed replays.
var Seeded = append(append(seeded("lock/pauses.go", "lock/all.go", "lock/semaphore.go", "keepalive/renew.go", "leader/leader.go", "redlock/standing.go",
	"backends/record/watch.go", "backends/record/queue.go"),
	named("redlock/value.go", "redlock/standing.go", "redlock/pushes.go", "backends/record/acquire.go", "backends/record/locker.go")...),
	Change{"lock/suspension.go", "\tif !ok {\n", "\tif !ok || true {\n"})

// named is for files that make names by crypto/rand.
func named(files ...string) (changes []Change) {
	for _, file := range files {
		changes = append(changes, Change{file, `"crypto/rand"`, `rand "github.com/tonsurance/lockkeeper/internal/simulation/seeded"`})
	}
	return changes
}

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

// Ordered takes the dice out of Go's runtime, which shuffles maps and the cases of a
// select, and interrupts a goroutine when the machine is busy. A context's children end in
// the order in which they were made: they are the keys of a map, whose order is that of
// their addresses, and so depends on what ran before. With Seeded and one processor, a
// simulation's seed then replays exactly, alone and among others.
func Ordered(goroot string) []Change {
	file := filepath.Join(goroot, "src", "runtime", "rand.go")
	proc := filepath.Join(goroot, "src", "runtime", "proc.go")
	context := filepath.Join(goroot, "src", "context", "context.go")
	return []Change{
		{proc, "func preemptone(pp *p) bool {\n", "func preemptone(pp *p) bool {\n\tif true {\n\t\treturn false\n\t}\n"},
		{context, "\tchildren map[canceler]struct{} // set to nil by the first cancel call\n", "\tchildren map[canceler]struct{} // set to nil by the first cancel call\n\torder    []canceler\n"},
		{context, "\t\t\tp.children[child] = struct{}{}\n", "\t\t\tp.children[child] = struct{}{}\n\t\t\tp.order = append(p.order, child)\n"},
		{context, "\t\tdelete(p.children, child)\n", "\t\tdelete(p.children, child)\n\t\tfor i, o := range p.order {\n\t\t\tif o == child {\n\t\t\t\tp.order = append(p.order[:i:i], p.order[i+1:]...)\n\t\t\t\tbreak\n\t\t\t}\n\t\t}\n"},
		{context, "\tfor child := range c.children {\n", "\tfor _, child := range c.order {\n"},
		{context, "\tc.children = nil\n", "\tc.children, c.order = nil, nil\n"},
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
