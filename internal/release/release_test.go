package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var all = flag.Bool("all", false, "build for every system, the second time with an empty build cache: many minutes")

// Where the release is built, once for all tests.
var (
	top       string
	tool      string
	built     string
	platforms []string
	next      string // the version that go.work says
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "release-test-")
		if err != nil {
			panic(err)
		}
		defer func() { _ = removeAll(dir) }()
		tool, built = filepath.Join(dir, "release"), filepath.Join(dir, "first")
		platforms = []string{"linux/" + runtime.GOARCH}
		if *all {
			platforms = allPlatforms
		}
		work, err := os.ReadFile("../../go.work")
		if err != nil {
			panic(err)
		}
		next = replaced.FindStringSubmatch(string(work))[2]
		if top, err = filepath.Abs("../.."); err != nil {
			panic(err)
		}
		if out, err := exec.Command("go", "build", "-o", tool, ".").CombinedOutput(); err != nil {
			panic(string(out))
		}
		if err := build(dir, built); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// build runs the tool with a directory of its own for what is temporary.
func build(dir, out string, env ...string) error {
	temporary, err := os.MkdirTemp(dir, "tmp-")
	if err != nil {
		return err
	}
	cmd := exec.Command(tool, "-version", next, "-modified", "-out", out, "-platforms", strings.Join(platforms, ","))
	cmd.Env = append(append(os.Environ(), "TMPDIR="+temporary), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("release: %w\n%s", err, text)
	}
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		return fmt.Errorf("release left %v in TMPDIR: %w", left, err)
	}
	return nil
}

// files are all files of a directory by name.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		found[e.Name()] = data
	}
	return found
}

func TestTheSameCommitMakesTheSameBytes(t *testing.T) {
	dir := t.TempDir()
	again := filepath.Join(dir, "again")
	env := []string{"TZ=Asia/Kathmandu", "LANG=C", "USER=somebody", "GOAMD64=", "GOARM64="}
	if *all {
		// Nothing that the first one compiled, and settings of another machine.
		cache := filepath.Join(dir, "cache")
		env = append(env, "GOCACHE="+cache, "GOAMD64=v2", "GOFLAGS=-buildvcs=false")
	}
	require.NoError(t, build(dir, again, env...))
	first, second := files(t, built), files(t, again)
	require.Len(t, second, len(first))
	for name, data := range first {
		require.Equal(t, sha256.Sum256(data), sha256.Sum256(second[name]), name)
	}
}

func TestTheSumsAreOfAllThatThereIs(t *testing.T) {
	found := files(t, built)
	require.Equal(t, len(found)-1, strings.Count(string(found["checksums.txt"]), "\n"))
	for name, data := range found {
		if name != "checksums.txt" {
			require.Contains(t, string(found["checksums.txt"]), fmt.Sprintf("%x  %s\n", sha256.Sum256(data), name))
		}
	}
	for _, p := range platforms {
		name := "lockkeeper_" + strings.TrimPrefix(next, "v") + "_" + strings.ReplaceAll(p, "/", "_")
		require.Contains(t, found, name+".spdx.json")
	}
}

// entries calls f with each regular file of an archive, and of the archives in it.
func entries(t *testing.T, name string, data []byte, f func(name string, mode os.FileMode, data []byte)) {
	t.Helper()
	switch {
	case bytes.HasPrefix(data, []byte("\x1f\x8b")):
		in, err := gzip.NewReader(bytes.NewReader(data))
		require.NoError(t, err, name)
		require.True(t, in.ModTime.IsZero() && in.Name == "", name)
		plain, err := io.ReadAll(in)
		require.NoError(t, err, name)
		if !strings.HasSuffix(strings.TrimSuffix(name, ".gz"), ".tar") && !bytes.Contains(plain[:min(len(plain), 512)], []byte("ustar")) {
			f(name, 0o644, plain)
			return
		}
		entries(t, name+"!", plain, f)
	case len(data) > 262 && string(data[257:262]) == "ustar":
		for in := tar.NewReader(bytes.NewReader(data)); ; {
			h, err := in.Next()
			if err == io.EOF {
				return
			}
			require.NoError(t, err, name)
			require.True(t, h.Uid == 0 && h.Gid == 0 && h.Uname == "" && h.Gname == "", h.Name)
			content, err := io.ReadAll(in)
			require.NoError(t, err, name)
			if h.Typeflag == tar.TypeReg {
				entries(t, name+"!"+h.Name, content, func(n string, mode os.FileMode, data []byte) {
					if n == name+"!"+h.Name {
						mode = h.FileInfo().Mode()
					}
					f(n, mode, data)
				})
			}
		}
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		in, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		require.NoError(t, err, name)
		for _, e := range in.File {
			r, err := e.Open()
			require.NoError(t, err, name)
			content, err := io.ReadAll(r)
			require.NoError(t, err, name)
			if !e.Mode().IsDir() {
				f(name+"!"+e.Name, e.Mode(), content)
			}
		}
	case bytes.HasPrefix(data, []byte("!<arch>\n")):
		for rest := data[8:]; len(rest) > 0; {
			var size int
			_, err := fmt.Sscan(string(rest[48:58]), &size)
			require.NoError(t, err, name)
			entries(t, name+"!"+strings.TrimSpace(string(rest[:16])), rest[60:60+size], f)
			rest = rest[60+size+size%2:]
		}
	default:
		f(name, 0o644, data)
	}
}

func TestNothingNamesThisMachine(t *testing.T) {
	modules, err := exec.Command("go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	secrets := []string{top, strings.TrimSpace(string(modules)), os.TempDir() + "/release-", filepath.Dir(built)}
	seen := 0
	for name, data := range files(t, built) {
		entries(t, name, data, func(name string, _ os.FileMode, data []byte) {
			seen++
			for _, s := range secrets {
				require.False(t, bytes.Contains(data, []byte(s)), "%s has %s", name, s)
			}
		})
	}
	require.Greater(t, seen, 50, "the archives were not looked into")
}

func TestEachArchiveHasWhatBelongsToAProgram(t *testing.T) {
	for _, p := range platforms {
		system, _, _ := strings.Cut(p, "/")
		name := "lockkeeper_" + strings.TrimPrefix(next, "v") + "_" + strings.ReplaceAll(p, "/", "_")
		kind, program := ".tar.gz", "lockkeeper"
		if system == "windows" {
			kind, program = ".zip", "lockkeeper.exe"
		}
		data, err := os.ReadFile(filepath.Join(built, name+kind))
		require.NoError(t, err)
		found := map[string][]byte{}
		entries(t, name, data, func(entry string, mode os.FileMode, data []byte) {
			_, entry, _ = strings.Cut(strings.ReplaceAll(entry, "!!", "!"), "!")
			entry, ok := strings.CutPrefix(entry, name+"/")
			require.True(t, ok, "%s is not in a directory of the archive's name", entry)
			found[entry] = data
			require.Equal(t, entry == program, mode&0o111 != 0, entry)
		})
		for _, entry := range []string{program, "LICENSE", "THIRD-PARTY-LICENSES.txt", "man/lockkeeper.1", "man/lockkeeper-run.1", "completions/lockkeeper.bash", "completions/_lockkeeper", "completions/lockkeeper.fish", "completions/lockkeeper.ps1"} {
			require.NotEmpty(t, found[entry], entry)
		}
		require.Contains(t, string(found["THIRD-PARTY-LICENSES.txt"]), "github.com/redis/rueidis v")
	}
}

// TestTheCommandFitsItsManualPages: no table of the help runs together, and there is a page
// for each command.
func TestTheCommandFitsItsManualPages(t *testing.T) {
	r := release{version: next, work: t.TempDir()}
	docs, err := r.makeDocs()
	require.NoError(t, err)
	pages := map[string]string{}
	for _, f := range docs {
		pages[f.name] = string(f.data)
		require.NotContains(t, string(f.data), "Auto generated")
	}
	for name, line := range map[string]string{
		"man/lockkeeper.1":      "  75     held by another",
		"man/lockkeeper-run.1":  "  76    lost: the lease was lost, and the command was ended if it still ran",
		"man/lockkeeper-lead.1": "  130   Ctrl-C ended it",
	} {
		require.Contains(t, pages[name], "\n"+line+"\n", "a table became prose, or is not there")
	}
	for _, tool := range [][]string{{"bash", "-n", "lockkeeper.bash"}, {"zsh", "-n", "_lockkeeper"}, {"fish", "--no-execute", "lockkeeper.fish"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			t.Logf("no %s here to read its completions with", tool[0])
			continue
		}
		for _, f := range docs {
			if name := filepath.Join(r.work, filepath.Base(f.name)); strings.HasSuffix(f.name, "/"+tool[2]) {
				require.NoError(t, os.WriteFile(name, f.data, 0o600))
				out, err := exec.Command(tool[0], tool[1], name).CombinedOutput()
				require.NoError(t, err, string(out))
			}
		}
	}
}

func TestWhatCannotBeReleasedIsSaid(t *testing.T) {
	full := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "old"), nil, 0o600))
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, `-version is "", want vX.Y.Z`},
		{[]string{"-version", "1.2.3"}, `-version is "1.2.3", want vX.Y.Z`},
		{[]string{"-version", "v0.2"}, `-version is "v0.2", want vX.Y.Z`},
		{[]string{"-version", next}, "-out is not given"},
		{[]string{"-version", next, "-out", full}, "not empty"},
		{[]string{"-version", next, "-out", filepath.Join(full, "new"), "-platforms", "plan9/amd64"}, `-platforms has "plan9/amd64", want some of linux/amd64`},
		{[]string{"-version", "v9.9.9", "-out", filepath.Join(full, "new"), "-modified"}, "-version is v9.9.9, but in go.work"},
	} {
		out, err := exec.Command(tool, c.args...).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), c.want)
		require.NoDirExists(t, filepath.Join(full, "new"))
	}
}

func TestACheckoutWithChangesIsNoRelease(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"init", "-q"}, {"-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty", "-m", "a"}} {
		out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	r := release{top: dir, work: t.TempDir(), version: next}
	require.NoError(t, r.export(t.Context()))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), []byte("1"), 0o600))
	require.ErrorContains(t, r.export(t.Context()), "not committed")
	r.modified = true
	require.NoError(t, r.export(t.Context()))
	require.True(t, strings.HasSuffix(r.commit, "+modified"))
	require.FileExists(t, filepath.Join(r.work, "tree", "new"))
}

func TestACandidateComesBeforeItsVersion(t *testing.T) {
	require.Equal(t, "0.3.0", debVersion("v0.3.0"))
	require.Equal(t, "0.3.0~rc.1", debVersion("v0.3.0-rc.1"))
	require.Equal(t, "0.3.0~rc.1.x", debVersion("v0.3.0-rc.1-x"))
}

func TestAnArchiveForWindowsIsReadByOthers(t *testing.T) {
	when := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	data, err := zipped(when, under("dir", []file{{name: "lockkeeper.exe", data: []byte("MZ"), mode: 0o755}, {name: "man/a.1", data: []byte("x")}}))
	require.NoError(t, err)
	in, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	var names []string
	for _, f := range in.File {
		names = append(names, f.Name)
		require.True(t, f.Modified.Equal(when), f.Name)
		require.Equal(t, strings.HasSuffix(f.Name, "/"), f.Mode().IsDir(), f.Name)
	}
	require.Equal(t, []string{"dir/", "dir/lockkeeper.exe", "dir/man/", "dir/man/a.1"}, names)
	require.Equal(t, os.FileMode(0o755), in.File[1].Mode())
}
