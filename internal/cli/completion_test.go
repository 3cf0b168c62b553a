//go:build unix

package cli

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// completions are what a shell would offer for the last of args. Nothing may go to
// standard error but cobra's own last line: it would stand in the prompt.
func completions(t *testing.T, url string, args ...string) []string {
	t.Helper()
	var out, err bytes.Buffer
	a := &app{out: &out, err: &err, getenv: func(name string) string { return map[string]string{"LOCKKEEPER_URL": url}[name] }}
	require.Zero(t, a.main(t.Context(), append([]string{"__complete"}, args...)))
	require.LessOrEqual(t, strings.Count(err.String(), "\n"), 1, err.String())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Regexp(t, `^:\d+$`, lines[len(lines)-1])
	all := []string{}
	for _, line := range lines[:len(lines)-1] {
		word, _, _ := strings.Cut(line, "\t")
		all = append(all, word)
	}
	return all
}

func TestCompletionOffersTheHeldKeys(t *testing.T) {
	defer func(was time.Duration) { completionTimeout = was }(completionTimeout)
	completionTimeout = testTimeout // that a busy machine offers none in time is no mistake
	url := fileURL(t)
	for _, key := range []string{"tenant:b", "other", "tenant:a", "line\nbreak"} {
		file := filepath.Join(t.TempDir(), "pids")
		start(t, url, nil, args([]string{"run", key}, family(file))...)
		pids(t, file, 2)
	}
	for _, command := range []string{"show", "release", "resign", "run", "lead", "list", "watch", "serve", "clear"} {
		require.Equal(t, []string{"tenant:a", "tenant:b"}, completions(t, url, command, "ten"), command)
	}
	require.Equal(t, []string{"other", "tenant:a", "tenant:b"}, completions(t, url, "show", ""))
	require.Empty(t, completions(t, url, "show", "other", ""), "one key is all that it takes")
	require.Equal(t, []string{"table", "json"}, completions(t, url, "watch", "--output", ""))
}

func TestCompletionIsSilentAboutWhatGoesWrong(t *testing.T) {
	for _, url := range []string{"nonsense", "file:///dev/null/x", "redlock://127.0.0.1:1", "redlock://user:hunter2@127.0.0.1:1"} {
		require.Empty(t, completions(t, url, "show", ""), url)
	}
}

func TestCompletionHasAScriptForEachShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		out, code := do(t, "", nil, "completion", shell)
		require.Zero(t, code)
		require.Contains(t, out, "__complete", shell)
	}
}

func TestEveryCommandHasHelpWithExamplesThatFits80Columns(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	out, code := do(t, "", nil, "--help")
	require.Zero(t, code)
	fits(t, out)
	for _, c := range a.root().Commands() {
		require.NotEmpty(t, c.Short, c.Name())
		require.Contains(t, c.Example, "lockkeeper "+c.Name(), c.Name())
		out, code := do(t, "", nil, c.Name(), "--help")
		require.Zero(t, code)
		require.Contains(t, out, "Examples:")
		fits(t, out)
	}
}

// fits fails unless a terminal of 80 columns has room for each line of a help.
func fits(t *testing.T, help string) {
	t.Helper()
	for line := range strings.Lines(help) {
		require.LessOrEqual(t, columns(strings.TrimRight(line, "\n")), 80, line)
	}
}

func TestVersionIsJSONToo(t *testing.T) {
	out, code := do(t, "", nil, "version", "--output=json")
	require.Zero(t, code)
	var v versionReport
	require.NoError(t, json.Unmarshal([]byte(out), &v), out)
	require.NotEmpty(t, v.Version)
	require.NotEmpty(t, v.Go)
}

func TestVersionSaysTheCommit(t *testing.T) {
	defer func(was string) { commit = was }(commit)
	commit = "0123456789abcdef0123456789abcdef01234567"
	var out bytes.Buffer
	a := &app{out: &out, err: &out, getenv: func(string) string { return "" }}
	require.Zero(t, a.main(t.Context(), []string{"version"}))
	require.Contains(t, out.String(), " 0123456789ab "+runtime.Version()+" ")
	out.Reset()
	require.Zero(t, a.main(t.Context(), []string{"version", "--output=json"}))
	require.Contains(t, out.String(), commit)
	commit += "+modified"
	out.Reset()
	require.Zero(t, a.main(t.Context(), []string{"version"}))
	require.Contains(t, out.String(), " 0123456789ab+modified ")
}
