package hostcheck_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/hostcheck"
)

func TestANameThatLeadsHereIsNotOurs(t *testing.T) {
	names := []string{"locks.example.com"}
	for _, host := range []string{"localhost", "LOCALHOST:4041", "127.0.0.1", "127.0.0.1:4041", "[::1]:4041", "[::1]", "10.1.2.3:80", "locks.example.com", "Locks.Example.com:443"} {
		require.True(t, hostcheck.Ours(host, names), host)
	}
	for _, host := range []string{"", "evil.example", "evil.example:4041", "localhost.evil.example", "127.0.0.1.evil.example", "locks.example.com.evil.example", "127.0.0.1@evil.example", "2130706433", "0x7f.1", "localhost:4041:evil", "localhost:port", "[::1].evil.example"} {
		require.False(t, hostcheck.Ours(host, names), host)
	}
	require.False(t, hostcheck.Ours("locks.example.com", nil))
}

// A probe of HAProxy is HTTP/1.0 and has no Host, unless it is configured to.
func TestARequestOfHTTP10WithoutAHostIsNoBrowsers(t *testing.T) {
	for text, want := range map[string]bool{
		"GET /readyz HTTP/1.0\r\n\r\n":                       true,
		"GET /readyz HTTP/1.0\r\nHost: evil.example\r\n\r\n": false,
		"GET http://evil.example/ HTTP/1.0\r\n\r\n":          false,
		"GET /readyz HTTP/1.1\r\nHost:\r\n\r\n":              false,
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		require.NoError(t, err)
		require.Equal(t, want, hostcheck.Sent(r, nil), text)
	}
}
