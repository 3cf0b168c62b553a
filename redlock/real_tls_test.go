package redlock_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// tlsServers are servers that want a client certificate of ca, and their TLS ports.
func tlsServers(t *testing.T, n int, ca *authority, c certificate) (servers []*redistest.Server, ports []string) {
	t.Helper()
	ca.issue(t, c)
	for range n {
		port := strconv.Itoa(redistest.FreePort(t))
		servers = append(servers, redistest.Start(t, tlsArgs(ca, c, port)...))
		ports = append(ports, port)
	}
	return servers, ports
}

func tlsArgs(ca *authority, c certificate, port string) []string {
	return []string{
		"--tls-port", port, "--tls-cert-file", filepath.Join(ca.dir, c.name+".crt"), "--tls-key-file", filepath.Join(ca.dir, c.name+".key"),
		"--tls-ca-cert-file", filepath.Join(ca.dir, "ca.crt"), "--tls-auth-clients", "yes",
	}
}

func withTLS(ca *authority, client ...tls.Certificate) *redlock.Options {
	o := throwaway()
	o.TLS = &tls.Config{RootCAs: ca.pool, Certificates: client}
	return o
}

func TestRealTLSWithAPrivateCAAndClientCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	servers, ports := tlsServers(t, 3, ca, certificate{name: "server"})
	o := withTLS(ca, ca.issue(t, certificate{name: "client"}))
	var urls []string
	for _, port := range ports {
		urls = append(urls, "rediss://127.0.0.1:"+port)
	}
	held := acquire(t, dialURLs(t, urls, o), "k", longTTL)
	require.NoError(t, extend(t, held, longTTL))
	wait := waiting(t, servers, dialURLs(t, urls, o), "k")
	release(t, held)
	release(t, wait())
}

func TestRealTLSMistakesAreNamedByNodeAndCause(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	servers, ports := tlsServers(t, 1, ca, certificate{name: "server"})
	client := ca.issue(t, certificate{name: "client"})
	_, expired := tlsServers(t, 1, ca, certificate{name: "expired", until: -time.Minute})
	hungUp := "the server hung up before it said anything"
	for name, c := range map[string]struct {
		url  string
		o    *redlock.Options
		says []string // one of them
	}{
		"WrongCA": {"rediss://127.0.0.1:" + ports[0], withTLS(stranger, client), []string{"x509: certificate signed by unknown authority"}},
		"NoCA":    {"rediss://127.0.0.1:" + ports[0], throwaway(), []string{"x509: certificate signed by unknown authority"}},
		"WrongName": {"rediss://localhost:" + ports[0], withTLS(ca, client),
			[]string{"x509: certificate is not valid for any names, but wanted to match localhost"}},
		"Expired": {"rediss://127.0.0.1:" + expired[0], withTLS(ca, client), []string{"x509: certificate has expired"}},
		// The server's alert can be lost with the connection.
		"NoClientCertificate": {"rediss://127.0.0.1:" + ports[0], withTLS(ca),
			[]string{"tls: certificate required", hungUp + ", it may want another client certificate (Options.TLS)"}},
		"ClientCertificateOfAnotherCA": {"rediss://127.0.0.1:" + ports[0], withTLS(ca, stranger.issue(t, certificate{name: "client"})),
			[]string{"tls: unknown certificate authority", hungUp + ", it may want another client certificate (Options.TLS)"}},
		"ExpiredClientCertificate": {"rediss://127.0.0.1:" + ports[0], withTLS(ca, ca.issue(t, certificate{name: "late", until: -time.Minute})),
			[]string{"tls: expired certificate", hungUp + ", it may want another client certificate (Options.TLS)"}},
		"PlainClientOnATLSPort": {"redis://127.0.0.1:" + ports[0], throwaway(), []string{hungUp + ", it may want TLS (rediss://)"}},
		"TLSClientOnAPlainPort": {"rediss://" + servers[0].Addr(), withTLS(ca, client), []string{"it may not speak TLS on this port (redis://)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.o.NodeTimeout = 500 * time.Millisecond
			scheme, address, _ := strings.Cut(c.url, "://")
			for _, ctx := range []bool{true, false} { // again until the end, or once
				dialing := t.Context()
				if ctx {
					dialing = within(t, 2*time.Second)
				}
				start := time.Now()
				l, err := redlock.Dial(dialing, []string{scheme + "://keeper:topsecret@" + address}, c.o)
				require.Nil(t, l)
				require.ErrorIs(t, err, lock.ErrUnavailable)
				require.ErrorContains(t, err, "node "+address+": ")
				require.NotContains(t, err.Error(), "topsecret")
				require.True(t, slices.ContainsFunc(c.says, func(text string) bool { return strings.Contains(err.Error(), text) }), "%v", err)
				require.Less(t, time.Since(start), patience)
			}
		})
	}
}

func TestRealTLSVerifiesEachServerOfAClusterByTheNameThatItIsDialedBy(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, client := certificate{name: "server"}, ca.issue(t, certificate{name: "client"})
	ca.issue(t, server)
	port := strconv.Itoa(redistest.FreeBusPort(t))
	redistest.StartClusterOfOne(t, append(tlsArgs(ca, server, port), "--tls-cluster", "yes", "--cluster-announce-ip", "127.0.0.1")...)

	// The first one is down; its name is not in the second one's certificate.
	url := fmt.Sprintf("rediss://localhost:%d?cluster=true&addr=127.0.0.1:%s", redistest.FreePort(t), port)
	release(t, acquire(t, dialURLs(t, []string{url}, withTLS(ca, client)), "k", longTTL))

	o := withTLS(ca, client)
	o.TLS.ServerName = "keeper.example" // the user's own name is for all
	_, err := redlock.Dial(within(t, time.Second), []string{"rediss://127.0.0.1:" + port + "?cluster=true"}, o)
	require.ErrorContains(t, err, "wanted to match keeper.example")
}

// authority is a private CA, whose files are in dir.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// certificate is for 127.0.0.1.
type certificate struct {
	name  string        // of its files
	until time.Duration // from now on; an hour if 0
}

func newAuthority(t *testing.T) *authority {
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
	a := &authority{dir: t.TempDir(), cert: cert, key: key, pool: x509.NewCertPool()}
	a.write(t, "ca.crt", "CERTIFICATE", der)
	a.pool.AddCert(cert)
	return a
}

func (a *authority) issue(t *testing.T, c certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	until := time.Hour
	if c.until != 0 {
		until = c.until
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: c.name}, NotAfter: time.Now().Add(until),
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	a.write(t, c.name+".crt", "CERTIFICATE", der)
	a.write(t, c.name+".key", "PRIVATE KEY", private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}
