// Rehearsal publishes the modules of this tree to a module proxy of files and uses them from
// there, as their users will once a version is tagged: nothing of a workspace or of a replace
// helps.
//
//	go run . -proxy DIR    fill DIR, a proxy as GOPROXY=file://DIR takes it; -top TREE: of another tree
//	go run . -check        each module is tidy, and can be fetched first in an empty one; the command installs
//	go run . -tidy         go mod tidy in each module, against the same proxy
//	go run . -set VERSION  have every module require this version of the others, the next to be published
package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const (
	root    = "github.com/tonsurance/lockkeeper"
	command = root + "/cmd/lockkeeper"
)

func main() {
	proxy := flag.String("proxy", "", "only fill this directory")
	top := flag.String("top", "", "the tree, else that of the checkout")
	check := flag.Bool("check", false, "use the modules as their users do")
	tidy := flag.Bool("tidy", false, "write go.mod and go.sum of each module")
	set := flag.String("set", "", "write this version of the modules into go.work and each go.mod")
	flag.Parse()
	if *set != "" {
		if err := setVersion(*top, *set); err != nil {
			fmt.Fprintln(os.Stderr, "rehearsal:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(*top, *proxy, *check, *tidy); err != nil {
		fmt.Fprintln(os.Stderr, "rehearsal:", err)
		os.Exit(1)
	}
}

func run(top, proxy string, check, tidy bool) error {
	top, err := topOf(top)
	if err != nil {
		return err
	}
	r := rehearsal{top: top, proxy: proxy}
	if err := r.find(); err != nil {
		return err
	}
	if proxy != "" {
		return r.publish()
	}
	dir, err := os.MkdirTemp("", "rehearsal-")
	if err != nil {
		return err
	}
	defer removeAll(dir)
	r.dir, r.proxy = dir, filepath.Join(dir, "proxy")
	if err := r.publish(); err != nil {
		return err
	}
	for _, m := range r.modules {
		if m.private {
			continue
		}
		if err := r.tidy(m, tidy); err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
		if check {
			if err := r.use(m); err != nil {
				return fmt.Errorf("%s: %w", m.path, err)
			}
		}
		fmt.Println("ok", m.path, m.version)
	}
	return nil
}

// topOf is the given tree, else the checkout of the working directory.
func topOf(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	out, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return "", fmt.Errorf("this is not a checkout: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

var required = regexp.MustCompile(`(?m)(` + regexp.QuoteMeta(root) + `(?:/[a-z0-9/]+)?) v[0-9]\S*`)

// setVersion writes a version into all that names one of this tree's modules.
func setVersion(top, version string) error {
	if module.CanonicalVersion(version) != version || module.IsPseudoVersion(version) {
		return fmt.Errorf("-set is %q, want vX.Y.Z", version)
	}
	top, err := topOf(top)
	if err != nil {
		return err
	}
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == ".git" {
			return cmp.Or(err, fs.SkipDir)
		}
		if d.Name() != "go.mod" && d.Name() != "go.work" {
			return nil
		}
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if text := required.ReplaceAll(old, []byte("$1 "+version)); !bytes.Equal(old, text) {
			return os.WriteFile(path, text, 0o644)
		}
		return nil
	})
}

// mod is one module of the tree.
type mod struct {
	path, dir, version string
	private            bool // never published: it has a replace, and lies under internal
}

type rehearsal struct {
	top, dir, proxy string
	modules         []mod
}

var version = regexp.MustCompile(`(?m)^replace (\S+) (v\S+) => `)

// find reads the workspace: its replaces say which version each module will have.
func (r *rehearsal) find() error {
	work, err := os.ReadFile(filepath.Join(r.top, "go.work"))
	if err != nil {
		return err
	}
	f, err := modfile.ParseWork("go.work", work, nil)
	if err != nil {
		return err
	}
	versions := map[string]string{}
	for _, m := range version.FindAllStringSubmatch(string(work), -1) {
		versions[m[1]] = m[2]
	}
	for _, use := range f.Use {
		dir := filepath.Join(r.top, use.Path)
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil {
			return err
		}
		m := mod{path: modfile.ModulePath(text), dir: dir}
		m.version, m.private = versions[m.path], strings.Contains(m.path, "/internal/") || strings.Contains(m.path, "/examples/")
		if m.version == "" && !m.private {
			return fmt.Errorf("go.work has no versioned replace of %s", m.path)
		}
		r.modules = append(r.modules, m)
	}
	return nil
}

// publish writes each module as a proxy serves it.
func (r *rehearsal) publish() error {
	for _, m := range r.modules {
		if m.private {
			continue
		}
		at := filepath.Join(r.proxy, m.path, "@v")
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		text, err := os.ReadFile(filepath.Join(m.dir, "go.mod"))
		if err != nil {
			return err
		}
		var archive bytes.Buffer
		if err := zip.CreateFromDir(&archive, module.Version{Path: m.path, Version: m.version}, m.dir); err != nil {
			return err
		}
		info := fmt.Sprintf(`{"Version":%q,"Time":%q}`, m.version, time.Unix(0, 0).UTC().Format(time.RFC3339))
		for name, b := range map[string][]byte{"list": []byte(m.version + "\n"), m.version + ".mod": text, m.version + ".info": []byte(info), m.version + ".zip": archive.Bytes()} {
			if err := os.WriteFile(filepath.Join(at, name), b, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// goIn runs the go command as a user of the proxy does, with a cache of its own for these
// modules: what an earlier rehearsal left must not be taken for this one's.
func (r *rehearsal) goIn(dir string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	upstream, err := exec.Command("go", "env", "GOPROXY").Output()
	if err != nil {
		return err
	}
	shared, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return err
	}
	// The modules of others come from the shared cache where they are there.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GONOSUMDB="+root+","+root+"/*", "GONOSUMCHECK=1", "GOSUMDB=off",
		"GOMODCACHE="+filepath.Join(r.dir, "cache"), "GOBIN="+filepath.Join(r.dir, "bin"),
		"GOPROXY=file://"+r.proxy+",file://"+filepath.Join(strings.TrimSpace(string(shared)), "cache", "download")+","+strings.TrimSpace(string(upstream)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// tidy compares a module's files with what go mod tidy makes of them, or writes that.
// Sums of this tree's own modules change with each commit, so they are not kept.
func (r *rehearsal) tidy(m mod, write bool) error {
	dir := filepath.Join(r.dir, "tidy", m.path)
	if err := copyModule(m.dir, dir); err != nil {
		return err
	}
	if err := r.goIn(dir, "mod", "tidy"); err != nil {
		return err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		want = withoutOwn(want)
		have, err := os.ReadFile(filepath.Join(m.dir, name))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if bytes.Equal(have, want) {
			continue
		}
		if !write {
			return fmt.Errorf("%s is not tidy: make tidy-write", name)
		}
		if err := os.WriteFile(filepath.Join(m.dir, name), want, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// withoutOwn leaves out the sums of this tree's own modules.
func withoutOwn(text []byte) []byte {
	lines := slices.Collect(strings.Lines(string(text)))
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, root) && strings.Contains(line, " h1:") })
	return []byte(strings.Join(lines, ""))
}

// use fetches the module first in an empty one, or installs the command.
func (r *rehearsal) use(m mod) error {
	if m.path == command {
		if err := r.goIn(r.dir, "install", m.path+"@"+m.version); err != nil {
			return err
		}
		return r.try(m.version)
	}
	dir := filepath.Join(r.dir, "use", m.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/user\n\ngo 1.26\n"), 0o644); err != nil {
		return err
	}
	if err := r.goIn(dir, "get", m.path+"@"+m.version); err != nil {
		return err
	}
	pkg := m.path
	if m.path == root {
		pkg += "/leader"
	}
	text := "package main\n\nimport _ " + fmt.Sprintf("%q", pkg) + "\n\nfunc main() {}\n"
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(text), 0o644); err != nil {
		return err
	}
	return r.goIn(dir, "build", "-o", os.DevNull, ".")
}

// try runs the installed command: it knows its version, and runs a program under a lock.
func (r *rehearsal) try(version string) error {
	program := filepath.Join(r.dir, "bin", "lockkeeper")
	locks := "file://" + filepath.ToSlash(filepath.Join(r.dir, "locks"))
	cmd := exec.Command(program, "run", "--url", locks, "rehearsal", "--", program, "version")
	var stderr bytes.Buffer // where lockkeeper says that it holds the lock
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || !strings.HasPrefix(string(out), "lockkeeper "+version+" ") {
		return fmt.Errorf("lockkeeper run -- lockkeeper version: %v, want version %s, got:\n%s%s", err, version, out, &stderr)
	}
	return nil
}

// copyModule copies the files of one module, without the modules nested in it.
func copyModule(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if _, nested := os.Stat(filepath.Join(path, "go.mod")); rel != "." && (nested == nil || d.Name() == ".git") {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
}

// removeAll removes a module cache, too, whose files are read-only.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o755)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}
