package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// One that hangs, or is stopped, accepts nobody; Linux says so once enough wait.
func TestASocketThatIsServedByABusyProcessIsNotReplaced(t *testing.T) {
	dir, err := os.MkdirTemp("", "lead-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Listen(fd, 0))
	for full := false; !full; {
		conn, err := net.Dial("unix", path)
		if full = errors.Is(err, syscall.EAGAIN); !full {
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
		}
	}
	before, err := os.Lstat(path)
	require.NoError(t, err)
	_, err = listenSocket(path)
	require.ErrorContains(t, err, "too busy to answer")
	now, err := os.Lstat(path)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, now))
}

// A dial's own timeout is no os.ErrDeadlineExceeded.
func TestADialThatTakesTooLongIsATimeout(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(t.TempDir(), "s"))
	require.True(t, isTimeout(err), err)
	_, err = net.Dial("unix", filepath.Join(t.TempDir(), "s"))
	require.False(t, isTimeout(err), err)
}
