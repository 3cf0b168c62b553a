package redlock_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// These permissions are enough for leases, waiting, Inspect and Health. That each is
// needed, and that the documentation lists them, is internal/readme's to show.
func TestRealLeastPrivilegedUserCanDoEverything(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("ACL", "SETUSER", "keeper", "on", ">secret-of-keeper", "resetkeys", "~redlock:*", "~"+redlock.FencePrefix+"*", "~"+redlock.QueuePrefix+"*", "resetchannels", "&"+redlock.WakePrefix+"*",
		"-@all", "+evalsha", "+eval", "+get", "+set", "+del", "+pttl", "+pexpire", "+hmget", "+hset", "+time", "+info", "+config|get",
		"+ping", "+hello", "+auth", "+client|setname",
		"+client|tracking", "+subscribe", "+publish", "+zadd", "+zrank", "+zrange", "+zrem")
	l := dialURLs(t, []string{"redis://keeper:secret-of-keeper@" + s.Addr()}, throwaway())
	lease := acquire(t, l, "k", longTTL)
	require.NoError(t, extend(t, lease, longTTL))
	info, err := l.Inspect(within(t, patience), "k")
	require.NoError(t, err)
	require.Equal(t, lease.Token(), info.Token)
	h, err := l.Health(within(t, patience))
	require.NoError(t, err)
	require.NoError(t, h.Nodes[0].Err)
	wait := waiting(t, []*redistest.Server{s}, dialURLs(t, []string{"redis://keeper:secret-of-keeper@" + s.Addr()}, throwaway()), "k")
	release(t, lease)
	release(t, wait())
	require.Empty(t, s.Do("ACL", "LOG"), "nothing was refused")
}

func TestRealDialErrorsKeepPasswords(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "right")
	for _, url := range []string{
		"redis://:wrong-secret@" + s.Addr(), "redis://user:wrong-secret@127.0.0.1:1",
		"redis://:wrong-secret@127.0.0.1:1/x", "redis://:wrong-secret@[::1", "http://:wrong-secret@h", "redis://:wrong-secret@" + s.Addr() + "?addr=x:y:z",
		"redis://h?master_set=m&sentinel_password=wrong-secret&db=x",
	} {
		_, err := redlock.Dial(within(t, time.Second), []string{url}, throwaway())
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "wrong-secret")
	}
	acquire(t, dialURLs(t, []string{"redis://:right@" + s.Addr()}, throwaway()), "k", longTTL)
}

func TestRealUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(os.TempDir(), "lockkeeper-"+rand.Text()[:8]+".sock")
	redistest.Start(t, "--unixsocket", path)
	release(t, acquire(t, dialURLs(t, []string{"unix://" + path}, throwaway()), "k", longTTL))
}

func TestRealDialWorksWithAMinorityDownAndFindsIt(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	servers[2].Kill()
	l := dial(t, servers, throwaway())
	lease := acquire(t, l, "k", longTTL)
	servers[2].Restart(false)
	eventually(t, "the third node", func() bool {
		require.NoError(t, extend(t, lease, longTTL))
		return votes(servers, "k") == 3
	})
}

func TestRealDialWithoutAQuorumIsUnavailable(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 3)
	servers[1].Kill()
	servers[2].Kill()
	_, err := redlock.Dial(within(t, time.Second), urls(redistest.Addrs(servers)), throwaway())
	require.ErrorIs(t, err, lock.ErrUnavailable)
	require.ErrorContains(t, err, "node "+servers[1].Addr()+": ")
	require.ErrorContains(t, err, "node "+servers[2].Addr()+": ")
}

func TestRealFenceCounterOutlivesTheLockByTheRetention(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 1)
	o := throwaway()
	o.Retention = time.Hour
	l := dial(t, servers, o)
	release(t, acquire(t, l, "k", longTTL))
	left, err := strconv.ParseInt(servers[0].Do("PTTL", fenceKey("k")), 10, 64)
	require.NoError(t, err)
	require.Greater(t, left, (50 * time.Minute).Milliseconds())
	require.LessOrEqual(t, left, time.Hour.Milliseconds())
}

func TestRealTLSWithAPrivateCAAndClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	ca.issue(t, dir, "server")
	client := ca.issue(t, dir, "client")
	port := strconv.Itoa(redistest.FreePort(t))
	redistest.Start(t, "--tls-port", port, "--tls-cert-file", filepath.Join(dir, "server.crt"), "--tls-key-file", filepath.Join(dir, "server.key"),
		"--tls-ca-cert-file", filepath.Join(dir, "ca.crt"), "--tls-auth-clients", "yes")
	o := throwaway()
	o.TLS = &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{client}}
	release(t, acquire(t, dialURLs(t, []string{"rediss://127.0.0.1:" + port}, o), "k", longTTL))

	for name, config := range map[string]*tls.Config{
		"unknown authority": {Certificates: []tls.Certificate{client}},
		"":                  {RootCAs: ca.pool}, // no certificate: the server hangs up, some way or other
	} {
		o := throwaway()
		o.TLS = config
		_, err := redlock.Dial(within(t, 2*time.Second), []string{"rediss://127.0.0.1:" + port}, o)
		require.ErrorIs(t, err, lock.ErrUnavailable)
		require.ErrorContains(t, err, name)
	}
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lockkeeper test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	writePEM(t, filepath.Join(dir, "ca.crt"), "CERTIFICATE", der)
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

func (a *authority) issue(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	writePEM(t, filepath.Join(dir, name+".crt"), "CERTIFICATE", der)
	writePEM(t, filepath.Join(dir, name+".key"), "PRIVATE KEY", private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}
