// Package conformtest runs the suites on a store, and holds the tables in backends/README.md
// of what each store has shown against what came out. With [UpdateEnv] set, it writes its rows.
package conformtest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/backends/record/recordtest"
	"github.com/tonsurance/lockkeeper/internal/doctables"
	"github.com/tonsurance/lockkeeper/lock/locktest"
)

// UpdateEnv set to 1 has the tests write their rows; make conformance does.
const UpdateEnv = "LOCKKEEPER_UPDATE_CONFORMANCE"

// Page is the one with the tables, below the repository's root.
const Page = "backends/README.md"

// Locks runs package locktest, and checks the row of that name in the table of runs.
func Locks(t *testing.T, name string, h locktest.Harness) {
	t.Helper()
	ran, without := 0, map[string][]string{}
	h.OnCase = func(c, missing string) {
		if missing == "" {
			ran++
		} else {
			without[missing] = append(without[missing], c)
		}
	}
	locktest.Run(t, h)
	check(t, "locks", row(name, fmt.Sprint(ran), leftOut(without)))
}

// leftOut names the cases that were skipped, by what was missing.
func leftOut(without map[string][]string) string {
	var all []string
	for missing, cases := range without {
		slices.Sort(cases)
		all = append(all, fmt.Sprintf("%s: `%s`", missing, strings.Join(cases, "`, `")))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// Store runs package recordtest, and checks the row of that name in the table of registers.
func Store(t *testing.T, name string, s recordtest.Stores) {
	t.Helper()
	store := s.Dial(t)
	recordtest.Run(t, s)
	_, watches := store.(record.Watcher)
	_, lists := store.(record.Lister)
	_, deletes := store.(record.Deleter)
	_, describes := store.(record.Describer)
	cells := []string{name}
	for _, has := range []bool{s.Ages, watches, lists, deletes, describes} {
		if has {
			cells = append(cells, "yes")
		} else {
			cells = append(cells, "")
		}
	}
	check(t, "stores", row(cells...))
}

func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |" }

// writing is held from the reading of the page to its writing: tests of a package may run side
// by side.
var writing sync.Mutex

// check holds one row of a table against the page, or writes it.
func check(t *testing.T, table, want string) {
	t.Helper()
	if f := flag.Lookup("test.run"); t.Failed() || f != nil && strings.Contains(f.Value.String(), "/") {
		return // a part of the cases is no answer
	}
	root, err := doctables.Root()
	if err != nil {
		t.Fatalf("conformtest: %v", err)
	}
	path := filepath.Join(root, filepath.FromSlash(Page))
	writing.Lock()
	defer writing.Unlock()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("conformtest: %v", err)
	}
	now, found, err := with(string(text), table, want)
	switch {
	case err != nil:
		t.Errorf("conformtest: %s: %v", Page, err)
	case now == string(text):
	case os.Getenv(UpdateEnv) == "1":
		if err := os.WriteFile(path, []byte(now), 0o644); err != nil {
			t.Errorf("conformtest: %v", err)
		}
	default:
		t.Errorf("conformtest: %s has the row\n%q, want\n%q: make conformance writes it", Page, found, want)
	}
}

// generated is a table of the page, and what is around it.
type generated struct {
	before, after string
	head, rows    []string
}

func find(page, table string) (g generated, err error) {
	begin, end := "<!-- "+table+": written by make conformance -->\n", "<!-- end of "+table+" -->"
	before, rest, ok1 := strings.Cut(page, begin)
	body, after, ok2 := strings.Cut(rest, end)
	lines := strings.Split(strings.Trim(body, "\n"), "\n")
	if !ok1 || !ok2 || len(lines) < 2 {
		return g, fmt.Errorf("no table between %q and %q", strings.TrimSpace(begin), end)
	}
	return generated{before + begin + "\n", "\n\n" + end + after, lines[:2], lines[2:]}, nil
}

// with is the page with that row in a table, in place of the one of the same name, which it
// returns too, or else where it belongs by its name.
func with(page, table, want string) (changed, found string, err error) {
	g, err := find(page, table)
	if err != nil {
		return "", "", err
	}
	i, there := slices.BinarySearchFunc(g.rows, name(want), func(row, want string) int { return strings.Compare(name(row), want) })
	if there {
		found = g.rows[i]
		g.rows[i] = want
	} else {
		g.rows = slices.Insert(g.rows, i, want)
	}
	return g.before + strings.Join(append(g.head, g.rows...), "\n") + g.after, found, nil
}

// name is the first cell of a row, by which rows are in order.
func name(row string) string {
	cell, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
	return strings.ToLower(cell)
}

// Rows are the names in the page's table "locks" or "stores", in lower case.
func Rows(page, table string) (names []string, err error) {
	g, err := find(page, table)
	for _, row := range g.rows {
		names = append(names, name(row))
	}
	return names, err
}
