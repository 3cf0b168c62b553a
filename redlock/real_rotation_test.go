package redlock_test

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/internal/tlsfile"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// What was right when the locker began is not for ever.
func TestRealFilesOfTLSAreReadForEachConnection(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	place := func(ca *storetest.Authority) {
		ca.Issue(t, storetest.Certificate{Name: "client"})
		for _, name := range []string{"ca.crt", "client.crt", "client.key"} {
			text, err := os.ReadFile(filepath.Join(ca.Dir, name))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		}
	}
	old, fresh := storetest.NewAuthority(t), storetest.NewAuthority(t)
	place(old)
	port := strconv.Itoa(redistest.FreePort(t))
	old.Issue(t, storetest.Certificate{Name: "server"})
	s := redistest.Start(t, tlsArgs(old, storetest.Certificate{Name: "server"}, port)...)
	o := throwaway()
	o.GetTLS = func(context.Context) (*tls.Config, error) {
		return tlsfile.Load(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	}
	l := dialURLs(t, []string{"rediss://127.0.0.1:" + port}, o)
	held := acquire(t, l, "k", longTTL)

	// The server takes another authority's certificates now, and has one of that itself.
	fresh.Issue(t, storetest.Certificate{Name: "server"})
	for _, file := range []string{"ca.crt", "server.crt", "server.key"} {
		text, err := os.ReadFile(filepath.Join(fresh.Dir, file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(old.Dir, file), text, 0o600))
	}
	s.Do("CONFIG", "SET", "tls-cert-file", filepath.Join(old.Dir, "server.crt"), "tls-key-file", filepath.Join(old.Dir, "server.key"), "tls-ca-cert-file", filepath.Join(old.Dir, "ca.crt"))
	s.Do("CLIENT", "KILL", "TYPE", "normal")
	eventually(t, "the reason", func() bool {
		err := held.Extend(within(t, time.Second), longTTL)
		return err != nil && strings.Contains(err.Error(), "certificate signed by unknown authority")
	})
	place(fresh)
	require.NoError(t, extend(t, held, longTTL))
	release(t, held)

	// A file that can't be read takes no connection away that stands.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "client.key"), nil, 0o600))
	lease := acquire(t, l, "k", longTTL)
	release(t, lease)
	s.Do("CLIENT", "KILL", "TYPE", "normal")
	eventually(t, "the reason", func() bool {
		_, err := l.TryAcquire(within(t, time.Second), "k", longTTL)
		return err != nil && strings.Contains(err.Error(), "TLS configuration: the client's certificate")
	})
}

func TestRealPasswordsThatChange(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("first-secret\n")
	s := redistest.Start(t)
	s.Do("ACL", "SETUSER", "keeper", "on", ">first-secret", "allcommands", "allkeys", "allchannels")
	o := throwaway()
	var asked []string
	var mu sync.Mutex
	o.Credentials = func(_ context.Context, node string) (string, string, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, node)
		text, err := os.ReadFile(file)
		return "", strings.TrimSpace(string(text)), err
	}
	lockers := map[string]*redlock.Locker{
		"file":     dialURLs(t, []string{"redis://keeper@" + s.Addr() + "?password_file=" + file}, throwaway()),
		"function": dialURLs(t, []string{"redis://keeper@" + s.Addr()}, o),
	}
	leases := map[string]lock.Lease{}
	for name, l := range lockers {
		leases[name] = acquire(t, l, name, longTTL)
	}
	s.Do("ACL", "SETUSER", "keeper", "resetpass", ">second-secret")
	s.Do("CLIENT", "KILL", "USER", "keeper")
	for name, lease := range leases {
		eventually(t, "the reason", func() bool {
			err := lease.Extend(within(t, time.Second), longTTL)
			if err != nil {
				require.NotContains(t, err.Error(), "secret")
			}
			return err != nil && strings.Contains(err.Error(), "WRONGPASS")
		})
		h, err := lockers[name].Health(within(t, testTimeout))
		require.NoError(t, err)
		require.ErrorContains(t, h.Nodes[0].Err, "refuses the user or the password")
	}
	write("second-secret\r\nand a line that is none of it\n")
	o.Credentials = nil // it was copied
	for name, lease := range leases {
		if name == "function" {
			write("second-secret")
		}
		require.NoError(t, extend(t, lease, longTTL))
		release(t, lease)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Greater(t, len(asked), 1)
	require.Equal(t, s.Addr(), asked[0])

	write("\n")
	s.Do("CLIENT", "KILL", "USER", "keeper")
	eventually(t, "the reason", func() bool {
		_, err := lockers["file"].TryAcquire(within(t, time.Second), "k", longTTL)
		return err != nil && strings.Contains(err.Error(), "its first line is empty")
	})
}
