package redlock

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/lock"
)

// blackHole is an address of a listener whose queue is full: connecting to it takes as
// long as the one who connects is willing to wait.
func blackHole(t *testing.T) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	at, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	addr := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
	for range 10 {
		conn, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue does not fill")
	return ""
}

func TestAnAddressThatSwallowsPacketsDelaysDialByTheNodeTimeoutOnly(t *testing.T) {
	addr := blackHole(t)
	for _, parameters := range []string{"", "?cluster=true", "?master_set=m"} {
		done := make(chan error, 1)
		go func() {
			_, err := Dial(t.Context(), []string{"redis://" + addr + parameters}, &Options{NodeTimeout: 100 * time.Millisecond})
			done <- err
		}()
		select {
		case err := <-done:
			require.ErrorIs(t, err, lock.ErrUnavailable, parameters)
			require.ErrorContains(t, err, "node ")
		case <-time.After(20 * time.Second): // the system's own testTimeout is two minutes
			t.Fatalf("no answer: %q", parameters)
		}
	}
}
