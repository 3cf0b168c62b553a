package redlock

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock/internal/nodeconn"
)

// refused is the error of Dial for these URLs, which it gives before any I/O.
func refused(t *testing.T, urls ...string) error {
	t.Helper()
	l, err := Dial(t.Context(), urls, nil)
	require.Nil(t, l, urls)
	require.ErrorIs(t, err, lock.ErrInvalid, urls)
	return err
}

func TestBadURLsAreRefusedAndOnlyAWrongSchemeIsQuoted(t *testing.T) {
	for url, says := range map[string]string{
		"":                                   "want redis://",
		"localhost:6379":                     "no scheme",
		"topsecret:x@h:1":                    "no scheme",
		"topsecret:x://h:1":                  "no scheme",
		"http://u:topsecret@h":               `the scheme is "http"`,
		"redis://:topsecret@":                "no address",
		"unix://":                            "no address",
		"unix://topsecret/redis.sock":        "no address",
		"redis://u:topsecret@[::1":           "not a URL",
		"redis://u:topsecret@h:99999":        "1 to 65535",
		"redis://u:topsecret@h:0":            "1 to 65535",
		"redis://h?cluster=true&addr=i:0":    "1 to 65535",
		"redis://h/topsecret":                "the database",
		"redis://h/-1":                       "the database",
		"redis://h/0/topsecret":              "the database",
		"redis://h?db=topsecret":             "the database",
		"rediss://h?skip_verify=topsecret":   "skip_verify",
		"redis://h?addr=topsecret:1":         "more than one address",
		"redis://h?cluster=true&addr=i":      "addr is not host:port",
		"redis://h?cluster=true&addr=:1":     "addr is not host:port",
		"redis://h?master_set=m&addr=[::1]":  "addr is not host:port",
		"redis://h?cluster=topsecret":        "cluster is neither",
		"redis://h?topsecret=1":              "an unknown parameter, want some of addr, ",
		"redis://h?client_name=%zztopsecret": "percent-encoded",
		"redis://h#topsecret":                "a fragment",

		// A node that hangs would keep its requests for ever.
		"redis://h?write_timeout=-1s":       "write_timeout is not a duration above 0",
		"redis://h?write_timeout=0":         "write_timeout is not a duration above 0",
		"redis://h?write_timeout=topsecret": "write_timeout is not a duration above 0",
		"redis://h?dial_timeout=0s":         "dial_timeout is not a duration above 0",
		"redis://h?dial_timeout=-1s":        "dial_timeout is not a duration above 0",

		"redis://u:topsecret@h?password_file=/f":                                       "a password and a password_file",
		"redis://u@h?password_file=$HOME/f":                                            "password_file has a variable",
		"redis://u@h?password_file=":                                                   "password_file is empty",
		"redis://u@h?password_file=/dev/null":                                          "its first line is empty",
		"redis://u@h?password_file=/no/such/file":                                      "/no/such/file: no such file",
		"redis://h?sentinel_tls=true":                                                  "sentinel_tls without master_set=name",
		"redis://h?sentinel_password=topsecret":                                        "sentinel_password without master_set=name",
		"redis://h?master_set=m&sentinel_tls=perhaps":                                  "sentinel_tls is neither true nor false",
		"redis://h?master_set=m&sentinel_password_file=/no/such/file":                  "/no/such/file: no such file",
		"redis://h?master_set=m&sentinel_password_file=":                               "sentinel_password_file is empty",
		"redis://h?master_set=m&sentinel_password_file=/f&sentinel_password=topsecret": "want one of them",

		// Passwords that were not encoded: any part of the URL is a piece of them.
		"redis://u:12/topsecret@h":          "an @ after the address",
		"redis://u:topsecret/34@h":          "not a URL",
		"redis://u:1@topsecret/3@h:1":       "an @ after the address",
		"redis://u:12?topsecret@h":          "an @ after the address",
		"redis://u:12#topsecret@h":          "an @ after the address",
		"unix://u:12/topsecret@/redis.sock": "an @ after the address",
	} {
		err := refused(t, "redis://good", url)
		require.ErrorContains(t, err, "node 2 of 2: ", url)
		require.ErrorContains(t, err, says, url)
		require.NotContains(t, strings.ReplaceAll(err.Error(), "want redis://[user:password@]", ""), "topsecret", url)
	}
}

func TestTwoURLsOfOneServerAreOneVoteTooMany(t *testing.T) {
	for _, c := range []struct{ a, b, says string }{
		{"redis://h/0", "redis://h/1", "nodes 1 (h:6379) and 2 (h:6379/1) are the same server"},
		{"redis://a:topsecret@h:1", "redis://b:topsecret@H:1", "nodes 1 (h:1) and 2 (h:1)"},
		{"redis://h", "rediss://h:6379?client_name=x", "nodes 1 (h:6379) and 2 (h:6379)"},
		{"redis://h?db=2", "valkey://h", "nodes 1 (h:6379/2) and 2 (h:6379)"},
		{"unix:///a.sock", "unix:///a.sock?db=1", "nodes 1 (unix:/a.sock) and 2 (unix:/a.sock)"},
		{"redis://h:1?cluster=true", "redis://i:2?cluster=true&addr=h:1", "nodes 1 (h:1) and 2 (i:2)"},
		{"redis://h:1?cluster=true", "redis://h:1", "nodes 1 (h:1) and 2 (h:1)"},
		{"redis://h:1?master_set=m&addr=i:1", "redis://i:1?master_set=m", "nodes 1 (m@h:1) and 2 (m@i:1)"},
	} {
		err := refused(t, c.a, c.b)
		require.ErrorContains(t, err, c.says)
		require.NotContains(t, err.Error(), "topsecret")
	}
	// The same Sentinels know several primaries, and other Sentinels others of that name.
	seen := map[string]bool{}
	for _, u := range []string{"redis://h:1?master_set=m", "redis://h:1?master_set=n", "redis://i:1?master_set=m", "redis://h:1"} {
		n, err := nodeconn.ParseURL(u)
		require.NoError(t, err)
		require.Len(t, n.Servers(), 1)
		require.False(t, seen[n.Servers()[0]], u)
		seen[n.Servers()[0]] = true
	}
}

func TestTLSAndGetTLSAreRefusedTogether(t *testing.T) {
	_, err := Dial(t.Context(), []string{"redis://h"}, &Options{TLS: &tls.Config{}, GetTLS: func(context.Context) (*tls.Config, error) { return nil, nil }})
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "TLS and GetTLS are both set")
}
