package readme

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/doctables"
)

// Each default in a table is tested by the package that it is of, with doctables.Check.
// Here: that no row is passed over, because no test is of all its names.
func TestEveryDefaultInATableIsTestedAgainstTheCode(t *testing.T) {
	owners := map[string]map[string]any{} // the types that are tested, and their fields
	flags := ""                           // the source of packages whose flags are tested
	for dir, checked := range checks(t) {
		sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, source := range sources {
			if strings.HasSuffix(source, "_test.go") {
				continue
			}
			text, err := os.ReadFile(source)
			require.NoError(t, err)
			if checked == "" {
				flags += string(text)
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), source, text, 0)
			require.NoError(t, err)
			if fields := fieldsOf(file, checked); fields != nil {
				owners[checked] = fields
			}
		}
	}
	require.NotEmpty(t, flags)
	require.Contains(t, owners, "redlock.Options")
	all, err := doctables.All(root)
	require.NoError(t, err)
	require.NotEmpty(t, all)
	for _, d := range all {
		isFlag := func(name string) bool {
			return regexp.MustCompile(`"` + regexp.QuoteMeta(strings.TrimLeft(name, "-")) + `"`).MatchString(flags)
		}
		tested := !slices.ContainsFunc(d.Names, func(name string) bool { return !isFlag(name) && !slices.Contains(tables, name) })
		for owner, fields := range owners {
			tested = tested || d.IsOf(owner, fields)
		}
		if !tested {
			t.Errorf("%v: no test compares these defaults with the code: add one that calls doctables.Check to the package, and name no other options in the table", d)
		}
	}
}

// checks are the directories whose tests call doctables.Check, and for which type; "" is
// for flags.
func checks(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	call := regexp.MustCompile(`doctables\.Check\("([\w.]*)"`)
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if m := call.FindStringSubmatch(string(text)); m != nil {
			found[filepath.Dir(path)] = m[1]
		}
		return err
	}))
	return found
}

// tables are names whose tables are about a type as a whole, and say where its page is.
var tables = []string{"redlock.Options"}

// fieldsOf are the fields of a struct, package.Type, in a file; nil if it is not there.
func fieldsOf(file *ast.File, name string) map[string]any {
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			typ, ok := spec.(*ast.TypeSpec)
			if !ok || file.Name.Name+"."+typ.Name.Name != name {
				continue
			}
			if s, ok := typ.Type.(*ast.StructType); ok {
				fields := map[string]any{}
				for _, f := range s.Fields.List {
					for _, name := range f.Names {
						fields[name.Name] = nil
					}
				}
				return fields
			}
		}
	}
	return nil
}
