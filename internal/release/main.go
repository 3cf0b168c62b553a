// Release builds all that a version of lockkeeper is given to people as, from a commit and
// nothing else: binaries, archives, Debian packages, a container image, manual pages,
// completions, and what is in each.
//
//	go run . -version v0.2.0 -out DIR
//
// The command is built from the modules as they will be published, not from the checkout, so
// that it names the versions of them all. The same commit and the same version of Go make the
// same bytes, on any machine: nothing has the time, the user or a directory of the machine in it.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	r := release{}
	platforms := ""
	flag.StringVar(&r.version, "version", "", "`version` to build, vX.Y.Z; it must be that of go.work")
	flag.StringVar(&r.out, "out", "", "empty `directory` for what is built")
	flag.StringVar(&r.top, "top", "", "the checkout, else the one of the working directory")
	flag.BoolVar(&r.modified, "modified", false, "build a checkout with changes as it stands, for a trial: the binaries say so")
	flag.StringVar(&platforms, "platforms", strings.Join(allPlatforms, ","), "`systems` to build for, GOOS/GOARCH,...")
	flag.Parse()
	r.platforms = strings.Split(platforms, ",")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := r.check(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(2)
	}
	if err := r.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// allPlatforms is what a release is built for.
var allPlatforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

const (
	root    = "github.com/tonsurance/lockkeeper"
	command = root + "/cmd/lockkeeper"
	title   = "Locks that span processes and machines"
)

// release is one run.
type release struct {
	version   string // vX.Y.Z
	out       string
	top       string
	modified  bool
	platforms []string

	work   string // a directory of this run's own, which is removed
	commit string
	when   time.Time // the commit's
	docs   []file    // manual pages and completions
	images []imageLayer
}

var semver = regexp.MustCompile(`^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$`)

// check is done before anything is read or written.
func (r *release) check() error {
	if !semver.MatchString(r.version) {
		return fmt.Errorf("-version is %q, want vX.Y.Z", r.version)
	}
	for _, p := range r.platforms {
		if !slices.Contains(allPlatforms, p) {
			return fmt.Errorf("-platforms has %q, want some of %s", p, strings.Join(allPlatforms, ", "))
		}
	}
	if r.out == "" {
		return fmt.Errorf("-out is not given, want a directory that is empty or not there")
	}
	found, err := os.ReadDir(r.out)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("-out: %w", err)
	}
	if len(found) > 0 {
		return fmt.Errorf("-out is %s, which is not empty: what an earlier run left would be taken for this one's", r.out)
	}
	r.out, err = filepath.Abs(r.out)
	return err
}

// number is the version without its v, as packages and files are named.
func (r *release) number() string { return strings.TrimPrefix(r.version, "v") }

func (r *release) run(ctx context.Context) (err error) {
	if r.work, err = os.MkdirTemp("", "release-"); err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, removeAll(r.work)) }()
	if err := r.export(ctx); err != nil {
		return err
	}
	if err := r.publish(ctx); err != nil {
		return err
	}
	if r.docs, err = r.makeDocs(); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	for _, p := range r.platforms {
		if err := r.platform(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	if len(r.images) > 0 {
		if err := r.writeImage(); err != nil {
			return err
		}
	}
	return r.writeSums()
}

// platform builds what there is for one system.
func (r *release) platform(ctx context.Context, p string) error {
	system, arch, _ := strings.Cut(p, "/")
	name := fmt.Sprintf("lockkeeper_%s_%s_%s", r.number(), system, arch)
	binary, err := r.build(ctx, system, arch)
	if err != nil {
		return err
	}
	parts, err := partsOf(binary)
	if err != nil {
		return err
	}
	if err := r.writeSBOM(name+".spdx.json", name, parts); err != nil {
		return err
	}
	licenses, err := r.licenseTexts(parts)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	license, err := os.ReadFile(filepath.Join(r.work, "tree", "LICENSE"))
	if err != nil {
		return err
	}
	texts := []file{{name: "LICENSE", data: license}, {name: "THIRD-PARTY-LICENSES.txt", data: licenses}}
	program := file{name: "lockkeeper", data: content, mode: 0o755}
	if system == "windows" {
		program.name += ".exe"
	}
	files := under(name, slices.Concat([]file{program}, texts, r.docs))
	if system == "windows" {
		data, err := zipped(r.when, files)
		return r.write(name+".zip", data, err)
	}
	data, err := tarred(r.when, files)
	if err := r.write(name+".tar.gz", data, err); err != nil {
		return err
	}
	if system != "linux" {
		return nil
	}
	r.images = append(r.images, imageLayer{arch: arch, files: imageFiles(program, texts)})
	return r.writeDeb(arch, program, texts)
}

// write writes one file of the release.
func (r *release) write(name string, data []byte, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(r.out, name), data, 0o644); err != nil {
		return err
	}
	fmt.Printf("%s (%.1f MB)\n", name, float64(len(data))/1e6)
	return nil
}

// removeAll removes a module cache, too, whose directories are read-only.
func removeAll(dir string) error {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o755)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
