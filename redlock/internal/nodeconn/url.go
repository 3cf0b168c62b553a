package nodeconn

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// URL is a node's URL that ParseURL has checked.
type URL struct {
	*url.URL
	query   url.Values
	option  rueidis.ClientOption // as rueidis reads it
	cluster bool
}

// params are what may stand behind the ? of a node's URL.
var params = []string{
	"addr", "client_cache", "client_name", "cluster", "db", "dial_timeout", "master_set", "max_retries", "password_file", "protocol",
	"sentinel_password", "sentinel_password_file", "sentinel_tls", "sentinel_user", "skip_verify", "write_timeout",
}

const wantURL = "want redis://[user:password@]host[:port][/db], rediss://... or unix:///path/to.sock"

// ParseURL reads a node's URL. Its errors quote nothing of it but a wrong scheme that
// stands before a ://: where a password was not encoded, any other part can be a piece of it.
func ParseURL(raw string) (*URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL, " + wantURL)
	}
	scheme, rest, slashes := strings.Cut(raw, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 && strings.Contains(rest[i:], "@") {
		return nil, errors.New("an @ after the address, want / ? # @ percent-encoded in user, password and parameters")
	}
	unix := u.Scheme == "unix"
	switch {
	case !unix && !slices.Contains([]string{"redis", "rediss", "valkey", "valkeys"}, u.Scheme):
		if slashes && strings.EqualFold(scheme, u.Scheme) {
			return nil, fmt.Errorf("the scheme is %q, %s", scheme, wantURL)
		}
		return nil, errors.New("no scheme, " + wantURL)
	case unix && (u.Path == "" || u.Host != ""), !unix && u.Hostname() == "":
		return nil, errors.New("no address, " + wantURL)
	case strings.Contains(raw, "#"):
		return nil, errors.New("a fragment (#), " + wantURL)
	}
	n := &URL{URL: u}
	if n.query, err = url.ParseQuery(u.RawQuery); err != nil {
		return nil, errors.New("the parameters are not percent-encoded rightly")
	}
	for name := range n.query {
		if !slices.Contains(params, name) {
			return nil, fmt.Errorf("an unknown parameter, want some of %s", strings.Join(params, ", "))
		}
	}
	for _, hostport := range append([]string{u.Host}, n.query["addr"]...) {
		if !portInRange(hostport) {
			return nil, errors.New("the port is not a number from 1 to 65535")
		}
	}
	for _, addr := range n.query["addr"] {
		// Without a port it would be taken for another one of the first host.
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			return nil, errors.New("addr is not host:port")
		}
	}
	for _, name := range []string{"dial_timeout", "write_timeout"} {
		// Without a limit, a node that hangs would keep its requests for ever.
		if d, err := time.ParseDuration(n.query.Get(name)); n.query.Has(name) && (err != nil || d <= 0) {
			return nil, fmt.Errorf("%s is not a duration above 0, such as 2s", name)
		}
	}
	switch n.query.Get("cluster") {
	case "true":
		n.cluster = true
	case "", "false":
	default:
		return nil, errors.New("cluster is neither true nor false")
	}
	if n.option, err = rueidis.ParseURL(raw); err != nil || n.option.SelectDB < 0 {
		return nil, errors.New("the database is not a number from 0, or skip_verify not true or false, " + wantURL)
	}
	if err := n.checkSecrets(); err != nil {
		return nil, err
	}
	if !n.cluster && !n.sentinel() && len(n.option.InitAddress) > 1 {
		return nil, errors.New("more than one address (addr=), want cluster=true or master_set=name with them")
	}
	return n, nil
}

// portInRange lets hostport be without a port, too.
func portInRange(hostport string) bool {
	_, port, err := net.SplitHostPort(hostport)
	if err != nil || port == "" {
		return true
	}
	n, err := strconv.Atoi(port)
	return err == nil && n >= 1 && n <= 65535
}

func (u *URL) sentinel() bool { return u.option.Sentinel.MasterSet != "" }

// Servers names what the URL leads to: two URLs with one of these in common lead to
// the same server, whatever else differs.
func (u *URL) Servers() []string {
	if u.Scheme == "unix" {
		return []string{u.Name()}
	}
	names := make([]string, len(u.option.InitAddress))
	for i, addr := range u.option.InitAddress {
		if names[i] = strings.ToLower(addr); u.sentinel() {
			names[i] = u.option.Sentinel.MasterSet + "@" + names[i] // Sentinels know many
		}
	}
	return names
}

// Name is the node's address without credentials.
func (u *URL) Name() string {
	name := u.option.InitAddress[0]
	if u.Scheme == "unix" {
		return "unix:" + name
	}
	name = strings.ToLower(name)
	if u.option.SelectDB != 0 {
		name = fmt.Sprintf("%s/%d", name, u.option.SelectDB)
	}
	if u.sentinel() {
		name = u.option.Sentinel.MasterSet + "@" + name
	}
	return name
}

// client is how to connect to the node.
func (u *URL) client(o *Options) rueidis.ClientOption {
	option := u.option
	option.ForceSingleClient = !u.cluster && !u.sentinel()
	if option.TLSConfig != nil {
		option.TLSConfig = mergeTLS(o.TLS, option.TLSConfig)
	}
	option.Dialer.Timeout = u.connectLimit()
	option.ConnWriteTimeout = u.silence(o)
	// The greeter does that.
	option.Username, option.Password, option.ClientName, option.SelectDB = "", "", "", 0
	if u.sentinel() {
		option.Sentinel.Username, option.Sentinel.Password = "", ""
		option.Sentinel.Dialer = option.Dialer
		option.Sentinel.Dialer.FallbackDelay = sentinelMark
		option.Sentinel.TLSConfig = option.TLSConfig
		switch u.query.Get("sentinel_tls") {
		case "true":
			option.Sentinel.TLSConfig = mergeTLS(o.TLS, &tls.Config{MinVersion: tls.VersionTLS12})
		case "false":
			option.Sentinel.TLSConfig = nil
		}
		// A demoted primary keeps its connections: without a look from time to time, one
		// lost message would bind the node to it for good.
		option.Sentinel.TopologyRefreshInterval = sentinelRefresh
	}
	// Servers that disagree on which has a slot would send a request to and fro without end.
	option.ClusterOption.MaxMovedRedirections = clusterRedirects
	option.DisableCache = true // nothing here is read twice
	option.DisableRetry = true // a request is sent once: the algorithm repeats, with a new value
	option.PipelineMultiplex = -1
	option.ClientSetInfo = rueidis.DisableClientSetInfo
	option.ReadBufferEachConn, option.WriteBufferEachConn = 16<<10, 16<<10
	return option
}

// greeter is how to make one connection to the node.
func (u *URL) greeter(o *Options) *greeter {
	network := "tcp"
	if u.Scheme == "unix" {
		network = "unix"
	}
	dial := o.Open
	if dial == nil {
		dial = open(network)
	}
	first := full
	if u.option.AlwaysRESP2 { // protocol=2
		first = older
	}
	return &greeter{
		first:         first,
		open:          dial,
		name:          cmp.Or(u.option.ClientName, "lockkeeper"),
		db:            u.option.SelectDB,
		login:         u.login(o),
		sentinelLogin: u.sentinelLogin(),
		getTLS:        o.GetTLS,
		silence:       u.silence(o),
	}
}

// silence is after what time without an answer a node is cut off: its requests end. A
// little before the node timeout, so that the next attempt finds a new connection: bytes
// that a network swallowed never come.
func (u *URL) silence(o *Options) time.Duration {
	return cmp.Or(u.option.ConnWriteTimeout, o.NodeTimeout*9/10)
}

func (u *URL) connectLimit() time.Duration { return cmp.Or(u.option.Dialer.Timeout, ConnectLimit) }

// connectWait is how long a request waits for a connection. It ends before the caller gives
// up, which would learn no reason then.
func (u *URL) connectWait(o *Options) time.Duration { return o.NodeTimeout * 9 / 10 }

// sentinelRefresh is how often the Sentinels are asked who the primary is, besides what
// they report.
const sentinelRefresh = 5 * time.Second

// clusterRedirects is how often a Cluster may send a request on.
const clusterRedirects = 8

// mergeTLS leaves the ServerName empty unless the user gave one: each server is then
// verified by the name that it is dialed by.
func mergeTLS(own, fromURL *tls.Config) *tls.Config {
	merged := own.Clone()
	if own == nil {
		merged = &tls.Config{}
	}
	merged.InsecureSkipVerify = merged.InsecureSkipVerify || fromURL.InsecureSkipVerify
	merged.MinVersion = max(merged.MinVersion, fromURL.MinVersion)
	return merged
}
