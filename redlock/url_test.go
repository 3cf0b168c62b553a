package redlock

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
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
		n, err := parseURL(u)
		require.NoError(t, err)
		require.Len(t, n.servers(), 1)
		require.False(t, seen[n.servers()[0]], u)
		seen[n.servers()[0]] = true
	}
}

func TestURLsAreReadWithTheirParameters(t *testing.T) {
	u, err := parseURL("rediss://us%40er:p%2F%3F%23%40w@Host:7000/3?dial_timeout=1s&write_timeout=2s&client_name=a%40b")
	require.NoError(t, err)
	require.Equal(t, "host:7000/3", u.name())
	s, err := (*Options)(nil).withDefaults(1)
	require.NoError(t, err)
	o, g := u.client(&s), u.greeter(&s)
	user, password, err := g.login(t.Context())
	require.NoError(t, err)
	require.Equal(t, "us@er", user)
	require.Equal(t, "p/?#@w", password)
	require.Equal(t, 3, g.db)
	require.Equal(t, "a@b", g.name)
	require.Empty(t, o.Username+o.Password+o.ClientName, "the greeter says it")
	require.Equal(t, "1s 2s", o.Dialer.Timeout.String()+" "+o.ConnWriteTimeout.String())
	require.NotNil(t, o.TLSConfig)
	require.True(t, o.ForceSingleClient)
	require.Empty(t, o.TLSConfig.ServerName, "each server by the name that it is dialed by")

	u, err = parseURL("rediss://h:26379?master_set=m&addr=i:1&sentinel_user=a&sentinel_password=b&client_name=c&dial_timeout=1s")
	require.NoError(t, err)
	o = u.client(&s)
	require.Equal(t, []string{"h:26379", "i:1"}, o.InitAddress)
	g = u.greeter(&s)
	user, password, err = g.sentinelLogin(t.Context())
	require.NoError(t, err)
	require.Equal(t, "m a b c 1s", strings.Join([]string{
		o.Sentinel.MasterSet, user, password, g.name, o.Sentinel.Dialer.Timeout.String(),
	}, " "))
	require.True(t, forSentinel(&o.Sentinel.Dialer))
	require.False(t, forSentinel(&o.Dialer))
	require.Positive(t, o.Sentinel.TopologyRefreshInterval)
	require.Positive(t, o.ClusterOption.MaxMovedRedirections)
	require.NotNil(t, o.Sentinel.TLSConfig)
	require.False(t, o.ForceSingleClient)
}

func TestSentinelsAndServersAreNamedWithTLSOnOneSideOnly(t *testing.T) {
	s, err := (&Options{TLS: &tls.Config{ServerName: "own"}}).withDefaults(1)
	require.NoError(t, err)
	for url, want := range map[string][2]bool{ // servers, Sentinels
		"redis://h:1?master_set=m":                     {false, false},
		"rediss://h:1?master_set=m":                    {true, true},
		"redis://h:1?master_set=m&sentinel_tls=true":   {false, true},
		"rediss://h:1?master_set=m&sentinel_tls=false": {true, false},
		"rediss://h:1?master_set=m&sentinel_tls=true":  {true, true},
	} {
		u, err := parseURL(url)
		require.NoError(t, err, url)
		o := u.client(&s)
		require.Equal(t, want, [2]bool{o.TLSConfig != nil, o.Sentinel.TLSConfig != nil}, url)
		for _, c := range []*tls.Config{o.TLSConfig, o.Sentinel.TLSConfig} {
			if c != nil {
				require.Equal(t, "own", c.ServerName)
				require.GreaterOrEqual(t, c.MinVersion, uint16(tls.VersionTLS12))
			}
		}
	}
	_, err = Dial(t.Context(), []string{"redis://h"}, &Options{TLS: &tls.Config{}, GetTLS: func(context.Context) (*tls.Config, error) { return nil, nil }})
	require.ErrorIs(t, err, lock.ErrInvalid)
	require.ErrorContains(t, err, "TLS and GetTLS are both set")
}
