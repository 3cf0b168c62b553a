//go:build unix

package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/lock"
)

// hung is an Inspector of a store that answers once, if at all, and then hangs.
type hung struct {
	lock.Inspector
	first []lock.Info
}

func (h hung) List(ctx context.Context, _ string) iter.Seq2[lock.Info, error] {
	return func(yield func(lock.Info, error) bool) {
		for _, info := range h.first {
			if !yield(info, nil) {
				return
			}
		}
		<-ctx.Done()
		yield(lock.Info{}, ctx.Err())
	}
}

func TestAListingOfAStoreThatHangsEndsAsAnOutage(t *testing.T) {
	for _, first := range [][]lock.Info{nil, {{Key: "a", Holder: "vm:1"}}} {
		synctest.Test(t, func(t *testing.T) {
			all, err := held(t.Context(), hung{first: first}, "")
			require.Equal(t, first, all, "what could be read is shown")
			require.ErrorIs(t, err, lock.ErrUnavailable)
			require.Equal(t, "the store can't decide: no answer within 10s", words(err))
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := held(ctx, hung{}, "")
	require.ErrorIs(t, err, context.Canceled, "the caller's end is no outage")
}

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

func TestHealthTellsAnOutageFromARefusalInTheWordsOfAShellUser(t *testing.T) {
	for want, err := range map[string]error{
		"down: the store can't decide: connection refused": fmt.Errorf("%w: dial tcp 127.0.0.1:1: connect: connection refused", lock.ErrUnavailable),
		"down: no answer": fmt.Errorf("%w; the store: %w", context.DeadlineExceeded, context.DeadlineExceeded),
		"refuses: refused by the store: check user and password": fmt.Errorf("%w: check user and password", lock.ErrRefused),
		"refuses: answers, but refuses writes":                   errors.New("answers, but refuses writes"),
	} {
		r := reportOf(lock.Health{Quorum: 1, Nodes: []lock.NodeHealth{{Name: "mysql", Err: err, Latency: 2 * slow}}})
		require.Equal(t, want, r.Nodes[0].State+": "+r.Nodes[0].Reason)
		require.Equal(t, r.Nodes[0].State == "down", len(r.Nodes[0].Advice) == 0, "a store that is away is not slow")
	}
}
