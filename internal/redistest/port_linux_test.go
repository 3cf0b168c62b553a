package redistest

import (
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of 500 ports chosen at random among so few, some would meet: all are in nobody's use yet.
func TestPortsThatAreNotYetUsedAreGivenOnce(t *testing.T) {
	given := map[int]bool{}
	give := func(port int) {
		require.False(t, given[port], "%d is given twice", port)
		given[port] = true
	}
	for range 500 {
		give(FreePort(t))
		bus := FreeBusPort(t)
		give(bus)
		give(bus + busAbove)
	}
}

func TestAKilledServersPortIsItsOwnUntilTheTestEnds(t *testing.T) {
	Require(t)
	var s *Server
	t.Run("inner", func(t *testing.T) {
		s = Start(t)
		for range 2 {
			_, err := reserve(s.Port())
			require.ErrorIs(t, err, syscall.EADDRINUSE)
			s.Kill()
			_, err = reserve(s.Port())
			require.ErrorIs(t, err, syscall.EADDRINUSE)
			_, err = net.Dial("tcp", s.Addr())
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			s.Restart(false)
		}
	})
	// Its connections may linger on the address, which only a listener may then share.
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port())))
	require.NoError(t, err)
	require.NoError(t, ln.Close())
}
