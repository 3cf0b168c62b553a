package urlparams

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// files are the parameters of stores' URLs that name a file.
var files = map[string]bool{
	"tls-ca": true, "tls-cert": true, "tls-key": true, "password-file": true, "token-file": true, "creds": true, "nkey": true, "socket": true,
	"password_file": true, "sentinel_password_file": true, // of a Redis node
	"passfile": true, "servicefile": true, "sslrootcert": true, "sslcert": true, "sslkey": true, // Postgres' own
}

// variable is $NAME, ${NAME}, $(NAME) as Kubernetes has it, and $(command).
var variable = regexp.MustCompile(`\$(?:[A-Za-z_][A-Za-z0-9_]*|[{(][^)}]*[)}]?)`)

// Expanded refuses the path of a file: or sqlite: URL, and a parameter that names a file, with a
// variable or a leading ~ in it that a shell was to expand: systemd, cron and quotes leave it as
// it is. A directory of that name would be another store than the one that others of the fleet
// have, and nothing would say so. Percent-encoded ones are meant. Nothing else is looked at: a
// password may have a $.
func Expanded(raw string) error {
	scheme, rest, _ := strings.Cut(raw, ":")
	path, query, _ := strings.Cut(rest, "?")
	switch strings.ToLower(scheme) {
	case "file", "sqlite":
		if left := unexpanded(path); left != "" {
			return fmt.Errorf("the path has %q in it, which nothing has expanded, want it written out%s", left, encoded)
		}
	}
	return ExpandedFiles(query)
}

const encoded = ", or %24 for a $ and %7E for a ~ that are meant"

// ExpandedFiles is Expanded for the query of a URL. It quotes nothing of it, which may be a
// piece of a password.
func ExpandedFiles(query string) error {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err == nil && files[name] && unexpanded(value) != "" {
			return fmt.Errorf("%s has a variable ($NAME) or a leading ~ in it, which nothing has expanded, want the path written out%s", name, encoded)
		}
	}
	return nil
}

// ExpandedPath is Expanded for the path that the variable name has, in which nothing is encoded.
func ExpandedPath(name, path string) error {
	if unexpanded(path) == "" {
		return nil
	}
	return fmt.Errorf("%s has a variable ($NAME) or a leading ~ in it, which nothing has expanded, want the path written out", name)
}

// unexpanded is what is left in a path that a shell was to expand.
func unexpanded(path string) string {
	path = strings.TrimLeft(path, "/") // file:///~/locks
	if left := variable.FindString(path); left != "" {
		return left
	}
	if strings.HasPrefix(path, "~") {
		left, _, _ := strings.Cut(path, "/")
		return left
	}
	return ""
}
