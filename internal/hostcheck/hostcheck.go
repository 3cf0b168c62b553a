// Package hostcheck recognizes requests that another site's page may have sent by the name that
// they ask for.
package hostcheck

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

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
