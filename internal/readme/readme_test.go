// Package readme keeps README.md true: its code is built and run, its links and
// the keeper's settings exist.
package readme

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(text)
}

// blocks are the Go blocks by the file that the comment before each names.
func blocks(t *testing.T, text string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)<!-- file: (\\S+) -->\n```go\n(.*?)```").FindAllStringSubmatch(text, -1) {
		require.NotContains(t, files, m[1], "two blocks for one file")
		files[m[1]] = m[2]
	}
	require.Equal(t, strings.Count(text, "```go\n"), len(files), "each Go block needs <!-- file: name --> on the line before it")
	return files
}

// module writes the blocks into a module of their own, as a reader would.
func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	abs, err := filepath.Abs(root)
	require.NoError(t, err)
	const path = "github.com/tonsurance/lockkeeper"
	mod := strings.Replace(read(t, "go.mod"), "module "+path, "module readme", 1) +
		"\nrequire " + path + " v0.0.0\nreplace " + path + " => " + abs + "\n"
	files := blocks(t, read(t, "README.md")+read(t, "internal/docs/deployments.md"))
	files["go.mod"], files["go.sum"] = mod, read(t, "go.sum")
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
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
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	limit := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	var said bytes.Buffer
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "leading with fencing token") {
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
		}
	}
	require.NoError(t, cmd.Wait(), said.String())
	require.Contains(t, said.String(), "leading with fencing token")
}

// The example keeper's help and its table name the same settings.
func TestTheKeepersSettingsAreAllInTheTable(t *testing.T) {
	help := goCommand(t, root, "run", "./examples/keeper", "-help")
	_, table, _ := strings.Cut(read(t, "README.md"), "## Configuration")
	table, _, _ = strings.Cut(table, "In code,")
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

func TestLinksLeadSomewhere(t *testing.T) {
	pages := []string{"README.md", "CONTRIBUTING.md"}
	docs, err := filepath.Glob(filepath.Join(root, "internal/docs/*.md"))
	require.NoError(t, err)
	for _, doc := range docs {
		rel, err := filepath.Rel(root, doc)
		require.NoError(t, err)
		pages = append(pages, rel)
	}
	checked := 0
	for _, page := range pages {
		prose := regexp.MustCompile("(?s)```.*?```|`[^`]*`").ReplaceAllString(read(t, page), "code")
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
	require.Greater(t, checked, 10)
}

// anchors are the names that a page's headings get.
func anchors(text string) []string {
	var found []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(name, " ", "-"))
	}
	return found
}
