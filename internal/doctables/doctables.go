// Package doctables reads the defaults that tables of the documents give, wherever in
// the repository a document stands, so that tests can hold them against the code.
package doctables

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Default is one row of a table: what the document says of these names.
type Default struct {
	File  string // below the repository's root
	Line  int
	Names []string // of options, such as redlock.Options.Quorum or Quorum, flags or variables
	Says  []string // one default for all of the names, or one each

	table []string // all names of the table
}

func (d Default) String() string {
	return fmt.Sprintf("%s:%d: %s", d.File, d.Line, strings.Join(d.Names, ", "))
}

// of is what the document says of the i-th name.
func (d Default) of(i int) string {
	if len(d.Says) == len(d.Names) {
		return d.Says[i]
	}
	return strings.Join(d.Says, ", ")
}

// Root is the repository's, found from the working directory of a test.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "CHANGELOG.md")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", fmt.Errorf("no CHANGELOG.md in any directory above, want the repository's root")
		}
		dir = filepath.Dir(dir)
	}
}

// All are the defaults of all Markdown files below root: in tables that have a column
// "default", and where another says "... by default".
func All(root string) ([]Default, error) {
	var all []Default
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if entry.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		all = append(all, Read(filepath.ToSlash(name), string(text))...)
		return nil
	})
	return all, err
}

var (
	code      = regexp.MustCompile("`([^`]+)`")
	byDefault = regexp.MustCompile(`^(\S+) by default\b`)
	pipe      = regexp.MustCompile(`(^|[^\\])\|`)
)

// Read finds the defaults in one document.
func Read(file, text string) (all []Default) {
	lines := strings.Split(text, "\n")
	for at := 0; at < len(lines); at++ {
		if !strings.HasPrefix(lines[at], "|") {
			continue
		}
		end := at
		for end < len(lines) && strings.HasPrefix(lines[end], "|") {
			end++
		}
		all = append(all, table(file, at, lines[at:end])...)
		at = end
	}
	return all
}

func table(file string, at int, lines []string) (all []Default) {
	column := slices.IndexFunc(cells(lines[0]), func(cell string) bool { return strings.EqualFold(cell, "default") })
	var names []string
	for i, line := range lines {
		row := cells(line)
		if i == 0 && column >= 0 || strings.Trim(line, "|-: ") == "" {
			continue
		}
		d := Default{File: file, Line: at + i + 1}
		where := column
		if column < 0 {
			where = slices.IndexFunc(row, byDefault.MatchString)
		}
		if where < 1 || where >= len(row) {
			continue
		}
		d.Names = namesOf(row[:where])
		names = append(names, d.Names...)
		says := row[where]
		if column < 0 {
			says = byDefault.FindStringSubmatch(says)[1]
		}
		for part := range strings.SplitSeq(says, ", ") {
			d.Says = append(d.Says, strings.ReplaceAll(strings.TrimSpace(part), "`", ""))
		}
		if len(d.Names) > 0 {
			all = append(all, d)
		}
	}
	for i := range all {
		all[i].table = names
	}
	return all
}

func cells(line string) []string {
	line = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "|"), "|")
	line = pipe.ReplaceAllString(line, "$1\x00")
	row := strings.Split(line, "\x00")
	for i := range row {
		row[i] = strings.TrimSpace(row[i])
	}
	return row
}

// namesOf are the names in code spans. A later one is of the type of the one before it:
// `redlock.Options.Prefix`, `NoPrefix`. Of `run --ttl` and `--slots n` the flag counts.
func namesOf(row []string) (names []string) {
	kind := ""
	for _, m := range code.FindAllStringSubmatch(strings.Join(row, " "), -1) {
		name := m[1]
		for word := range strings.FieldsSeq(name) {
			if strings.HasPrefix(word, "-") {
				name = word
			}
		}
		if dot := strings.LastIndex(name, "."); dot > 0 {
			kind = name[:dot+1]
		} else if kind != "" {
			name = kind + name
		}
		names = append(names, name)
	}
	return names
}

// What formulas in the documents are reckoned with: the owner of a value computes it
// for these.
const (
	TTL   = 60 * time.Second // "ttl / 2"
	Nodes = 5                // "N/2 + 1"
)

// Words is a value that a document describes in exactly these words.
type Words string

// Check compares what the documents say of owner's values with what they are. owner is
// the name of a type, such as redlock.Options, and values has its fields; or it is "",
// and values has flags and variables. checked are the rows that it was about.
func Check(owner string, values map[string]any) (checked []Default, errs []error) {
	root, err := Root()
	if err != nil {
		return nil, []error{err}
	}
	all, err := All(root)
	if err != nil {
		return nil, []error{err}
	}
	for _, d := range all {
		if !d.IsOf(owner, values) {
			continue
		}
		checked = append(checked, d)
		for i, name := range d.Names {
			name = strings.TrimPrefix(name, owner+".")
			if err := agrees(d.of(i), values[name]); err != nil {
				errs = append(errs, fmt.Errorf("%v: the default of %s is %w", d, name, err))
			}
		}
	}
	return checked, errs
}

// IsOf reports whether all names of the row are owner's, of which values
// has the names. Fields without their type are owner's if all such names of the table are.
func (d Default) IsOf(owner string, values map[string]any) bool {
	known := func(name string) bool {
		if short, ok := strings.CutPrefix(name, owner+"."); ok && owner != "" {
			name = short
		} else if strings.Contains(name, ".") {
			return false
		}
		_, ok := values[name]
		return ok
	}
	names := d.Names
	if owner != "" && !strings.Contains(strings.Join(names, ""), ".") {
		names = d.table
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !known(name) })
}

var (
	days    = regexp.MustCompile(`^(\d+) days?$`)
	ttls    = regexp.MustCompile(`^ttl(?: / (\d+))?$`)
	hostPid = regexp.MustCompile(`^\S+:\d+$`)
)

// agrees compares what a document says with a value. Words, and nothing, mean that
// there is no default: the value is the zero value.
func agrees(says string, value any) error {
	wrong := fmt.Errorf("%v, and the document says %q", value, says)
	zero := value == nil || reflect.ValueOf(value).IsZero()
	switch v := value.(type) {
	case Words:
		if says != string(v) {
			return wrong
		}
		return nil
	case string:
		if says == v || says == "host:pid" && hostPid.MatchString(v) {
			return nil
		}
		// Of a flag: its text is how the flag package writes a value.
		if d, err := time.ParseDuration(v); err == nil && (d != 0 || says == "0") {
			return agrees(says, d)
		}
		if b, err := strconv.ParseBool(v); err == nil {
			return agrees(says, b)
		}
		zero = v == "" || v == "0s" || v == "[]"
	}
	if said, ok := parse(says, value); ok {
		if said != value {
			return wrong
		}
		return nil
	}
	if !zero {
		return wrong
	}
	return nil
}

// parse reads a value of the kind that value has. ok is false for words.
func parse(says string, value any) (any, bool) {
	switch value.(type) {
	case time.Duration:
		if m := days.FindStringSubmatch(says); m != nil {
			n, err := strconv.Atoi(m[1])
			return time.Duration(n) * 24 * time.Hour, err == nil
		}
		if m := ttls.FindStringSubmatch(says); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				n = 1
			}
			return TTL / time.Duration(n), true
		}
		if ms, err := strconv.Atoi(says); err == nil {
			return time.Duration(ms) * time.Millisecond, true
		}
		d, err := time.ParseDuration(says)
		return d, err == nil
	case int:
		if says == "N/2 + 1" {
			return Nodes/2 + 1, true
		}
		n, err := strconv.Atoi(says)
		return n, err == nil
	case float64:
		f, err := strconv.ParseFloat(says, 64)
		return f, err == nil
	case bool:
		switch says {
		case "on", "true":
			return true, true
		case "off", "false":
			return false, true
		}
	default: // a function, a pointer, a text: a number is not its default
		if _, err := strconv.ParseFloat(strings.TrimSuffix(says, "s"), 64); err == nil {
			return says, true
		}
	}
	return nil, false
}

// Fields are the fields of a struct and their values; nil for pointers, functions and
// interfaces.
func Fields(options any) map[string]any {
	v := reflect.ValueOf(options)
	fields := map[string]any{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		switch f.Type.Kind() {
		case reflect.Pointer, reflect.Func, reflect.Interface, reflect.Map, reflect.Slice:
			fields[f.Name] = nil
		default:
			fields[f.Name] = v.Field(i).Interface()
		}
	}
	return fields
}
