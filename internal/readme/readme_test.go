// Package readme keeps the documents true: the code on a page is built and run, its
// commands are run or parsed, and its links, settings and defaults exist.
package readme

import (
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/programtest"
)

const (
	root       = "../.."
	modulePath = "github.com/tonsurance/lockkeeper"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(text)
}

// blocks are the Go blocks of a page, by the file that the comment before each names.
// A comment may name a function instead, whose body the block is.
func blocks(t *testing.T, page string) map[string]string {
	t.Helper()
	text, files := read(t, page), map[string]string{}
	for _, m := range regexp.MustCompile("(?s)<!-- (file|body): ([^\n]+) -->\n```go\n(.*?)```").FindAllStringSubmatch(text, -1) {
		name, code := m[2], m[3]
		if m[1] == "body" {
			name, code = body(t, m[2], m[3])
		}
		require.NotContains(t, files, name, "two blocks for one file")
		files[name] = code
	}
	require.Equal(t, strings.Count(text, "```go\n"), len(files),
		"%s: each Go block needs <!-- file: name --> or <!-- body: func name() --> on the line before it", page)
	return files
}

// body makes a file of the body of a function, with the imports that it uses. What the
// page leaves unused (a variable that it only shows) is used.
func body(t *testing.T, signature, code string) (name, file string) {
	t.Helper()
	name = regexp.MustCompile(`^func (\w+)\(`).FindStringSubmatch(signature)[1]
	imports := ""
	for _, path := range []string{
		"context", "log/slog", "time", modulePath + "/backends", modulePath + "/backends/kubernetes", modulePath + "/keepalive", modulePath + "/leader",
		modulePath + "/lock", modulePath + "/lock/lockotel", modulePath + "/redlock",
	} {
		if regexp.MustCompile(`\b` + filepath.Base(path) + `\.`).MatchString(signature + code) {
			imports += fmt.Sprintf("\t%q\n", path)
		}
	}
	used := ""
	if !regexp.MustCompile(`(?m)^return`).MatchString(code) {
		for _, m := range regexp.MustCompile(`(?m)^(\w+)(?:, err)? :=`).FindAllStringSubmatch(code, -1) {
			used += "\t_ = " + m[1] + "\n"
		}
	}
	text := fmt.Sprintf("package %s\n\nimport (\n%s)\n\n%s {\n%s%s}\n", name, imports, signature, code, used)
	formatted, err := format.Source([]byte(text))
	require.NoError(t, err)
	alone, err := format.Source([]byte(code))
	require.NoError(t, err)
	require.Equal(t, string(alone), code, "not gofmt-ed")
	return name + "/" + name + ".go", string(formatted)
}

// nested says whether a page stands in a module of its own.
func nested(t *testing.T, page string) bool {
	t.Helper()
	for dir := filepath.Dir(page); dir != "."; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(root, dir, "go.mod")); err == nil {
			return true
		}
	}
	return false
}

// module writes the blocks into a module of their own, as a reader would.
func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	abs, err := filepath.Abs(root)
	require.NoError(t, err)
	mod := strings.Replace(read(t, "go.mod"), "module "+modulePath, "module readme", 1) +
		"\nrequire " + modulePath + " v0.0.0\nreplace " + modulePath + " => " + abs + "\n"
	files := map[string]string{}
	for _, page := range pages(t) {
		if nested(t, page) {
			continue // its module tests it
		}
		for name, code := range blocks(t, page) {
			require.NotContains(t, files, name, "two blocks for one file")
			files[name] = code
		}
	}
	files["go.mod"], files["go.sum"] = mod, read(t, "go.sum")
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// The code of a page in a module of its own is built by that module, whose tests have it.
func TestTheCodeOfPagesInOtherModulesIsInTheirTests(t *testing.T) {
	plain := func(text string) string {
		return regexp.MustCompile(`(?m)^[ \t]+`).ReplaceAllString(text, "")
	}
	checked := 0
	for _, page := range pages(t) {
		text := read(t, page)
		if !nested(t, page) || regexp.MustCompile("<!-- (file|body): ").MatchString(text) {
			continue // lockotel's test builds it
		}
		sources, err := filepath.Glob(filepath.Join(root, filepath.Dir(page), "*_test.go"))
		require.NoError(t, err)
		built := ""
		for _, source := range sources {
			code, err := os.ReadFile(source)
			require.NoError(t, err)
			built += plain(string(code))
		}
		for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(text, -1) {
			require.True(t, strings.Contains(built, plain(m[1])), "%s shows code that no test beside it has:\n%s", page, m[1])
			checked++
		}
	}
	require.GreaterOrEqual(t, checked, 4)
}

func goCommand(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go %v: %s", args, out)
	return string(out)
}

func TestTheCodeBuildsAndItsTestsPass(t *testing.T) {
	dir := module(t)
	goCommand(t, dir, "vet", "./...")
	out := goCommand(t, dir, "test", "-v", "./...")
	require.Contains(t, out, "--- PASS: TestTheNextKeeperTakesOverWhenOneIsCutOff")
	require.Contains(t, out, "--- PASS: TestConformance")
	formatted, err := exec.CommandContext(t.Context(), "gofmt", "-l", dir).CombinedOutput()
	require.NoError(t, err)
	require.Empty(t, string(formatted), "not gofmt-ed")
}

func TestTheKeeperLeadsAndStopsOnInterrupt(t *testing.T) {
	dir := module(t)
	goCommand(t, dir, "build", "-o", "keeper.bin", "./keeper")
	cmd := exec.Command(filepath.Join(dir, "keeper.bin"))
	cmd.Env = append(os.Environ(), "LOCKS=file://"+filepath.Join(dir, "locks"))
	p := programtest.Start(t, cmd)
	p.Sees(t, "leading with fencing token")
	p.Signal(t, os.Interrupt)
	require.Zero(t, p.Exits(t), &p.Out)
}

// The example keeper's help and its table name the same settings.
func TestTheKeepersSettingsAreAllInTheTable(t *testing.T) {
	help := goCommand(t, root, "run", "./examples/keeper", "-help")
	_, table, _ := strings.Cut(read(t, "examples/README.md"), "with settings")
	table, _, _ = strings.Cut(table, "\n## ")
	names := func(re, text string) []string {
		var found []string
		for _, m := range regexp.MustCompile(re).FindAllStringSubmatch(text, -1) {
			found = append(found, m[1])
		}
		return found
	}
	flags := names(`(?m)^  -(\S+)`, help)
	require.NotEmpty(t, flags)
	require.ElementsMatch(t, flags, names("`-([a-z-]+)` \\|", table))
	env := names(`environment: (\w+)`, help)
	require.NotEmpty(t, env)
	require.ElementsMatch(t, env, names("(?m)^\\| `(\\w+)`", table))
}
