package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// exported lists what the packages below root export on Linux: those that others can
// import, so neither main packages nor internal ones, nor examples, which are to be copied.
func exported(root string) ([]string, error) {
	var lines []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		case path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "internal" || d.Name() == "testdata" || d.Name() == "examples"):
			return filepath.SkipDir
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		found, err := listPackage(path, filepath.ToSlash(rel))
		lines = append(lines, found...)
		return err
	})
	slices.Sort(lines)
	return slices.Compact(lines), err
}

// listPackage lists what one directory exports.
func listPackage(dir, name string) ([]string, error) {
	matches, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	l := &listing{pkg: name}
	system := build.Default
	system.GOOS, system.GOARCH, system.CgoEnabled = "linux", "amd64", false
	for _, path := range matches {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		if ok, err := system.MatchFile(dir, filepath.Base(path)); err != nil || !ok {
			if err != nil {
				return nil, err
			}
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if f.Name.Name == "main" {
			continue
		}
		for _, d := range f.Decls {
			l.decl(d)
		}
	}
	return l.lines, nil
}

type listing struct {
	pkg   string
	lines []string
}

func (l *listing) add(format string, args ...any) {
	l.lines = append(l.lines, "pkg "+l.pkg+", "+fmt.Sprintf(format, args...))
}

func (l *listing) decl(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() {
			return
		}
		if d.Recv == nil {
			l.add("func %s%s", d.Name.Name, signature(d.Type))
			return
		}
		receiver := text(d.Recv.List[0].Type)
		if base, _, _ := strings.Cut(strings.TrimPrefix(receiver, "*"), "["); ast.IsExported(base) {
			l.add("method (%s) %s%s", receiver, d.Name.Name, signature(d.Type))
		}
	case *ast.GenDecl:
		var kind ast.Expr // of constants that repeat the one above
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					l.typeOf(s)
				}
			case *ast.ValueSpec:
				if s.Type != nil || s.Values != nil {
					kind = s.Type
				}
				l.values(d.Tok.String(), s, kind)
			}
		}
	}
}

// values lists constants with what they are, and variables.
func (l *listing) values(what string, s *ast.ValueSpec, kind ast.Expr) {
	for i, name := range s.Names {
		if !name.IsExported() {
			continue
		}
		line := what + " " + name.Name
		if kind != nil {
			line += " " + text(kind)
		}
		if what == "const" && i < len(s.Values) {
			line += " = " + text(s.Values[i])
		}
		l.add("%s", line)
	}
}

func (l *listing) typeOf(s *ast.TypeSpec) {
	name := s.Name.Name
	if s.TypeParams != nil {
		name += "[" + fields(s.TypeParams) + "]"
	}
	assign := " "
	if s.Assign.IsValid() {
		assign = " = "
	}
	switch t := s.Type.(type) {
	case *ast.StructType:
		l.add("type %s struct", name)
		for _, f := range t.Fields.List {
			if len(f.Names) == 0 { // embedded: what it exports is exported here
				l.add("type %s struct, %s", name, text(f.Type))
			}
			for _, n := range f.Names {
				if n.IsExported() {
					l.add("type %s struct, %s %s", name, n.Name, text(f.Type))
				}
			}
		}
	case *ast.InterfaceType:
		l.add("type %s interface", name)
		for _, f := range t.Methods.List {
			if fn, ok := f.Type.(*ast.FuncType); ok && len(f.Names) == 1 {
				l.add("type %s interface, %s%s", name, f.Names[0].Name, signature(fn))
			} else {
				l.add("type %s interface, %s", name, text(f.Type))
			}
		}
	default:
		l.add("type %s%s%s", name, assign, text(s.Type))
	}
}

// signature is a function's type without the names of its parameters.
func signature(f *ast.FuncType) string {
	s := ""
	if f.TypeParams != nil {
		s = "[" + fields(f.TypeParams) + "]"
	}
	s += "(" + types(f.Params) + ")"
	switch results := types(f.Results); {
	case results == "":
	case strings.Contains(results, ", "):
		s += " (" + results + ")"
	default:
		s += " " + results
	}
	return s
}

func types(list *ast.FieldList) string {
	if list == nil {
		return ""
	}
	var all []string
	for _, f := range list.List {
		for range max(len(f.Names), 1) {
			all = append(all, text(f.Type))
		}
	}
	return strings.Join(all, ", ")
}

func fields(list *ast.FieldList) string {
	var all []string
	for _, f := range list.List {
		for _, n := range f.Names {
			all = append(all, n.Name+" "+text(f.Type))
		}
	}
	return strings.Join(all, ", ")
}

// text is an expression on one line.
func text(e ast.Expr) string {
	if fn, ok := e.(*ast.FuncType); ok {
		return "func" + signature(fn)
	}
	var out bytes.Buffer
	_ = printer.Fprint(&out, token.NewFileSet(), e) // a buffer takes everything
	return strings.Join(strings.Fields(out.String()), " ")
}
