// Package hostcheck recognizes requests that another site's page may have sent by the name that
// they ask for.
package hostcheck

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Sent reports whether no other site's page can have sent r. Probes of balancers that speak
// HTTP/1.0 name no host; every browser does.
func Sent(r *http.Request, names []string) bool {
	return Ours(r.Host, names) || r.Host == "" && !r.ProtoAtLeast(1, 1)
}

// Ours reports whether no other site's page can have sent a request with this Host: it is
// localhost, one of names, or an address. A site can make its own name lead to this
// machine (DNS rebinding), but what its page asks for stays that name, and no address.
func Ours(host string, names []string) bool {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		host = name
	}
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost") ||
		slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(host, name) })
}
