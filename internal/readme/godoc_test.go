package readme

import (
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// packageDocs are the package comments of what others can import, by directory.
func packageDocs(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "internal" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil || f.Name.Name == "main" {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		dir := filepath.ToSlash(rel)
		if f.Doc.Text() != "" {
			require.Empty(t, docs[dir], "%s has two package comments", dir)
			docs[dir] = f.Doc.Text()
		} else if _, ok := docs[dir]; !ok {
			docs[dir] = ""
		}
		return err
	})
	require.NoError(t, err)
	require.Greater(t, len(docs), 8)
	return docs
}

// A package's first screen says what it is, and shows some lines of code, before it
// says what is guaranteed. The code is Go.
func TestTheFirstScreenOfEachPackageShowsCode(t *testing.T) {
	for dir, text := range packageDocs(t) {
		require.Regexp(t, `^Package \w+ `, text, dir)
		var code *comment.Code
		for _, block := range new(comment.Parser).Parse(text).Content {
			if _, ok := block.(*comment.Heading); ok {
				break
			}
			if c, ok := block.(*comment.Code); ok {
				code = c
				break
			}
		}
		require.NotNil(t, code, "%s shows no code before its first heading", dir)
		first, _, _ := strings.Cut(code.Text, "\n")
		before, _, _ := strings.Cut(text, first)
		require.LessOrEqual(t, strings.Count(before, "\n"), 16, "%s: the code is not on the first screen", dir)
		require.LessOrEqual(t, strings.Count(code.Text, "\n"), 12, "%s: the first code is no glimpse", dir)

		body := regexp.MustCompile(`(?m)^\s*\.\.\.$`).ReplaceAllString(code.Text, "")
		source := "package p\n" + body
		if !strings.HasPrefix(body, "func ") {
			source = "package p\nfunc f() {\n" + body + "\n}\n"
		}
		f, err := parser.ParseFile(token.NewFileSet(), dir+" first screen", source, 0)
		require.NoError(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				requireExported(t, dir, s)
			}
			return true
		})
	}
}

// requireExported requires that what the code uses of this module is exported there.
func requireExported(t *testing.T, dir string, s *ast.SelectorExpr) {
	t.Helper()
	of, ok := s.X.(*ast.Ident)
	if !ok {
		return
	}
	home, ok := map[string]string{
		"lock": "lock", "leader": "leader", "keepalive": "keepalive", "redlock": "redlock", "backends": "backends",
		"file": "backends/file", "memory": "backends/memory", "locktest": "lock/locktest", "lockotel": "lock/lockotel",
		"leaderhttp": "leader/leaderhttp", "record": "backends/record", "recordtest": "backends/record/recordtest",
		"sqlite": "backends/sqlite", "mysql": "backends/mysql", "postgres": "backends/postgres", "etcd": "backends/etcd",
		"nats": "backends/nats", "s3": "backends/s3", "kubernetes": "backends/kubernetes",
	}[of.Name]
	if !ok {
		return
	}
	listing := read(t, "internal/api/last.txt") + read(t, "internal/api/next.txt")
	require.Regexp(t, `(?m)^(\+ )?pkg `+home+`, \w+ `+s.Sel.Name+`\b`, listing, "%s uses %s.%s", dir, of.Name, s.Sel.Name)
}

// needServer are the packages whose stores are servers that are not in every machine: their
// examples are compiled, and have no output.
var needServer = map[string]bool{"backends/etcd": true, "backends/mysql": true, "backends/nats": true, "backends/postgres": true, "backends/s3": true, "examples/dynamodb": true}

// The examples of go doc are for those who have read that far.
func TestEachPackageHasExamplesThatRun(t *testing.T) {
	for dir := range packageDocs(t) {
		if dir == "." {
			continue // a map
		}
		files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
		require.NoError(t, err)
		found := false
		for _, file := range files {
			rel, err := filepath.Rel(root, file)
			require.NoError(t, err)
			source := read(t, rel)
			found = found || regexp.MustCompile(`(?m)^func Example`).MatchString(source) && (strings.Contains(source, "// Output:") || needServer[dir])
		}
		require.True(t, found, "%s has no example with an output", dir)
	}
}
