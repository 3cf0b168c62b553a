package readme

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/conformtest"
)

// The rows of the tables of what stores have shown are held against the tests that wrote them by
// these tests, whenever they run. That each of them has its row, and each row its test:
func TestEachStoresSuiteHasItsRow(t *testing.T) {
	calls := regexp.MustCompile(`conformtest\.(Locks|Store)\(t, "([^"]+)"`)
	want := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		for _, m := range calls.FindAllStringSubmatch(read(t, rel), -1) {
			want[m[1]] = append(want[m[1]], strings.ToLower(m[2]))
		}
		return err
	})
	require.NoError(t, err)
	page := read(t, conformtest.Page)
	for call, table := range map[string]string{"Locks": "locks", "Store": "stores"} {
		rows, err := conformtest.Rows(page, table)
		require.NoError(t, err)
		slices.Sort(want[call])
		require.Greater(t, len(rows), 3)
		require.Equal(t, want[call], rows, "make conformance writes them; a row without a test is deleted by hand")
	}
}
