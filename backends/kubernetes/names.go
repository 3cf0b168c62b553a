package kubernetes

import (
	"crypto/sha256"
	"encoding/base32"
	"net/url"
	"regexp"
	"strings"

	"github.com/tonsurance/lockkeeper/backends/record"
)

// names are the engine's: keys as they are, but for what printable text rarely has. The
// store makes the names of Leases out of them.
var names = record.Names{Escape: '%', Safe: func(c byte) bool { return c > ' ' && c < 0x7f }}

// made ends each name of a Lease that is not the key itself.
const made = ".lockkeeper"

const (
	maxLeaseName = 253
	maxSlug      = 100 // bytes of a key that people can still read in such a name
)

var (
	// leaseName is what Kubernetes takes as a Lease's name (a DNS subdomain of RFC 1123).
	leaseName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

	unreadable = regexp.MustCompile(`[^a-z0-9]+`)
	lower      = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
)

// isPlain reports whether a key's own name is that of its Lease, too, so that other electors
// on that Lease mean the same.
func isPlain(name string) bool {
	return len(name) <= maxLeaseName && !strings.HasSuffix(name, made) && leaseName.MatchString(name)
}

// objectName is the Lease's name. Of what can't be one it is what is readable of it, and 160
// bits of a hash; the record in it has the key itself, which the engine compares.
func objectName(name string) string {
	if isPlain(name) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	slug := strings.Trim(unreadable.ReplaceAllString(strings.ToLower(keyOf(name)), "-"), "-")
	if len(slug) > maxSlug {
		slug = strings.TrimRight(slug[:maxSlug], "-")
	}
	if slug != "" {
		slug += "."
	}
	return slug + lower.EncodeToString(sum[:20]) + made
}

// keyOf is the key of a name of the engine's; of its own records the name itself.
func keyOf(name string) string {
	if key, err := url.PathUnescape(name); err == nil {
		return key
	}
	return name
}
