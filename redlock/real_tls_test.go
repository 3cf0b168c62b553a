package redlock_test

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// tlsServers are servers that want a client certificate of ca, and their TLS ports.
func tlsServers(t *testing.T, n int, ca *storetest.Authority, c storetest.Certificate) (servers []*redistest.Server, ports []string) {
	t.Helper()
	ca.Issue(t, c)
	for range n {
		port := strconv.Itoa(redistest.FreePort(t))
		servers = append(servers, redistest.Start(t, tlsArgs(ca, c, port)...))
		ports = append(ports, port)
	}
	return servers, ports
}

func tlsArgs(ca *storetest.Authority, c storetest.Certificate, port string) []string {
	return []string{
		"--tls-port", port, "--tls-cert-file", filepath.Join(ca.Dir, c.Name+".crt"), "--tls-key-file", filepath.Join(ca.Dir, c.Name+".key"),
		"--tls-ca-cert-file", filepath.Join(ca.Dir, "ca.crt"), "--tls-auth-clients", "yes",
	}
}

func withTLS(ca *storetest.Authority, client ...tls.Certificate) *redlock.Options {
	o := throwaway()
	o.TLS = &tls.Config{RootCAs: ca.Pool, Certificates: client}
	return o
}

func TestRealTLSWithAPrivateCAAndClientCertificates(t *testing.T) {
	t.Parallel()
	ca := storetest.NewAuthority(t)
	servers, ports := tlsServers(t, 3, ca, storetest.Certificate{Name: "server"})
	o := withTLS(ca, ca.Issue(t, storetest.Certificate{Name: "client"}))
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
	ca, stranger := storetest.NewAuthority(t), storetest.NewAuthority(t)
	servers, ports := tlsServers(t, 1, ca, storetest.Certificate{Name: "server"})
	client := ca.Issue(t, storetest.Certificate{Name: "client"})
	_, expired := tlsServers(t, 1, ca, storetest.Certificate{Name: "expired", Until: -time.Minute})
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
		"ClientCertificateOfAnotherCA": {"rediss://127.0.0.1:" + ports[0], withTLS(ca, stranger.Issue(t, storetest.Certificate{Name: "client"})),
			[]string{"tls: unknown certificate authority", hungUp + ", it may want another client certificate (Options.TLS)"}},
		"ExpiredClientCertificate": {"rediss://127.0.0.1:" + ports[0], withTLS(ca, ca.Issue(t, storetest.Certificate{Name: "late", Until: -time.Minute})),
			[]string{"tls: expired certificate", hungUp + ", it may want another client certificate (Options.TLS)"}},
		"PlainClientOnATLSPort": {"redis://127.0.0.1:" + ports[0], throwaway(), []string{hungUp + ", it may want TLS (rediss://)"}},
		"TLSClientOnAPlainPort": {"rediss://" + servers[0].Addr(), withTLS(ca, client), []string{"it may not speak TLS on this port (redis://)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scheme, address, _ := strings.Cut(c.url, "://")
			for _, ctx := range []bool{true, false} { // again until the end, or once
				c.o.NodeTimeout = 500 * time.Millisecond
				for named := false; !named; c.o.NodeTimeout *= 2 {
					dialing := t.Context()
					if ctx {
						dialing = within(t, 4*c.o.NodeTimeout)
					}
					start := time.Now()
					l, err := redlock.Dial(dialing, []string{scheme + "://keeper:topsecret@" + address}, c.o)
					require.Nil(t, l)
					require.ErrorIs(t, err, lock.ErrUnavailable)
					require.ErrorContains(t, err, "node "+address+": ")
					require.NotContains(t, err.Error(), "topsecret")
					require.Less(t, time.Since(start), testTimeout)
					named = slices.ContainsFunc(c.says, func(text string) bool { return strings.Contains(err.Error(), text) })
					// A server that a busy machine does not let answer in time gets more of it.
					require.True(t, named || c.o.NodeTimeout < 4*time.Second, "%v", err)
				}
			}
		})
	}
}

func TestRealTLSVerifiesEachServerOfAClusterByTheNameThatItIsDialedBy(t *testing.T) {
	t.Parallel()
	ca := storetest.NewAuthority(t)
	server, client := storetest.Certificate{Name: "server"}, ca.Issue(t, storetest.Certificate{Name: "client"})
	ca.Issue(t, server)
	port := strconv.Itoa(redistest.FreeBusPort(t))
	redistest.StartClusterOfOne(t, append(tlsArgs(ca, server, port), "--tls-cluster", "yes", "--cluster-announce-ip", "127.0.0.1")...)

	// The first one is down; its name is not in the second one's certificate.
	url := fmt.Sprintf("rediss://localhost:%d?cluster=true&addr=127.0.0.1:%s", redistest.FreePort(t), port)
	release(t, acquire(t, dialURLs(t, []string{url}, withTLS(ca, client)), "k", longTTL))

	o := withTLS(ca, client)
	o.TLS.ServerName = "keeper.example" // the user's own name is for all
	const says = "wanted to match keeper.example"
	require.ErrorContains(t, dialError(t, []string{"rediss://127.0.0.1:" + port + "?cluster=true"}, o, says), says)
}
