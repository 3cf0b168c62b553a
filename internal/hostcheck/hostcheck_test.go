package hostcheck_test

import (
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
