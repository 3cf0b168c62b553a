//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"
)

// in runs a program in a root of its own, with a /proc and a /dev/null, as every container
// has, and nothing else of this system: as root there, or as the user of the image.
func in(t *testing.T, root string, nobody bool, args ...string) (string, error) {
	t.Helper()
	null := filepath.Join(root, "dev/null")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "proc"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Dir(null), 0o755))
	require.NoError(t, os.WriteFile(null, nil, 0o644))
	outer := []string{"--mount"}
	inner := []string{"--pid", "--mount", "--fork", "--kill-child", "--root=" + root, "--mount-proc"}
	switch {
	case os.Getuid() != 0:
		outer = append(outer, "--map-root-user")
	case nobody:
		inner = append(inner, "--setgid="+user, "--setuid="+user)
	}
	outer = append(outer, "sh", "-c", `mount --bind /dev/null "$0" && exec "$@"`, null, "unshare")
	cmd := exec.Command("unshare", append(append(outer, inner...), args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/usr/sbin:/bin:/sbin"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// runs shows that lockkeeper works in a root: it knows what it is, and runs a program under a
// lock that another can't have meanwhile.
func runs(t *testing.T, root string, nobody bool) {
	t.Helper()
	head, err := exec.Command("git", "rev-parse", "HEAD").Output()
	require.NoError(t, err)
	out, err := in(t, root, nobody, "/usr/bin/lockkeeper", "version")
	require.NoError(t, err, out)
	require.Regexp(t, `^lockkeeper `+next+` `+string(head[:12])+`(\+modified)? `+runtime.Version()+` linux/`+runtime.GOARCH+`\n$`, out)
	// The program under the lock is lockkeeper, too, which shows the holder of the lock.
	out, err = in(t, root, nobody, "/usr/bin/lockkeeper", "run", "job", "--url=file:///tmp/locks", "--holder=me", "--", "/usr/bin/lockkeeper", "list", "--url=file:///tmp/locks")
	require.NoError(t, err, out)
	require.Regexp(t, `(?m)^job .*\bme\b`, out)
	out, err = in(t, root, nobody, "/usr/bin/lockkeeper", "run", "job", "--url=file:///tmp/locks", "--", "/usr/bin/lockkeeper", "run", "job", "--url=file:///tmp/locks", "--once", "--", "/usr/bin/lockkeeper", "version")
	require.Error(t, err, out)
	require.NotContains(t, out, runtime.Version(), "the lock was granted twice")
}

func TestThePackageInstallsInAnEmptyRootAndRuns(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Skip("no dpkg: ", err)
	}
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "tmp"), 0o777))
	for _, dir := range []string{"info", "updates", "triggers"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "var/lib/dpkg", dir), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644))
	deb := filepath.Join(built, "lockkeeper_"+strings.TrimPrefix(next, "v")+"_"+runtime.GOARCH+".deb")
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(dpkg, append([]string{"--root=" + root, "--force-not-root"}, args...)...).CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	run("--install", deb)
	require.Empty(t, run("--verify", "lockkeeper"))
	runs(t, root, false)
	for _, name := range []string{"usr/share/man/man1/lockkeeper-run.1.gz", "usr/share/doc/lockkeeper/copyright", "usr/share/bash-completion/completions/lockkeeper"} {
		require.FileExists(t, filepath.Join(root, name))
	}
	run("--purge", "lockkeeper")
	require.NoDirExists(t, filepath.Join(root, "usr"), "the package left something")
	lintian, err := exec.LookPath("lintian")
	if err != nil {
		t.Log("no lintian here to look at the package")
		return
	}
	out, err := exec.Command(lintian, "--allow-root", "--fail-on=error,warning", deb).CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestTheImageIsRightAndRunsAsNobody(t *testing.T) {
	dir := t.TempDir()
	archive := filepath.Join(built, "lockkeeper_"+strings.TrimPrefix(next, "v")+"_image.tar")
	out, err := exec.Command("tar", "-C", dir, "-xf", archive).CombinedOutput()
	require.NoError(t, err, string(out))
	l, err := layout.FromPath(dir)
	require.NoError(t, err)
	index, err := l.ImageIndex()
	require.NoError(t, err)
	require.NoError(t, validate.Index(index))
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 1)
	require.Equal(t, strings.TrimPrefix(next, "v"), manifest.Manifests[0].Annotations["org.opencontainers.image.ref.name"])
	versions, err := index.ImageIndex(manifest.Manifests[0].Digest)
	require.NoError(t, err)
	manifest, err = versions.IndexManifest()
	require.NoError(t, err)
	var image v1.Image
	for _, d := range manifest.Manifests {
		if d.Platform.Architecture == runtime.GOARCH {
			image, err = versions.Image(d.Digest)
			require.NoError(t, err)
		}
	}
	require.NotNil(t, image)
	config, err := image.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "65532:65532", config.Config.User)
	require.Equal(t, []string{"/usr/bin/lockkeeper"}, config.Config.Entrypoint)
	content := mutate.Extract(image)
	defer func() { require.NoError(t, content.Close()) }()
	root := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(root), 0o755))
	require.NoError(t, os.Chmod(root, 0o755))
	unpack := exec.Command("tar", "-C", root, "--no-same-owner", "-xpf", "-")
	unpack.Stdin = content
	out, err = unpack.CombinedOutput()
	require.NoError(t, err, string(out))
	authorities, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	require.NoError(t, err)
	require.Greater(t, strings.Count(string(authorities), "BEGIN CERTIFICATE"), 100)
	runs(t, root, true)
}

func TestTheListOfPartsIsWhatIsLinked(t *testing.T) {
	for _, p := range platforms {
		name := "lockkeeper_" + strings.TrimPrefix(next, "v") + "_" + strings.ReplaceAll(p, "/", "_") + ".spdx.json"
		f, err := os.Open(filepath.Join(built, name))
		require.NoError(t, err)
		defer f.Close()
		doc, err := spdxjson.Read(f)
		require.NoError(t, err)
		require.NoError(t, spdxlib.ValidateDocument(doc))
		versions := map[string]string{}
		for _, pkg := range doc.Packages {
			versions[pkg.PackageName] = pkg.PackageVersion
		}
		require.Equal(t, runtime.Version(), versions["stdlib"])
		for _, m := range []string{"", "/cmd/lockkeeper", "/backends/s3", "/backends/sqlite"} {
			require.Equal(t, next, versions[root+m], m)
		}
		sums, err := os.ReadFile("../../cmd/lockkeeper/go.sum")
		require.NoError(t, err)
		for path, version := range versions {
			if path != "stdlib" && !strings.HasPrefix(path, root) {
				require.Contains(t, string(sums), path+" "+version+" h1:")
			}
		}
	}
}
