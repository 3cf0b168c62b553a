package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var replaced = regexp.MustCompile(`(?m)^replace (\S+) (v\S+) => (\S+)`)

// publish puts the modules of the exported tree into a module proxy of files, as the public
// one will have them, and makes a module that requires the command of it.
func (r *release) publish(ctx context.Context) error {
	tree := filepath.Join(r.work, "tree")
	work, err := os.ReadFile(filepath.Join(tree, "go.work"))
	if err != nil {
		return err
	}
	license, err := os.ReadFile(filepath.Join(tree, "LICENSE"))
	if err != nil {
		return err
	}
	modules := replaced.FindAllStringSubmatch(string(work), -1)
	if len(modules) == 0 {
		return fmt.Errorf("go.work has no versioned replace")
	}
	for _, m := range modules {
		if m[2] != r.version {
			return fmt.Errorf("-version is %s, but in go.work %s is %s: see releasing.md", r.version, m[1], m[2])
		}
		// As the go command does with a nested module that has none of its own.
		if err := os.WriteFile(filepath.Join(tree, m[3], "LICENSE"), license, 0o644); err != nil {
			return err
		}
	}
	if _, err := r.goIn(ctx, filepath.Join(tree, "internal", "rehearsal"), []string{"GOWORK="},
		"run", ".", "-top", tree, "-proxy", filepath.Join(r.work, "proxy")); err != nil {
		return err
	}
	// What is fetched must be what go.sum of the command says. Only the modules of this
	// tree are added: their sums are not known before.
	sums, err := os.ReadFile(filepath.Join(tree, "cmd", "lockkeeper", "go.sum"))
	if err != nil {
		return err
	}
	dir := filepath.Join(r.work, "build")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("module release\n\ngo 1.26\n\nrequire %s %s\n", command, r.version)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644); err != nil {
		return err
	}
	if _, err := r.goIn(ctx, dir, r.published(), "list", "-deps", command); err != nil {
		return err
	}
	now, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(now)) {
		if !strings.HasPrefix(line, root) && !slices.Contains(slices.Collect(strings.Lines(string(sums))), line) {
			return fmt.Errorf("cmd/lockkeeper/go.sum does not have %s", strings.TrimSpace(line))
		}
	}
	return nil
}

// published is the environment in which the go command finds the modules of this release, with
// a cache of its own for them: those of an earlier run must not be taken for this one's.
func (r *release) published() []string {
	shared, _ := exec.Command("go", "env", "GOMODCACHE").Output()
	upstream, _ := exec.Command("go", "env", "GOPROXY").Output()
	return []string{
		"GOWORK=off", "GOFLAGS=-mod=mod", "GONOSUMDB=" + root + "," + root + "/*", "GOSUMDB=off",
		"GOMODCACHE=" + filepath.Join(r.work, "cache"),
		"GOPROXY=file://" + filepath.Join(r.work, "proxy") +
			",file://" + filepath.Join(strings.TrimSpace(string(shared)), "cache", "download") + "," + strings.TrimSpace(string(upstream)),
	}
}

// build builds the command for one system and returns its path.
func (r *release) build(ctx context.Context, system, arch string) (string, error) {
	path := filepath.Join(r.work, "bin", system+"_"+arch, "lockkeeper")
	env := append(r.published(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch,
		// What could be set otherwise on this machine and changes the code.
		"GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off", "GODEBUG=", "GO_EXTLINK_ENABLED=0")
	_, err := r.goIn(ctx, filepath.Join(r.work, "build"), env,
		"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X "+root+"/internal/cli.commit="+r.commit, "-o", path, command)
	return path, err
}

func (r *release) goIn(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, stderr.Bytes())
	}
	return out, nil
}
