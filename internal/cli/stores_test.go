//go:build unix

package cli

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAMistakeInADatabaseFilesNameIsNoStoreWithoutLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ap.db")
	for _, url := range []string{"sqlite:" + path, "sqlite://" + path + "?table=x", "SQLite:" + path} {
		for _, verb := range [][]string{{"list"}, {"show", "k"}, {"health"}} {
			out, code := said(t, append(verb, "--url", url)...)
			require.NotZero(t, code)
			require.Contains(t, out, path+": no such file: no lock was ever taken there")
		}
	}
	require.NoFileExists(t, path)
}

func TestFilesOfTheEnvironmentReachEachStoreOrAreRefused(t *testing.T) {
	a := &app{getenv: func(name string) string {
		return map[string]string{tlsCA: "/ca", passwordFile: "/pw"}[name]
	}}
	for url, want := range map[string]string{
		"redlocks://h":           "redlocks://h?tls-ca=%2Fca&password-file=%2Fpw",
		"etcds://u:p@h":          "etcds://u:p@h?tls-ca=%2Fca",
		"natss://u:p@h":          "natss://u:p@h?tls-ca=%2Fca",
		"mysql://u:p@h/d":        "mysql://u:p@h/d?tls-ca=%2Fca",
		"postgres://u:p@h/d?a=b": "postgres://u:p@h/d?a=b&tls-ca=%2Fca",
		"sqlite:/a.db":           "sqlite:/a.db",
		"file:///run/locks":      "file:///run/locks",

		"kubernetes:///ns":               "kubernetes:///ns",
		"kubernetes://h:6443/ns":         "kubernetes://h:6443/ns?tls-ca=%2Fca",
		"kubernetes://h:1/ns?plain=true": "kubernetes://h:1/ns?plain=true",
	} {
		s, err := a.storeURL("LOCKKEEPER_URL", url)
		require.NoError(t, err, url)
		require.Equal(t, want, s.url)
	}
	for _, url := range []string{"mysql://u@h/d", "postgres://h/d", "etcd://h", "nats://h", "s3://b"} {
		_, err := a.storeURL("LOCKKEEPER_URL", url)
		require.Equal(t, exitUsage, codeOf(err))
		require.ErrorContains(t, err, "LOCKKEEPER_PASSWORD_FILE is set, which")
	}
	_, err := a.storeURL("LOCKKEEPER_URL", "postgres://u@h/d?passfile=/pgpass")
	require.NoError(t, err, "that is Postgres' own")
}
