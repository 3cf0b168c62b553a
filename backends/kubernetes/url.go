package kubernetes

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/tonsurance/lockkeeper/backends/record"
	"github.com/tonsurance/lockkeeper/internal/registry"
	"github.com/tonsurance/lockkeeper/internal/urlparams"
	"github.com/tonsurance/lockkeeper/lock"
)

func init() {
	registry.Register("kubernetes", func(_ context.Context, rest string) (lock.Locker, error) {
		return openURL(serviceAccount, rest)
	})
}

// openURL takes ///namespace in a pod, and //host:port/namespace elsewhere.
func openURL(files, rest string) (lock.Locker, error) {
	u, err := url.Parse("kubernetes:" + rest)
	if err != nil {
		return nil, urlparams.ErrNoURL
	}
	namespace := strings.Trim(u.Path, "/")
	if !strings.HasPrefix(rest, "//") || u.User != nil || strings.Contains(namespace, "/") {
		return nil, fmt.Errorf("%w: want kubernetes:///namespace in a pod, or kubernetes://host:port/namespace, and parameters; no user, but token-file or tls-cert", lock.ErrInvalid)
	}
	p, err := urlparams.Parse(u.RawQuery, u.Fragment)
	if err != nil {
		return nil, err
	}
	o := &Options{Namespace: namespace, ClockSkew: p.Duration("clock-skew"), Record: record.Options{
		Owner: p.Text("owner"), HeadStart: p.Duration("head-start"), Grace: p.Duration("grace"),
	}}
	s := server{host: "https://" + u.Host, tokenFile: p.Text("token-file"), ca: p.Text("tls-ca"), cert: p.Text("tls-cert"), key: p.Text("tls-key")}
	plain := p.Flag("plain")
	if err := p.Done(); err != nil {
		return nil, err
	}
	switch named := s.tokenFile != "" || s.ca != "" || s.cert != "" || s.key != ""; {
	case u.Host == "" && (named || plain):
		return nil, fmt.Errorf("%w: token-file, plain or files for TLS without a host: in a pod they are known", lock.ErrInvalid)
	case plain && named:
		return nil, fmt.Errorf("%w: token-file or files for TLS with plain=true, which is for kubectl proxy, want one of them", lock.ErrInvalid)
	case u.Host == "":
		return opened(inCluster(files, o))
	case plain:
		s.host = "http://" + u.Host
	}
	if u.Hostname() == "" {
		return nil, urlparams.ErrNoURL
	}
	return opened(dial(s, o))
}

// opened is no Locker that is a nil pointer.
func opened(l *Locker, err error) (lock.Locker, error) {
	if err != nil {
		return nil, err
	}
	return l, nil
}
