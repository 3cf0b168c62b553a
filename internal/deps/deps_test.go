// Package deps forbids the imports that must not be there: what each package of
// the module may import, on every system that it is built for.
package deps

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/tonsurance/lockkeeper"

// layers says which packages of this module a package may import itself, tests
// apart: an import points down or towards lock. The first pattern that matches
// counts; a package without one is a violation, so that each new one is thought
// about.
var layers = []struct{ pkg, imports string }{
	{"lock", ""},
	{"lock/locktest", "lock"},
	{"lock/rwlock", "lock"},
	{"keepalive", "lock internal/*"},
	{"leader", "lock keepalive internal/*"},
	{"leader/leaderhttp", "leader lock internal/*"},
	{"fence", "lock"},
	{"redlock", "lock internal/* redlock/internal/*"},
	// The rooms of redlock, of which each imports only what stands below it.
	{"redlock/internal/node", "lock redlock/internal/nodeconn redlock/internal/script redlock/internal/server redlock/internal/nodeerr"},
	{"redlock/internal/nodeconn", "redlock/internal/nodeerr"},
	{"redlock/internal/script", "redlock/internal/nodeerr"},
	{"redlock/internal/server", "lock redlock/internal/nodeerr"},
	{"redlock/internal/waiting", "redlock/internal/nodeerr"},
	{"redlock/internal/nodeerr", ""},
	{"backends", "lock redlock backends/* internal/*"},
	{"backends/record/recordtest", "lock lock/locktest backends/record"},
	{"backends/*", "lock backends/record internal/*"},
	{"examples/*", "lock keepalive leader leader/leaderhttp redlock backends backends/*"},
	{"cmd/*", "internal/cli"},
	{"internal/inspect", "lock lock/rwlock redlock internal/plain"},
	{"internal/plain", "lock"},
	{"internal/serve", "lock lock/rwlock redlock internal/hostcheck internal/inspect internal/plain"},
	{"internal/cli", "lock lock/rwlock keepalive leader redlock backends backends/file internal/*"},
	{"internal/fencetest", "lock fence backends/memory"},
	{"internal/conformtest", "lock/locktest backends/record backends/record/recordtest internal/*"},
	{"internal/leadserve", "lock keepalive leader internal/hostcheck"},
	{"internal/simulation/records", "lock backends/record backends/record/recordtest internal/simtest"},
	{"internal/simulation/moves", "lock backends/memory backends/record backends/record/recordtest internal/simtest"},
	{"internal/simulation", "lock keepalive leader redlock internal/*"},
	{"internal/pictures", "keepalive"}, // the defaults, to scale
	{"internal/*", "lock internal/*"},
}

// modules are those that programs built of this module may link.
var modules = []string{
	module,
	"github.com/redis/rueidis",
	"github.com/hashicorp/go-multierror",
	"github.com/hashicorp/errwrap", // of go-multierror
	"golang.org/x/sys",             // of rueidis
}

// commandModules are those of the command line: internal/cli may link them, and what
// is a thin main over it.
var commandModules = []string{
	"github.com/spf13/cobra",
	"github.com/spf13/pflag",               // of cobra
	"github.com/inconshreveable/mousetrap", // of cobra, on Windows
	"golang.org/x/term",
}

// testOnly are packages that exist for tests: they may link testing, and no other
// package may import them.
var testOnly = []string{"internal/kubetest/kubefake", "lock/locktest", "backends/record/recordtest", "internal/*test", "internal/simulation/records", "internal/simulation/moves"}

// testLibraries must be linked by no package but those.
var testLibraries = []string{
	"testing", "testing/*", "net/http/httptest",
	"github.com/stretchr/testify/*", "github.com/alicebob/miniredis/*",
}

type pkg struct {
	ImportPath string
	Standard   bool
	GoFiles    []string
	Imports    []string // of the package itself
	Deps       []string // those, and theirs
	Module     *struct{ Path string }
}

func match(pattern, name string) bool {
	// A star at the end of a folder's pattern takes all below it.
	if dir, ok := strings.CutSuffix(pattern, "/*"); ok {
		return strings.HasPrefix(name, dir+"/")
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, name) })
}

// violations names each forbidden import among pkgs.
func violations(pkgs map[string]*pkg) []string {
	var found []string
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, p := range pkgs {
		if p.ImportPath == module && len(p.Imports) > 0 {
			say("the root package imports %s, and is for documentation only", p.Imports[0])
		}
		name, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours || len(p.GoFiles) == 0 { // tests only
			continue
		}
		i := slices.IndexFunc(layers, func(l struct{ pkg, imports string }) bool { return match(l.pkg, name) })
		if i < 0 {
			say("%s is in no layer: say what it may import", name)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module+"/")
			if ours && !matchAny(strings.Fields(layers[i].imports), to) {
				say("%s imports %s, may import %q", name, to, layers[i].imports)
			}
			if ours && matchAny(testOnly, to) && !matchAny(testOnly, name) {
				say("%s imports %s, which is for tests only", name, to)
			}
		}
		for _, dep := range p.Deps {
			d := pkgs[dep]
			switch {
			case name == "lock" && !d.Standard:
				say("lock links %s, want the standard library alone", dep)
			case name == "lock/locktest" && !d.Standard && dep != module+"/lock":
				say("lock/locktest links %s, want lock and the standard library alone", dep)
			case !matchAny(testOnly, name) && matchAny(testLibraries, dep):
				say("%s links %s, which is for tests only", name, dep)
			case (name == "internal/cli" || match("cmd/*", name)) && !d.Standard && slices.Contains(commandModules, d.Module.Path):
			case name == "internal/procgroup" && strings.HasPrefix(dep, "golang.org/x/term"): // of a terminal, not of a command line
			case !d.Standard && !matchAny(testOnly, name) && !slices.Contains(modules, d.Module.Path):
				say("%s links %s of a module that has no reason to be there", name, dep)
			}
		}
	}
	slices.Sort(found)
	return found
}

// list asks the go command for every package of the module and what they link.
func list(t *testing.T, goos string) map[string]*pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps",
		"-json=ImportPath,Standard,GoFiles,Imports,Deps,Module", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	pkgs := map[string]*pkg{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &pkg{}
		err := dec.Decode(p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		require.NoError(t, err)
		pkgs[p.ImportPath] = p
	}
}

func TestForbiddenImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		pkgs := list(t, goos)
		require.Contains(t, pkgs, module+"/lock")
		require.Contains(t, pkgs[module+"/internal/redistest"].Deps, "testing")
		require.Empty(t, violations(pkgs), goos)
	}
}

// Each rule sees the import that it forbids.
func TestForbiddenImportsAreSeen(t *testing.T) {
	for _, test := range []struct{ from, to, want string }{
		{"lock", module + "/internal/outcome", "lock links"},
		{"lock", "github.com/redis/rueidis", "lock links"},
		{"lock", "testing", "lock links testing"},
		{"lock/locktest", "github.com/redis/rueidis", "lock/locktest links"},
		{"redlock", module + "/keepalive", "redlock imports keepalive"},
		{"redlock", module + "/leader", "redlock imports leader"},
		{"keepalive", module + "/leader", "keepalive imports leader"},
		{"keepalive", module + "/redlock", "keepalive imports redlock"},
		{"redlock/internal/node", module + "/redlock", "redlock/internal/node imports redlock"},
		{"redlock/internal/nodeconn", module + "/redlock/internal/script", "redlock/internal/nodeconn imports redlock/internal/script"},
		{"redlock/internal/server", module + "/redlock", "redlock/internal/server imports redlock"},
		{"redlock/internal/script", module + "/redlock/internal/server", "redlock/internal/script imports redlock/internal/server"},
		{"backends/memory", module + "/redlock", "backends/memory imports redlock"},
		{"backends/memory", module + "/lock/locktest", "for tests only"},
		{"redlock", module + "/internal/redistest", "for tests only"},
		{"redlock", "testing/synctest", "links testing/synctest"},
		{"redlock", "github.com/stretchr/testify/require", "links github.com/stretchr/testify/require"},
		{"examples/keeper", "github.com/alicebob/miniredis/v2", "links github.com/alicebob/miniredis/v2"},
		{"examples/keeper", "github.com/google/uuid", "no reason to be there"},
		{"redlock", "github.com/spf13/cobra", "no reason to be there"},
		{"examples/keeper", "golang.org/x/term", "no reason to be there"},
		{"leader", "go.opentelemetry.io/otel/trace", "no reason to be there"},
		{"utils", "fmt", "in no layer"},
		{"", module + "/lock", "documentation only"},
	} {
		bad := &pkg{ImportPath: strings.TrimSuffix(module+"/"+test.from, "/"), GoFiles: []string{"a.go"},
			Imports: []string{test.to}, Deps: []string{test.to}}
		to := &pkg{ImportPath: test.to, Standard: !strings.Contains(test.to, "."),
			Module: &struct{ Path string }{test.to}}
		if strings.HasPrefix(test.to, module) {
			to.Module.Path = module
		}
		found := violations(map[string]*pkg{bad.ImportPath: bad, to.ImportPath: to})
		require.NotEmpty(t, found, "%s imports %s", test.from, test.to)
		require.Contains(t, strings.Join(found, "\n"), test.want)
	}
}
