package backends

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/backends/memory"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

func open(t *testing.T, rawURL string) lock.Locker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := Open(ctx, rawURL)
	require.NoError(t, err)
	if c, ok := lock.As[io.Closer](l); ok {
		t.Cleanup(func() { require.NoError(t, c.Close()) })
	}
	return l
}

func TestOpenedLockersExclude(t *testing.T) {
	nodes := []string{miniredis.RunT(t).Addr(), miniredis.RunT(t).Addr(), miniredis.RunT(t).Addr()}
	for _, rawURL := range []string{
		"memory:",
		"file://" + t.TempDir() + "/locks?owner=anna&lock-timeout=2s",
		"redlock://" + strings.Join(nodes, ",") + "?db=3&prefix=x:&node-timeout=5s&restart-guard=off",
	} {
		t.Run(strings.SplitN(rawURL, ":", 2)[0], func(t *testing.T) {
			l := open(t, rawURL)
			lease, err := l.TryAcquire(t.Context(), "k", time.Minute)
			require.NoError(t, err)
			_, err = l.TryAcquire(t.Context(), "k", time.Minute)
			require.ErrorIs(t, err, lock.ErrHeld)
			require.NoError(t, lease.Release(t.Context()))
		})
	}
}

func TestEachMemoryURLOpensAStoreOfItsOwn(t *testing.T) {
	for range 2 {
		_, err := open(t, "memory:").TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
	}
}

func TestEveryStoreTakesAnOwner(t *testing.T) {
	for _, rawURL := range []string{"memory:?owner=me+(host:1)", "file://" + t.TempDir() + "?owner=me+(host:1)"} {
		l := open(t, rawURL)
		_, err := l.TryAcquire(t.Context(), "k", time.Minute)
		require.NoError(t, err)
		_, err = l.TryAcquire(t.Context(), "k", time.Minute)
		held, ok := errors.AsType[*lock.HeldError](err)
		require.True(t, ok, err)
		require.Equal(t, "me (host:1)", held.Holder)
	}
	_, opts, err := parseRedlock("redlock", "//h1?owner=me+(host:1)")
	require.NoError(t, err)
	require.Equal(t, "me (host:1)", opts.Owner)
}

func TestPackageURLDoesNotParseHostLists(t *testing.T) {
	//lint:ignore SA1007 that it does not parse is the point
	_, err := url.Parse("redlock://h1:6379,h2")
	require.Error(t, err, "if it does now, parseRedlock can be simpler")
}

func TestRedlockURLsBecomeOneURLANode(t *testing.T) {
	urls, opts, err := parseRedlock("redlocks",
		"//us%40er:p%2Fa%3Ass%25@h1:6379,h2,[::1]:6381/?db=2&prefix=&quorum=3&drift-factor=0.02&assume-durable=true&retention=1h&restart-guard=90s&owner=me")
	require.NoError(t, err)
	require.Equal(t, &redlock.Options{NoPrefix: true, Quorum: 3, DriftFactor: 0.02, AssumeDurable: true,
		Retention: time.Hour, RestartGuard: 90 * time.Second, Owner: "me"}, opts)
	require.Len(t, urls, 3)
	for i, host := range []string{"h1:6379", "h2", "[::1]:6381"} {
		u, err := url.Parse(urls[i])
		require.NoError(t, err)
		password, _ := u.User.Password()
		require.Equal(t, []string{"rediss", "us@er", "p/a:ss%", host, "/2"}, []string{u.Scheme, u.User.Username(), password, u.Host, u.Path})
	}

	urls, _, err = parseRedlock("redlock", "//:secret@h1")
	require.NoError(t, err)
	require.Equal(t, []string{"redis://:secret@h1"}, urls)
}

func TestBadURLsAreRefusedByNameAndWithoutSecrets(t *testing.T) {
	const secret = "hunter2"
	for rawURL, want := range map[string]string{
		"":                                               "the URL is empty (is the variable set that it comes from?), want one that starts with file: or kubernetes: or memory: or redlock: or redlocks:, such as file:///run/locks or redlock://host1",
		"file:///run/locks ":                             "ends with a space",
		" redlock://h1":                                  "begins or ends with a space",
		"file:///run/locks\r\n":                          "a line's end",
		"memory:\r":                                      "a line's end",
		"redlock://h1?prefix=a\r":                        "a line's end",
		" \n":                                            "the URL is empty",
		"redis://u:" + secret + "@h1:6379/2":             "a redis: URL is that of one server, want redlock://host:6379 for one or redlock://host1:6379,host2",
		"Redis://h1":                                     "want redlock://host:6379 for one",
		"rediss://u:" + secret + "@h1:6379":              "want redlocks://host:6379 for one",
		"valkey://h1":                                    "want redlock://host:6379 for one",
		"valkeys://h1":                                   "want redlocks://host:6379 for one",
		"unix:///run/redis.sock":                         "want redlock://host:6379 for one",
		"localhost:6379":                                 "such as file:///run/locks or redlock://host1:6379",
		secret:                                           "redlock:",
		secret + "://h":                                  "redlock:",
		"s3://bucket":                                    `want it imported: _ "github.com/tonsurance/lockkeeper/backends/s3"`,
		"etcd://h1":                                      `want it imported: _ "github.com/tonsurance/lockkeeper/backends/etcd"`,
		"natss://" + secret + "@h1":                      `want it imported: _ "github.com/tonsurance/lockkeeper/backends/nats"`,
		"postgresql://u:" + secret + "@h/d":              `want it imported: _ "github.com/tonsurance/lockkeeper/backends/postgres"`,
		"mysql://u:" + secret + "@h/d":                   `want it imported: _ "github.com/tonsurance/lockkeeper/backends/mysql"`,
		"nosuch://h1":                                    "memory:",
		"memory:?owner=a&owner=b":                        "given once",
		"memory:shared":                                  "want memory: and nothing after it",
		"memory:?x=" + secret:                            `"x"`,
		"file:locks":                                     "absolute path",
		"file://host/locks":                              "absolute path",
		"file:///locks?dir=" + secret:                    `"dir"`,
		"file:///l?lock-timeout=soon":                    "lock-timeout",
		"file:///l?trust-file-system=perhaps":            "true or false",
		"file:///l?until-expiry=1h":                      "true or false",
		"file:///l#x":                                    "not a URL",
		"file://user:" + secret + "@h/%zz":               "not a URL",
		"redlock:h1":                                     "redlock://host:port",
		"redlock://":                                     "host 1",
		"redlock://h1,,h2":                               "host 2",
		"redlock://h1:0":                                 "port",
		"redlock://h1:65536":                             "port",
		"redlock://h1:":                                  "port",
		"redlock://::1":                                  "in brackets",
		"redlock://h1,fe80::1:6379":                      "in brackets",
		"redlock://:6379":                                "host 1",
		"redlock://h1:x":                                 "host 1",
		"redlock://u@h1":                                 "user:password@",
		"redlock://u:" + secret + "%@h1":                 "percent-encoded",
		"redlock://u:" + secret + "/x@h1":                "percent-encoded",
		"redlock://u:" + secret + "?x@h1":                "percent-encoded",
		"redlock://u:" + secret + "#@h1":                 "percent-encoded",
		"redlock://u:" + secret + "@h1:bad":              "host 1",
		"redlock://u:" + secret + "@h1/2":                "db=n",
		"redlock://h1?password=" + secret:                `"password"`,
		"redlock://h1?node_timeout=1s":                   `"node_timeout", want some of: db, prefix`,
		"redlock://h1?db=-1":                             "db",
		"redlock://h1?db=one":                            "db",
		"redlock://h1?db=1&db=2":                         "given once",
		"redlock://h1?quorum=most":                       "quorum",
		"redlock://h1?restart-guard=never":               "off",
		"redlock://h1,h2,h3?quorum=1":                    "uorum",
		"redlock://u:" + secret + "@h1?node-timeout=-5s": "NodeTimeout",
		"redlock://u:" + secret + "@h1,h1":               "h1",
		"redlocks://h1?tls-ca=/no/such/file":             "/no/such/file",
		"redlocks://h1?tls-cert=/no/such/file":           "both or neither",
		"redlock://h1?lazy=maybe":                        "lazy",
		"redlock://h1?password-file=/no/such/file":       "/no/such/file",
		"redlock://u:" + secret + "@h1?password-file=/f": "a password and a password-file",
		"redlock://h1?password-file=/dev/null":           "its first line is empty",
	} {
		l, err := Open(t.Context(), rawURL)
		require.ErrorIs(t, err, lock.ErrInvalid, rawURL)
		require.Nil(t, l, rawURL)
		require.ErrorContains(t, err, want, rawURL)
		require.NotContains(t, err.Error(), secret, rawURL)
	}
}

func TestAnUnreachableQuorumIsUnavailableWithoutThePassword(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	l, err := Open(ctx, "redlock://u:hunter2@127.0.0.1:1")
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.Nil(t, l)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestALazyLockerOpensWithoutAStore(t *testing.T) {
	l := open(t, "redlock://127.0.0.1:1?lazy=true")
	_, err := l.TryAcquire(t.Context(), "k", time.Second)
	require.ErrorIs(t, err, lock.ErrUnavailable)
}

func TestTLSFilesAreForTLSOnly(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.crt")
	server := httptest.NewTLSServer(nil)
	server.Close()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, text, 0o600))
	_, opts, err := parseRedlock("redlocks", "//h1?tls-ca="+ca)
	require.NoError(t, err)
	config, err := opts.GetTLS(t.Context())
	require.NoError(t, err)
	require.True(t, config.RootCAs.Equal(server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs))
	require.NoError(t, os.WriteFile(ca, nil, 0o600))
	_, err = opts.GetTLS(t.Context())
	require.ErrorContains(t, err, "no certificate in it", "it is read each time")
	require.NoError(t, os.WriteFile(ca, text, 0o600))
	_, _, err = parseRedlock("redlock", "//h1?tls-ca="+ca)
	require.ErrorIs(t, err, lock.ErrInvalid, "who gives an authority must not get a plain connection")
}

func TestAPasswordFileIsForAllNodes(t *testing.T) {
	for raw, want := range map[string]string{
		"//keeper@h1,h2?db=3&password-file=%2Frun%2Fpass%20word": "redis://keeper@h1/3?password_file=%2Frun%2Fpass+word",
		"//h1,h2?password-file=/run/p":                           "redis://h1?password_file=%2Frun%2Fp",
	} {
		urls, _, err := parseRedlock("redlock", raw)
		require.NoError(t, err)
		require.Len(t, urls, 2)
		require.Equal(t, want, urls[0])
	}
}

func TestRegisteredSchemesOpen(t *testing.T) {
	want := memory.New()
	Register("test-store", func(_ context.Context, u *url.URL) (lock.Locker, error) {
		switch u.Host {
		case "up":
			return want, nil
		case "nil":
			return nil, nil
		}
		return nil, errors.New("down")
	})
	l, err := Open(t.Context(), "Test-Store://up/x?y=z")
	require.NoError(t, err)
	require.Same(t, want, l)
	_, err = Open(t.Context(), "test-store://down")
	require.ErrorContains(t, err, "open test-store: down")
	_, err = Open(t.Context(), "test-store://nil")
	require.Error(t, err)
}

func TestRegisterPanicsOnMistakes(t *testing.T) {
	opener := func(context.Context, *url.URL) (lock.Locker, error) { return nil, nil }
	for _, scheme := range []string{"", "Upper", "a b", "1st", "a:b", "memory", "file", "redlock", "redlocks"} {
		require.Panics(t, func() { Register(scheme, opener) }, scheme)
	}
	require.Panics(t, func() { Register("nothing", nil) })
}
