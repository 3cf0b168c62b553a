package urlparams

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/tonsurance/lockkeeper/lock"
)

// Hosts is what names the servers in a store's URL with one host or more.
type Hosts struct {
	URLs        []string // scheme://host:port of each
	Named       bool     // there are credentials, which may be empty
	Credentials string   // user:password or less, percent-encoded as it was
	Params      *Params
}

// ReadHosts reads //user:password@h1:2379,h2,h3?prefix=, which is no URL to package url where
// there are several hosts. A host without a port gets this one. Where it is none, the error says
// that want is wanted.
func ReadHosts(scheme, rest, port, want string) (Hosts, error) {
	rest, ok := strings.CutPrefix(rest, "//")
	authority, query, _ := strings.Cut(rest, "?")
	h := Hosts{}
	hosts := strings.TrimSuffix(authority, "/")
	if at := strings.LastIndex(hosts, "@"); at >= 0 {
		h.Credentials, hosts, h.Named = hosts[:at], hosts[at+1:], true
	}
	if !ok || hosts == "" || strings.ContainsAny(hosts, "/#") || strings.Contains(query, "#") {
		return Hosts{}, fmt.Errorf("%w: want %s", lock.ErrInvalid, want)
	}
	var err error
	if h.Params, err = Parse(query, ""); err != nil {
		return Hosts{}, err
	}
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse(scheme + "://" + host)
		if err != nil || u.Hostname() == "" {
			return Hosts{}, fmt.Errorf("%w: a host is empty or has a bad port", lock.ErrInvalid)
		}
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), port)
		}
		h.URLs = append(h.URLs, u.String())
	}
	return h, nil
}
