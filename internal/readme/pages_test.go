package readme

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// pages are all Markdown files of the project, by their path from its root.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == ".github" || d.Name() == "testdata" || d.Name() == "dist"):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".md"):
			rel, err := filepath.Rel(root, path)
			found = append(found, filepath.ToSlash(rel))
			return err
		}
		return nil
	})
	require.NoError(t, err)
	require.Contains(t, found, "README.md")
	require.Greater(t, len(found), 10)
	return found
}

// historical pages speak of what was so then: names in them may be gone.
func historical(page string) bool {
	return page == "CHANGELOG.md" || strings.HasPrefix(page, "internal/docs/decisions/")
}

// fences are code blocks, of three backquotes; spans are code within a line.
var (
	fences = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	spans  = regexp.MustCompile("`[^`]*`")
)

func TestLinksLeadSomewhere(t *testing.T) {
	checked := 0
	for _, page := range pages(t) {
		prose := spans.ReplaceAllString(fences.ReplaceAllString(read(t, page), ""), "code")
		for _, m := range regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`).FindAllStringSubmatch(prose, -1) {
			target := filepath.Join(filepath.Dir(page), m[1])
			if strings.Contains(m[1], "://") {
				continue
			}
			if m[1] == "" {
				target = page
			}
			_, err := os.Stat(filepath.Join(root, target))
			require.NoError(t, err, "%s links to %s", page, m[1])
			if m[2] != "" {
				require.Contains(t, anchors(read(t, target)), m[2], "%s links to %s", page, m[0])
			}
			checked++
		}
	}
	require.Greater(t, checked, 100)
}

// anchors are the names that a page's headings get.
func anchors(text string) []string {
	var found []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
		name := regexp.MustCompile(`[^a-z0-9_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(name, " ", "-"))
	}
	return found
}

// Tables, code and headings can't be wrapped; a link or a code span that has no
// blank can't either.
func TestLinesAreWrapped(t *testing.T) {
	for _, page := range pages(t) {
		for line := range strings.Lines(fences.ReplaceAllString(read(t, page), "")) {
			line = strings.TrimRight(line, "\n")
			if strings.HasPrefix(line, "|") || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "<!--") {
				continue
			}
			if strings.Contains(strings.TrimSpace(line), " ") {
				require.LessOrEqual(t, utf8.RuneCountInString(line), 100, "%s: a line is longer than 100 characters:\n%s", page, line)
			}
		}
	}
}

// The README is for five minutes.
func TestTheREADMEIsShort(t *testing.T) {
	require.LessOrEqual(t, strings.Count(read(t, "README.md"), "\n"), 250)
}

// Decisions are found by their headings, each with its day and status.
func TestEachDecisionHasItsDayAndItsStatus(t *testing.T) {
	const dir = "internal/docs/decisions/"
	index := read(t, dir+"README.md")
	entry := regexp.MustCompile(`^\n\n\*20\d\d-\d\d-\d\d, (in force|withdrawn|superseded by \[[^\]]+\]\([^)]+\))\.\*\n\n\S`)
	entries := 0
	for _, page := range pages(t) {
		name, ok := strings.CutPrefix(page, dir)
		if !ok || name == "README.md" {
			continue
		}
		require.Contains(t, index, "]("+name+")")
		text := read(t, page)
		for _, at := range regexp.MustCompile(`(?m)^## .*$`).FindAllStringIndex(text, -1) {
			require.Regexp(t, entry, text[at[1]:], "%s: %s", page, text[at[0]:at[1]])
			entries++
		}
	}
	require.Greater(t, entries, 100)
}

var testFuncs = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)

// Pages name tests as evidence: each is there, and so is each file of this module.
func TestNamedTestsAndFilesExist(t *testing.T) {
	tests := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, m := range testFuncs.FindAllStringSubmatch(string(src), -1) {
			tests[m[1]] = true
		}
		return err
	})
	require.NoError(t, err)
	named, files := 0, 0
	for _, page := range pages(t) {
		if historical(page) {
			continue
		}
		text := fences.ReplaceAllString(read(t, page), "")
		for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)(?:[A-Z0-9]\w+)`).FindAllString(text, -1) {
			if name != "TestXxx" {
				require.True(t, tests[name], "%s names %s, which is no test", page, name)
				named++
			}
		}
		for _, m := range regexp.MustCompile("`((?:lock|leader|keepalive|redlock|backends|internal|docker|cmd|examples|\\.ci|\\.github)/[\\w./-]+)`").FindAllStringSubmatch(text, -1) {
			_, err := os.Stat(filepath.Join(root, m[1]))
			require.NoError(t, err, "%s names %s", page, m[1])
			files++
		}
	}
	require.Greater(t, named, 50)
	require.Greater(t, files, 50)
}
