package kubernetes

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/internal/tlsfile"
	"github.com/tonsurance/lockkeeper/lock"
)

// serviceAccount is where a pod has its files.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// server is an API server, and what it takes to reach it.
type server struct {
	host          string
	tokenFile     string // "": no token
	ca, cert, key string // PEM files; "": the system's authorities, no client certificate
}

// pod is what Kubernetes gives to a pod.
type pod struct {
	server
	namespace string // "": its file is missing
}

func podOf(files string) (pod, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return pod{}, fmt.Errorf("%w: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set, want to run in a pod, or an API server that is named", lock.ErrInvalid)
	}
	p := pod{server: server{
		host:      "https://" + net.JoinHostPort(host, port),
		tokenFile: filepath.Join(files, "token"),
		ca:        filepath.Join(files, "ca.crt"),
	}}
	if name, err := os.ReadFile(filepath.Join(files, "namespace")); err == nil {
		p.namespace = strings.TrimSpace(string(name))
	}
	return p, nil
}

// Times of a connection.
const (
	dialTimeout = 5 * time.Second
	idleTimeout = 90 * time.Second
)

// open makes a client of it. The files are tried at once, and read again for each request
// (the token) and each connection (the certificates).
func (s server) open() (*api, *http.Transport, error) {
	a := &api{host: s.host}
	if s.tokenFile != "" {
		a.token = func() (string, error) { return readToken(s.tokenFile) }
		if _, err := a.token(); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", lock.ErrInvalid, err)
		}
	}
	source, err := tlsfile.Source(s.ca, s.cert, s.key)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", lock.ErrInvalid, err)
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3, // of a watch whose server is gone
	}}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext,
		TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: idleTimeout, MaxIdleConnsPerHost: 16,
		// HTTP/1 alone: a request that is given up takes its connection with it, and the
		// next one goes to a server that answers. HTTP/2 has all of them wait on one.
		Protocols: new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if source != nil {
		if t.TLSClientConfig, err = source(context.Background()); err != nil { // through a proxy
			return nil, nil, fmt.Errorf("%w: %w", lock.ErrInvalid, err)
		}
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			cfg, err := source(ctx)
			if err != nil {
				return nil, err
			}
			d := tls.Dialer{NetDialer: dialer, Config: cfg}
			return d.DialContext(ctx, network, addr)
		}
	}
	a.http = &http.Client{Transport: t}
	return a, t, nil
}

func readToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("the service account's token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("the service account's token: %s has no token in it", path) // which is not quoted
	}
	return token, nil
}
