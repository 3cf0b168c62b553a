package nodeconn

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestURLsAreReadWithTheirParameters(t *testing.T) {
	u, err := ParseURL("rediss://us%40er:p%2F%3F%23%40w@Host:7000/3?dial_timeout=1s&write_timeout=2s&client_name=a%40b")
	require.NoError(t, err)
	require.Equal(t, "host:7000/3", u.Name())
	s := Options{NodeTimeout: time.Second}
	o, g := u.client(&s), u.greeter(&s)
	user, password, err := g.login(t.Context())
	require.NoError(t, err)
	require.Equal(t, "us@er", user)
	require.Equal(t, "p/?#@w", password)
	require.Equal(t, 3, g.db)
	require.Equal(t, "a@b", g.name)
	require.Empty(t, o.Username+o.Password+o.ClientName, "the greeter says it")
	require.Equal(t, "1s 2s", o.Dialer.Timeout.String()+" "+o.ConnWriteTimeout.String())
	require.NotNil(t, o.TLSConfig)
	require.True(t, o.ForceSingleClient)
	require.Empty(t, o.TLSConfig.ServerName, "each server by the name that it is dialed by")

	u, err = ParseURL("rediss://h:26379?master_set=m&addr=i:1&sentinel_user=a&sentinel_password=b&client_name=c&dial_timeout=1s")
	require.NoError(t, err)
	o = u.client(&s)
	require.Equal(t, []string{"h:26379", "i:1"}, o.InitAddress)
	g = u.greeter(&s)
	user, password, err = g.sentinelLogin(t.Context())
	require.NoError(t, err)
	require.Equal(t, "m a b c 1s", strings.Join([]string{
		o.Sentinel.MasterSet, user, password, g.name, o.Sentinel.Dialer.Timeout.String(),
	}, " "))
	require.True(t, forSentinel(&o.Sentinel.Dialer))
	require.False(t, forSentinel(&o.Dialer))
	require.Positive(t, o.Sentinel.TopologyRefreshInterval)
	require.Positive(t, o.ClusterOption.MaxMovedRedirections)
	require.NotNil(t, o.Sentinel.TLSConfig)
	require.False(t, o.ForceSingleClient)
}

func TestSentinelsAndServersAreNamedWithTLSOnOneSideOnly(t *testing.T) {
	s := Options{NodeTimeout: time.Second, TLS: &tls.Config{ServerName: "own"}}
	for url, want := range map[string][2]bool{ // servers, Sentinels
		"redis://h:1?master_set=m":                     {false, false},
		"rediss://h:1?master_set=m":                    {true, true},
		"redis://h:1?master_set=m&sentinel_tls=true":   {false, true},
		"rediss://h:1?master_set=m&sentinel_tls=false": {true, false},
		"rediss://h:1?master_set=m&sentinel_tls=true":  {true, true},
	} {
		u, err := ParseURL(url)
		require.NoError(t, err, url)
		o := u.client(&s)
		require.Equal(t, want, [2]bool{o.TLSConfig != nil, o.Sentinel.TLSConfig != nil}, url)
		for _, c := range []*tls.Config{o.TLSConfig, o.Sentinel.TLSConfig} {
			if c != nil {
				require.Equal(t, "own", c.ServerName)
				require.GreaterOrEqual(t, c.MinVersion, uint16(tls.VersionTLS12))
			}
		}
	}
}
