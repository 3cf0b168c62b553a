package kubernetes

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

func nameOf(t testing.TB, key string) string {
	t.Helper()
	name, err := names.Name(key)
	require.NoError(t, err)
	return objectName(name)
}

func TestAKeyThatCanBeALeasesNameIsOne(t *testing.T) {
	for _, key := range []string{"pricing-oracle-keeper", "a", "0", "my-controller.example.com", strings.Repeat("a", maxLeaseName)} {
		require.Equal(t, key, nameOf(t, key))
	}
	require.Regexp(t, `^nightly-report\.[a-z2-7]{32}\.lockkeeper$`, nameOf(t, "Nightly/Report"))
	require.Regexp(t, `^[a-z2-7]{32}\.lockkeeper$`, nameOf(t, "ключ"))
	require.Regexp(t, `^a-lockkeeper\.[a-z2-7]{32}\.lockkeeper$`, nameOf(t, "a.lockkeeper"), "what has the form of a made name is none")
}

func FuzzLeaseNames(f *testing.F) {
	for _, key := range []string{"a", "A", "a.", ".a", "a..b", "-", "a/b", "a-b", "a%2fb", "ключ", strings.Repeat("x", 300), "x.lockkeeper", "%%health"} {
		f.Add(key, key+"-")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if lock.Check(a, time.Second) != nil || lock.Check(b, time.Second) != nil {
			return
		}
		x, y := nameOf(t, a), nameOf(t, b)
		for _, name := range []string{x, y} {
			if len(name) > maxLeaseName || !leaseName.MatchString(name) {
				t.Errorf("%q is no name of a Lease", name)
			}
		}
		if (a == b) != (x == y) {
			t.Errorf("%q is %q, and %q is %q", a, x, b, y)
		}
		if name, err := names.Name(a); err != nil || keyOf(name) != a {
			t.Errorf("the key of %q is %q, want %q", name, keyOf(name), a)
		}
	})
}

func TestWhatCanNotBeUsedIsRefusedBeforeAnyRequest(t *testing.T) {
	for _, o := range []*Options{nil, {}, {Namespace: "Locks"}, {Namespace: "a/b"}, {Namespace: strings.Repeat("a", 64)}, {Namespace: "a", ClockSkew: -1}, {Namespace: "a", ClockSkew: 2 * time.Hour}} {
		_, err := New(http.DefaultClient, "https://10.0.0.1", o)
		require.ErrorIs(t, err, lock.ErrInvalid, "%+v", o)
	}
	for _, host := range []string{"", "https://", "ftp://h", "https://u:s3cret@h", "https://h?s3cret=x", "h:x"} {
		_, err := New(http.DefaultClient, host, &Options{Namespace: "a"})
		require.ErrorIs(t, err, lock.ErrInvalid, host)
		require.NotContains(t, err.Error(), "s3cret")
	}
	_, err := New(nil, "h", &Options{Namespace: "a"})
	require.ErrorIs(t, err, lock.ErrInvalid)
	for _, host := range []string{"h", "h:6443", "https://h:6443/", "http://h", "https://rancher/k8s/clusters/c-1", "[::1]:6443"} {
		l, err := New(http.DefaultClient, host, &Options{Namespace: "a"})
		require.NoError(t, err, host)
		require.NoError(t, l.Close())
	}
}

func TestURLsThatCanNotBeUsedAreRefusedWithoutSecrets(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), nil, 0o600))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, rest := range []string{
		"", "ns", "/ns", "///a/b", "//u:s3cret@h/ns", "//h:x/ns", "//h/ns?tabel=x", "//h", "///?plain=true", "///ns?token-file=/x",
		"//h/ns?plain=true&token-file=/x", "//h/ns?token-file=/missing", "//h/ns?tls-ca=/missing", "//h/ns?clock-skew=2h", "//h/ns#x",
		"//h/ns?token-file=" + filepath.Join(dir, "token"), "///ns", "//:1/ns?plain=true",
	} {
		l, err := openURL(dir, rest)
		require.ErrorIs(t, err, lock.ErrInvalid, rest)
		require.NotContains(t, err.Error(), "s3cret")
		require.Nil(t, l)
	}
	_, err := InCluster(nil)
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "KUBERNETES_SERVICE_HOST")
}
