//go:build unix

package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
)

// certificates makes ca.crt, and a pair of files each for a server and a client.
func certificates(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, kind string, der []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		return key
	}
	caKey := newKey()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	require.NoError(t, err)
	write("ca.crt", "CERTIFICATE", der)
	for i, name := range []string{"server", "client"} {
		key := newKey()
		cert := &x509.Certificate{SerialNumber: big.NewInt(int64(i) + 2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
		der, err := x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, caKey)
		require.NoError(t, err)
		write(name+".crt", "CERTIFICATE", der)
		der, err = x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		write(name+".key", "PRIVATE KEY", der)
	}
	return dir
}

func TestTLSFilesOfTheEnvironmentAreUsed(t *testing.T) {
	dir := certificates(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	port := strconv.Itoa(redistest.FreePort(t))
	redistest.Start(t, append([]string{"--tls-port", port, "--tls-cert-file", file("server.crt"), "--tls-key-file", file("server.key"),
		"--tls-ca-cert-file", file("ca.crt"), "--tls-auth-clients", "yes", "--requirepass", "secret"}, durable...)...)
	addr := "127.0.0.1:" + port
	password := "REDISCLI_AUTH=secret"
	tls := []string{tlsCA + "=" + file("ca.crt"), tlsCert + "=" + file("client.crt"), tlsKey + "=" + file("client.key"), password}
	for _, store := range []string{"REDIS_NODES=" + addr, "REDIS_NODES=rediss://" + addr, "LOCKKEEPER_URL=redlocks://:secret@" + addr, "LOCKKEEPER_URL=redlocks://:secret@" + addr + "?quorum=1"} {
		env := append([]string{store}, tls...)
		out, code := on(t, env, "health")
		require.Zero(t, code, out)
		out, code = on(t, env, "show", "k")
		require.Zero(t, code, out)
		out, code = on(t, env, "run", "k", "-q", "--", "env")
		require.Zero(t, code, out)
		require.NotContains(t, out, dir, "what it takes to reach the store is not for the command")
	}
	for _, tc := range []struct {
		env  []string
		want string
	}{
		{append([]string{"REDIS_NODES=redis://" + addr}, tls...), "want rediss://"},
		{append([]string{"LOCKKEEPER_URL=redlock://" + addr}, tls...), "want redlocks://"},
		{[]string{"REDIS_NODES=" + addr, tlsCA + "=" + file("none")}, "none: no such file"},
		{[]string{"REDIS_NODES=" + addr, tlsCA + "=" + file("client.key")}, "no certificate in it"},
		{[]string{"REDIS_NODES=" + addr, tlsCert + "=" + file("client.crt")}, "want files for both or neither"},
		{[]string{"REDIS_NODES=" + addr, tlsCert + "=" + file("client.crt"), tlsKey + "=" + file("server.key")}, "want a pair in PEM"},
	} {
		out, code := on(t, tc.env, "health")
		require.Equal(t, exitUnchecked, code, "%v: %s", tc.env, out)
		require.Contains(t, flat(out), tc.want)
	}
	out, code := on(t, append([]string{"REDIS_NODES=redis://127.0.0.1:1?master_set=m&sentinel_tls=true"}, tls...), "health")
	require.Equal(t, exitNoQuorum, code, "the files are for its Sentinels: %s", out)
	out, code = on(t, []string{"REDIS_NODES=rediss://" + addr, password}, "health")
	require.Equal(t, exitNoQuorum, code, out)
	require.Contains(t, flat(out), "certificate signed by unknown authority")
}

func TestAPasswordFileIsReadForEachConnectionAndNotForTheCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("topsecret\n")
	s := redistest.Start(t, append([]string{"--requirepass", "topsecret"}, durable...)...)
	s.Do("ACL", "SETUSER", "keeper", "on", ">topsecret", "allcommands", "allkeys", "allchannels")
	addr, env := s.Addr(), passwordFile+"="+file
	for _, store := range []string{"REDIS_NODES=" + addr, "REDIS_NODES=redis://" + addr, "LOCKKEEPER_URL=redlock://" + addr, "LOCKKEEPER_URL=redlock://keeper@" + addr + "?quorum=1", "REDIS_NODES=redis://" + addr + "?password_file=" + file} {
		for _, user := range []string{"", "keeper"} {
			out, code := on(t, []string{store, env, "REDIS_USER=" + user}, "health")
			require.Zero(t, code, "%s: %s", store, out)
		}
		out, code := on(t, []string{store, env}, "run", "k", "-q", "--", "env")
		require.Zero(t, code, out)
		require.NotContains(t, out, file, "what it takes to reach the store is not for the command")
	}
	out, code := on(t, []string{"REDIS_NODES=redis://:topsecret@" + addr, passwordFile + "=/no/such/file"}, "health")
	require.Zero(t, code, "a password in the URL stands: %s", out)
	out, code = on(t, []string{"REDIS_NODES=" + addr, env, "REDISCLI_AUTH=topsecret"}, "health")
	require.Equal(t, exitUnchecked, code)
	require.Contains(t, flat(out), "want one of them")
	out, code = on(t, []string{"REDIS_NODES=" + addr, passwordFile + "=/no/such/file"}, "health")
	require.Equal(t, exitUnchecked, code)
	require.Contains(t, flat(out), "/no/such/file: no such file")
	write("wrong-secret")
	out, code = on(t, []string{"REDIS_NODES=" + addr, env}, "health")
	require.Equal(t, exitNoQuorum, code)
	require.Contains(t, flat(out), "refuses the user or the password")
	require.NotContains(t, out, "wrong-secret")
}
