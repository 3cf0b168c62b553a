package redistest

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDoTalksToTheServer(t *testing.T) {
	s := Start(t)
	require.Equal(t, "OK", s.Do("SET", "k", "v with spaces\r\n"))
	require.Equal(t, "v with spaces\r\n", s.Do("GET", "k"))
	require.Equal(t, "", s.Do("GET", "none"))
	require.Equal(t, "1", s.Do("DEL", "k"))
	require.Equal(t, "maxmemory-policy\nnoeviction", s.Do("CONFIG", "GET", "maxmemory-policy"))
	require.Contains(t, s.Do("INFO", "server"), "run_id:")
	require.Equal(t, "OK", s.Do("FLUSHALL"))
	require.Equal(t, "OK", s.Do("DEBUG", "SLEEP", "0"))

	_, err := s.Try("NOSUCHCOMMAND")
	require.ErrorAs(t, err, new(ReplyError))
	require.ErrorContains(t, err, "unknown command")
}

func TestOptionsOverrideTheDefaults(t *testing.T) {
	s := Start(t, "--appendonly", "yes", "--appendfsync", "always", "--requirepass", "secret")
	require.Equal(t, "appendonly\nyes", s.Do("CONFIG", "GET", "appendonly"))
	require.Equal(t, "appendfsync\nalways", s.Do("CONFIG", "GET", "appendfsync"))
	_, err := roundTrip(s.Addr(), nil, upTimeout, "GET", "k")
	require.Equal(t, ReplyError("NOAUTH Authentication required."), err)
}

func TestServersOfOneTestAreIndependent(t *testing.T) {
	servers := StartN(t, 3)
	require.Len(t, Addrs(servers), 3)
	servers[0].Do("SET", "k", "v")
	require.Equal(t, "", servers[1].Do("GET", "k"))
	require.NotEqual(t, servers[0].Dir(), servers[1].Dir())
	require.NotEqual(t, servers[0].PID(), servers[2].PID())
}

func TestKilledServerRefusesConnections(t *testing.T) {
	s := Start(t)
	s.Kill()
	require.Zero(t, s.PID())
	_, err := s.Try("PING")
	require.ErrorContains(t, err, "refused")
	s.Kill() // once more changes nothing
	s.Restart(false)
	require.Equal(t, "PONG", s.Do("PING"))
}

func TestPausedServerIsSilentAndLosesNothing(t *testing.T) {
	s := Start(t)
	s.Pause()
	conn, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "SET k v\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	s.Resume()
	require.NoError(t, conn.SetReadDeadline(time.Time{}))
	_, err = io.ReadFull(conn, make([]byte, len("+OK\r\n")))
	require.NoError(t, err)
	s.WaitUp()
	require.Equal(t, "v", s.Do("GET", "k"))

	s.Pause()
	s.Restart(true) // a paused server can be killed
	require.Equal(t, "", s.Do("GET", "k"))
}

func TestRestartKeepsOrDeletesTheData(t *testing.T) {
	s := Start(t, "--appendonly", "yes", "--appendfsync", "always")
	addr, pid, run := s.Addr(), s.PID(), s.Do("INFO", "server")
	s.Do("SET", "k", "v")

	s.Restart(false)
	require.Equal(t, addr, s.Addr())
	require.NotEqual(t, pid, s.PID())
	require.NotEqual(t, run, s.Do("INFO", "server"))
	require.Equal(t, "v", s.Do("GET", "k"))

	s.Restart(true)
	require.Equal(t, "", s.Do("GET", "k"))
}

func TestServerLeavesNothingBehind(t *testing.T) {
	var s *Server
	t.Run("inner", func(t *testing.T) { s = Start(t) })
	if s == nil {
		t.Skip(Missing)
	}
	require.Zero(t, s.PID())
	require.NoDirExists(t, filepath.Dir(s.Dir()))
	_, err := s.Try("PING")
	require.Error(t, err)
}

func TestServerThatCanNotStartSaysWhy(t *testing.T) {
	s := Start(t)
	s.Kill()
	s.args = []string{"--no-such-option", "1"}
	err := s.start()
	require.ErrorContains(t, err, "has ended")
	require.Contains(t, s.logTail(), "no-such-option")
}

// fatalTB records how a test would have ended.
type fatalTB struct {
	testing.TB
	ended chan string
}

func (f fatalTB) Helper() {}
func (f fatalTB) Skip(args ...any) {
	f.ended <- "skip: " + args[0].(string)
	panic(f)
}
func (f fatalTB) Fatalf(format string, args ...any) {
	f.ended <- "fatal: " + format
	panic(f)
}

func TestMissingServerSkipsUnlessRequired(t *testing.T) {
	t.Setenv(BinaryEnv, filepath.Join(t.TempDir(), "none"))
	for required, want := range map[string]string{"": "skip: redis-server not found", "1": "fatal: "} {
		t.Setenv(RequireEnv, required)
		tb := fatalTB{ended: make(chan string, 1)}
		require.Panics(t, func() { Start(tb) })
		require.True(t, strings.HasPrefix(<-tb.ended, want))
	}
}
