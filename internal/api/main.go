// Command api holds the exported names of this module against those of its last
// version, so that none changes unnoticed:
//
//	go run ./internal/api            fail unless next.txt has what changed
//	go run ./internal/api -update    write what changed into next.txt
//	go run ./internal/api -release   what is exported now is the last version's
//
// last.txt has a line for each exported function, method, type, field, constant and
// variable of the last version, next.txt what was added (+) and removed (-) since:
// every such change is seen in a review. Types are compared as they are written.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var (
	update  = flag.Bool("update", false, "write what changed since the last version into next.txt")
	release = flag.Bool("release", false, "write what is exported now into last.txt, and empty next.txt")
	root    = flag.String("root", ".", "the module's `directory`")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

func run() error {
	now, err := exported(*root)
	if err != nil {
		return err
	}
	if len(now) == 0 {
		return fmt.Errorf("no exported name below %s", *root)
	}
	dir := filepath.Join(*root, "internal", "api")
	lastFile, nextFile := filepath.Join(dir, "last.txt"), filepath.Join(dir, "next.txt")
	if *release {
		if err := writeLines(lastFile, now); err != nil {
			return err
		}
		return writeLines(nextFile, nil)
	}
	last, err := readLines(lastFile)
	if err != nil {
		return err
	}
	changed := diff(last, now)
	if *update {
		return writeLines(nextFile, changed)
	}
	said, err := readLines(nextFile)
	if err != nil {
		return err
	}
	if d := diff(said, changed); len(d) > 0 {
		return fmt.Errorf("what is exported is not what last.txt and next.txt say (+ is not said, - is not so). "+
			"If it is meant: go run ./internal/api -update, and a line in CHANGELOG.md.\n%s", strings.Join(d, "\n"))
	}
	fmt.Printf("%d exported names, %d of them changed since the last version\n", len(now), len(changed))
	return nil
}

// diff has the lines of b that are not in a, after a "+ ", and the other way round,
// after a "- ", in order.
func diff(a, b []string) []string {
	var changed []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			changed = append(changed, "- "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			changed = append(changed, "+ "+line)
		}
	}
	slices.SortFunc(changed, func(x, y string) int { return strings.Compare(x[2:]+x[:1], y[2:]+y[:1]) })
	return changed
}

func readLines(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return line == "" }), nil
}

func writeLines(path string, lines []string) error {
	text := ""
	for _, line := range lines {
		text += line + "\n"
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
