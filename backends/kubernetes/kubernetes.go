package kubernetes

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/lock"
)

// Options for [New] and [InCluster]. nil means the defaults.
type Options struct {
	// Namespace has the Leases. 1 to 63 characters, as a namespace's name is. [InCluster]
	// defaults to the pod's own; [New] needs it.
	Namespace string

	// ClockSkew is by how much the clocks of the cluster's API servers can differ at most,
	// steps of one clock included. If it is given, a hold is over, too, when the API server
	// says that the Lease has stood for its ttl, ClockSkew and two seconds more: then a
	// program that runs once can take over after a crash. If the clocks differ by more, there
	// can be two holders. 1ms to 1h. Defaults to 0: not known, and the servers' clocks are not
	// looked at.
	ClockSkew time.Duration

	// Record are the engine's. Names is ignored.
	Record record.Options
}

// Locker locks by the Leases of one namespace. It is safe for concurrent use.
type Locker struct {
	*record.Locker
	store *store
	idle  func() // closes the connections of a client that it made
}

// New makes a Locker over a client, which authenticates its requests, and the API server's
// URL, such as https://10.0.0.1:6443. Both stay the caller's. With client-go they come of its
// configuration:
//
//	client, err := rest.HTTPClientFor(config)
//	...
//	l, err := kubernetes.New(client, config.Host, &kubernetes.Options{Namespace: "oracle"})
//
// A client whose Timeout is not 0 makes a watch anew that often. Its CheckRedirect is not used:
// a redirect is followed only where it repeats the request as it is (307, 308). New asks nothing
// of the server.
func New(client *http.Client, host string, o *Options) (*Locker, error) {
	if client == nil {
		return nil, fmt.Errorf("kubernetes: %w: the client is nil", lock.ErrInvalid)
	}
	return newLocker(&api{http: client, host: host}, o)
}

var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func newLocker(a *api, o *Options) (*Locker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	base, err := baseURL(a.host)
	switch {
	case err != nil:
		return nil, fmt.Errorf("kubernetes: %w", err)
	case !namespaceName.MatchString(opts.Namespace):
		return nil, fmt.Errorf("kubernetes: %w: Options.Namespace is %.80q, want a namespace's name", lock.ErrInvalid, opts.Namespace)
	case opts.ClockSkew != 0 && (opts.ClockSkew < time.Millisecond || opts.ClockSkew > time.Hour):
		return nil, fmt.Errorf("kubernetes: %w: Options.ClockSkew is %v, want 0 or %v to %v", lock.ErrInvalid, opts.ClockSkew, time.Millisecond, time.Hour)
	}
	a.host = base
	client := *a.http // the caller's stays as it is
	client.CheckRedirect = sameMethod
	a.http = &client
	opts.Record.Names = names
	s := newStore(a, opts.Namespace, opts.ClockSkew)
	l, err := record.New(s, &opts.Record)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return &Locker{l, s, func() {}}, nil
}

// Close ends what is under way, as record.Locker's Close says.
func (l *Locker) Close() error {
	err := l.Locker.Close()
	l.idle()
	return err
}

// baseURL is host as client-go takes it: with or without a scheme, and maybe a path.
func baseURL(host string) (string, error) {
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	u, err := url.Parse(host)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%w: the API server's URL can't be used, want one such as https://10.0.0.1:6443", lock.ErrInvalid)
	}
	if u.User != nil {
		return "", fmt.Errorf("%w: the API server's URL has a user in it, want a client that authenticates its requests", lock.ErrInvalid)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

// InCluster makes a Locker for a pod, of what Kubernetes gives to each: the API server's
// address in KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, and the service account's
// token, namespace and authority below /var/run/secrets/kubernetes.io/serviceaccount. The
// files are read again when they are needed, since they are rotated. It asks nothing of the
// server. Its error matches [lock.ErrInvalid] outside a pod.
func InCluster(o *Options) (*Locker, error) { return inCluster(serviceAccount, o) }

func inCluster(files string, o *Options) (*Locker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	p, err := podOf(files)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	opts.Namespace = cmp.Or(opts.Namespace, p.namespace)
	return dial(p.server, &opts)
}

// dial makes a Locker with connections of its own.
func dial(s server, o *Options) (*Locker, error) {
	a, t, err := s.open()
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	l, err := newLocker(a, o)
	if err != nil {
		return nil, err
	}
	l.idle = t.CloseIdleConnections
	return l, nil
}
