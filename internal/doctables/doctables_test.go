package doctables

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const document = `
# A page

| option | default | |
|---|---|---|
| ` + "`x.Options.A`, `B`" + ` | 1s, 0.25 | text |
| ` + "`x.Options.C`" + ` | ttl / 2 | |

| option | default |
|---|---|
| ` + "`A`" + ` | 2s |
| ` + "`Other`" + ` | |

| variable | flag | |
|---|---|---|
| ` + "`X_MS` | `run --ttl`" + ` | 30000 by default; more |
| ` + "`Y` | `--y`" + ` | nothing |

| what | default mode |
|---|---|
| ` + "`A`" + ` | 9s |
`

func TestReadFindsTheDefaultsOfTables(t *testing.T) {
	all := Read("page.md", document)
	var got []string
	for _, d := range all {
		got = append(got, d.String()+" = "+strings.Join(d.Says, "; "))
	}
	require.Equal(t, []string{
		"page.md:6: x.Options.A, x.Options.B = 1s; 0.25",
		"page.md:7: x.Options.C = ttl / 2",
		"page.md:11: A = 2s",
		"page.md:12: Other = ",
		"page.md:16: X_MS, --ttl = 30000",
	}, got)
	fields := map[string]any{"A": time.Second, "B": 0.25, "C": TTL / 2}
	require.True(t, all[0].IsOf("x.Options", fields))
	require.True(t, all[1].IsOf("x.Options", fields))
	require.False(t, all[2].IsOf("x.Options", fields), "the table has another type's field")
	require.True(t, all[2].IsOf("y.Options", map[string]any{"A": nil, "Other": nil}))
	require.False(t, all[0].IsOf("y.Options", fields))
	require.True(t, all[4].IsOf("", map[string]any{"X_MS": nil, "--ttl": nil}))
	require.False(t, all[4].IsOf("", map[string]any{"X_MS": nil}))
}

func TestAgrees(t *testing.T) {
	for _, c := range []struct {
		says  string
		value any
		ok    bool
	}{
		{"1s", time.Second, true}, {"1s", 500 * time.Millisecond, false}, {"60s", time.Minute, true}, {"7 days", 7 * 24 * time.Hour, true},
		{"8 days", 7 * 24 * time.Hour, false}, {"30000", 30 * time.Second, true}, {"ttl", TTL, true}, {"ttl / 2", TTL / 2, true}, {"ttl / 3", TTL / 2, false},
		{"", time.Second, false}, {"no bound", time.Second, false}, {"no bound", time.Duration(0), true}, {"1s", time.Duration(0), false},
		{"N/2 + 1", 3, true}, {"N/2 + 1", 2, false}, {"3", 3, true}, {"no bound", 0, true}, {"0.25", 0.25, true}, {"0.3", 0.25, false},
		{"off", false, true}, {"false", false, true}, {"", false, true}, {"off", true, false}, {"campaign again", false, true}, {"true", false, false},
		{"host:pid", "vm:12", true}, {"host:pid", "vm", false}, {"redlock:", "redlock:", true}, {"redlock:", "x", false}, {"", "x", false}, {"", "", true},
		{"1s", "1s", true}, {"2s", "1s", false}, {"for ever", "0s", true}, {"0", "0s", true}, {"0", "1s", false}, {"1s", "0s", false}, {"off", "false", true}, {"on", "false", false},
		{"silent", nil, true}, {"1s", nil, false}, {"3", nil, false}, {"these words", Words("these words"), true}, {"others", Words("these words"), false},
	} {
		err := agrees(c.says, c.value)
		require.Equal(t, c.ok, err == nil, "%q, %v: %v", c.says, c.value, err)
	}
}

// Wherever a document is moved, it is found.
func TestAllFindsDocumentsWhereverTheyStand(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"README.md", "a/b/page.md", ".hidden/page.md", "a/testdata/page.md", "a/page.txt"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, file), []byte("| option | default |\n|---|---|\n| `A` | 1s |\n"), 0o600))
	}
	all, err := All(root)
	require.NoError(t, err)
	var files []string
	for _, d := range all {
		files = append(files, d.File)
	}
	require.ElementsMatch(t, []string{"README.md", "a/b/page.md"}, files)
}
