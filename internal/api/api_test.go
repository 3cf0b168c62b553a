package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func list(t *testing.T, source string) []string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("p/p.go", "package p\n"+source)
	write("p/p_windows.go", "package p\nfunc OnlyThere() {}\n")
	write("p/p_test.go", "package p\nfunc OnlyTested() {}\n")
	write("internal/q/q.go", "package q\nfunc Inside() {}\n")
	write("cmd/c/main.go", "package main\nfunc Main() {}\n")
	lines, err := exported(dir)
	require.NoError(t, err)
	return lines
}

func TestEachExportedNameIsListedOnce(t *testing.T) {
	require.Equal(t, []string{
		`pkg p, const A T = 1`,
		`pkg p, const B T`,
		`pkg p, func F(context.Context, int, int) (string, error)`,
		`pkg p, func G[K comparable](func(K) bool) K`,
		`pkg p, method (*S) M()`,
		`pkg p, type I interface`,
		`pkg p, type I interface, Do(int) error`,
		`pkg p, type I interface, error`,
		`pkg p, type S struct`,
		`pkg p, type S struct, *embedded`,
		`pkg p, type S struct, X int`,
		`pkg p, type S struct, Y int`,
		`pkg p, type T int`,
		`pkg p, var ErrGone`,
	}, list(t, `
type T int
const (
	A T = 1
	B
)
const hidden = 2
var ErrGone = errors.New("gone")
func F(ctx context.Context, a, b int) (s string, err error) { return }
func G[K comparable](match func(K) bool) K
func f() {}
type embedded struct{}
func (embedded) M() {}
type S struct {
	*embedded
	X, Y int
	z    int
}
func (s *S) M() {}
func (s *S) m() {}
type I interface {
	error
	Do(what int) error
}
`))
}

func TestAChangeIsARemovalAndAnAddition(t *testing.T) {
	before := list(t, "type S struct{ X int }\nfunc F(a int) {}")
	require.Empty(t, diff(before, list(t, "type S struct{ X int }\nfunc F(renamed int) {}")))
	require.ElementsMatch(t, []string{
		"- pkg p, func F(int)",
		"+ pkg p, func F(int, ...string)",
		"+ pkg p, func G()",
	}, diff(before, list(t, "type S struct{ X int }\nfunc F(a int, more ...string) {}\nfunc G() {}")))
}

// The listing sees the packages that users import, and nothing that they can't.
func TestThisModulesPackagesAreListed(t *testing.T) {
	lines, err := exported("../..")
	require.NoError(t, err)
	require.Contains(t, lines, "pkg lock, type Locker interface, TryAcquire(context.Context, string, time.Duration) (Lease, error)")
	require.Contains(t, lines, "pkg redlock, method (*Locker) Close() error")
	for _, line := range lines {
		require.NotContains(t, line, "pkg internal/")
		require.NotContains(t, line, "pkg cmd/")
		require.NotContains(t, line, "pkg examples/")
	}
}
